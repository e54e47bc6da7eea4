"""Trials, in which each student of a comparison and its teachers are fitted and evaluated once.

A trial is a stage of the run store: a complete one is read, and an interrupted one resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from newsie.atomic import new_directory
from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy, View, view_text
from newsie.labels import IGNORE
from newsie.laboratory.arms import Arm
from newsie.laboratory.attacks import attack
from newsie.laboratory.costs import COST_ARTICLES, Cost, measure_cost
from newsie.laboratory.methods import extended
from newsie.training.batches import TrainingSet
from newsie.training.calibration import calibrate, labelled_rows
from newsie.training.config import DistillationConfig, FitConfig, Recipe, StudentConfig
from newsie.training.corpora import Corpora, DataSource, read_corpora
from newsie.training.distilling import (
    Distilled,
    Learning,
    StudentStart,
    StudentTokenizer,
    Teachers,
    fit_student,
)
from newsie.training.encoder import load_encoder
from newsie.training.experiment import CompareConfig
from newsie.training.fingerprints import Pretrained, fingerprint
from newsie.training.losses import HardLoss
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import compute_logits
from newsie.training.store import RunStore, Workspace, stage
from newsie.training.teaching import (
    FittedModel,
    FreshHeads,
    GoldLabels,
    TrainingData,
    fit_teacher,
)
from newsie.training.tokens import encode_split, open_encoder
from newsie.training.train import student_origin, teach
from newsie.version import __version__

__all__ = [
    "TRIALS",
    "Experiment",
    "Trial",
    "measure_student",
    "open_experiment",
    "same_steps",
    "student_learning",
    "student_trial",
    "teacher_trial",
    "teachers_of",
]

TRIALS = "trials"
"""The folder of the trials of all recipes, which share results that they have in common."""

CALIBRATION_ARTICLES = 2_000
"""The maximum number of validation articles of a task to fit its calibration temperature on."""


@dataclass(frozen=True)
class Trial:
    """The predictions of a model, and a record of its training.

    Attributes:
        logits: (N, C) by task, for the test articles.
        temperatures: calibration temperature by task.
        attacked: attack -> predicted labels (A,) by task for the first A test articles; may be empty.
        record: articles learnt from, steps, seconds to fit, seconds in all: plain JSON values.
    """

    logits: Mapping[str, NDArray[np.float32]]
    temperatures: Mapping[str, float]
    attacked: Mapping[str, Mapping[str, NDArray[np.int64]]]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """The inputs that all trials of a recipe share.

    Attributes:
        recipe: the recipe.
        store: the store of the results.
        corpora: the articles.
        config: sizes.
        given: True if the teachers are those of a finished run of the recipe, which learnt from all articles.
            Otherwise each seed has its own, which learn only from the seed's labelled articles.
    """

    recipe: Recipe
    store: RunStore
    corpora: Corpora
    config: CompareConfig
    given: bool = False

    @cached_property
    def test_rows(self) -> NDArray[np.int64]:
        """The rows (N,) of the labelled test articles to evaluate on, in order."""
        rows = _labelled(self.corpora.targets("test"))
        chosen = np.random.default_rng(0).permutation(rows)[: self.config.test or len(rows)]
        return np.sort(chosen)

    @cached_property
    def gold(self) -> dict[str, NDArray[np.int64]]:
        """The gold labels (N,) of the test articles by task."""
        labels = self.corpora.targets("test")
        return {task: column[self.test_rows] for task, column in labels.items()}

    @property
    def attacked_gold(self) -> dict[str, NDArray[np.int64]]:
        """The gold labels (A,) by task of the test articles that are attacked."""
        return {task: column[: self.config.attacked] for task, column in self.gold.items()}

    @cached_property
    def _targets(self) -> dict[str, NDArray[np.int64]]:
        return self.corpora.targets("train")

    @property
    def articles_in_all(self) -> int:
        """The number of training articles, labelled or not."""
        return len(next(iter(self._targets.values())))

    def articles(self, count: int) -> list[Article]:
        """Return the first `count` of the test articles to evaluate on."""
        chosen = set(self.test_rows[:count].tolist())
        return [a for i, a in enumerate(self.corpora.articles("test")) if i in chosen]

    def rows(self, seed: int, labelled: int, transfer: int) -> NDArray[np.int64]:
        """Return the rows of a seed's training articles: labelled ones, then further ones for transfer.

        A smaller number of either always gives a subset of a larger one, so that sweeps are nested.
        """
        random = np.random.default_rng([seed, 1])
        known = random.permutation(_labelled(self._targets))
        gold = known[: labelled or len(known)]
        rest = np.setdiff1d(np.arange(self.articles_in_all), gold, assume_unique=True)
        rest = random.permutation(rest)
        return np.concatenate([gold, rest[:transfer]])

    def labelled(self, seed: int, arm: Arm) -> NDArray[np.int64]:
        """Return the rows of the articles whose gold labels an arm may use."""
        return self.rows(seed, arm.labelled, 0)

    def tokenizer(self, student: StudentConfig) -> StudentTokenizer:
        """Return the tokenizer of a student."""
        origin = student_origin(self.recipe, student)
        return StudentTokenizer.choose(self.store, self.corpora, origin, student)

    def teacher_tokenizer(self, max_tokens: int) -> Encoder:
        """Return the tokenizer of the teachers for inputs of up to `max_tokens`."""
        policy = EncodingPolicy(max_tokens, self.corpora.site_suffixes)
        return open_encoder(self.recipe.teacher.encoder, policy)


@contextmanager
def open_experiment(
    recipe: Recipe,
    directory: Path,
    *,
    data: Path,
    config: CompareConfig,
    run: Path | None = None,
) -> Iterator[Experiment]:
    """Read the articles of a recipe for trials, and lock the folder of the trials within the block.

    Args:
        recipe: the recipe.
        directory: parent of the folder of the trials, which several recipes may share.
        data: the folder of the corpora.
        config: sizes.
        run: folder of a finished run of the recipe, to use its teachers and soft labels.
    """
    store = RunStore(directory / TRIALS, precision=recipe.precision, also=run)
    with store.locked():
        corpora = read_corpora(store, DataSource(recipe.data, data), recipe.seed)
        yield Experiment(recipe, store, corpora, config, run is not None)


def teachers_of(experiment: Experiment, arm: Arm, seed: int) -> list[FittedModel]:
    """Return the teachers of an arm; unless they are given, they learn only from its labelled articles.

    Their weights are those after the last step. Nothing is chosen on validation articles, since a comparison
    with few labels must not use the labels of these.
    """
    recipe, corpora = experiment.recipe, experiment.corpora
    if experiment.given:
        return teach(recipe, experiment.store, corpora, fit_teacher.open)[: arm.teachers]
    config = recipe.teacher
    encoder = experiment.teacher_tokenizer(config.fit.max_tokens)
    return [
        fit_teacher(
            experiment.store,
            FreshHeads(Pretrained(config.encoder), corpora.labels, config.fit.dropout),
            GoldLabels(corpora, encoder, rows=experiment.labelled(seed, arm)),
            HardLoss(recipe.weights),
            config.fit,
            1_000 * member + seed,
            sampling_temperature=recipe.data.sampling_temperature,
        )
        for member in range(arm.teachers)
    ]


def student_learning(
    experiment: Experiment, arm: Arm, seed: int, tokenizer: StudentTokenizer
) -> Learning:
    """Return the start, training data and loss of an arm's student."""
    student = arm.student
    teachers = Teachers(
        [teacher.model for teacher in teachers_of(experiment, arm, seed)],
        experiment.teacher_tokenizer(student.taught_tokens),
        student.teacher_view,
        arm.teacher_temperature,
        whole=experiment.given and _are_stored(arm, experiment.recipe),
    )
    rows = experiment.rows(seed, arm.labelled, arm.transfer)
    encoder = tokenizer.reads(student.fit.max_tokens)
    gold = GoldLabels(experiment.corpora, encoder, rows=rows, short=arm.short)
    start = StudentStart(teachers.models[0], student, tokenizer)
    weights, labelled = experiment.recipe.weights, len(experiment.labelled(seed, arm))
    return extended(Distilled(student, start, gold, teachers, weights, seed, labelled))


def _are_stored(arm: Arm, recipe: Recipe) -> bool:
    """Return True if an arm learns from the soft labels that a run of the recipe stores."""
    own, stored = (
        (student.teacher_view, student.taught_tokens) for student in (arm.student, recipe.student)
    )
    return own == stored and arm.teachers == len(recipe.teacher.seeds)


@dataclass(frozen=True)
class Exam:
    """The articles that a model is evaluated on, and their form.

    Attributes:
        corpora: the articles.
        encoder: the model's tokenizer and policy.
        view: the view of each article that the model reads.
        rows: (N,) rows of the test articles.
        attacked: number of these, from the first on, that are attacked.
        version: version of Newsie.
    """

    corpora: Corpora
    encoder: Encoder
    view: View
    rows: NDArray[np.int64]
    attacked: int
    version: str = __version__


def _read_trial(folder: Path) -> Trial:
    content = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    attacked: dict[str, dict[str, NDArray[np.int64]]] = {}
    for name, column in load_file(folder / "attacked.safetensors").items():
        attack_name, _, task = name.partition("/")
        attacked.setdefault(attack_name, {})[task] = column
    logits = load_file(folder / "logits.safetensors")
    return Trial(logits, content["temperatures"], attacked, content["record"])


def student_trial(experiment: Experiment, arm: Arm, seed: int) -> Trial:
    """Return the trial of an arm's student."""
    recipe, student = experiment.recipe, arm.student
    tokenizer = experiment.tokenizer(student)
    learning = student_learning(experiment, arm, seed, tokenizer)
    return _fit_and_ask(
        experiment.store,
        learning,
        student.fit,
        len(experiment.labelled(seed, arm)),
        seed,
        recipe.data.sampling_temperature,
        _exam(experiment, tokenizer.reads(student.max_tokens), arm.view),
    )


class _Built:
    """Training data that is built only once, so that its articles can be counted before training."""

    def __init__(self, data: TrainingData, store: RunStore) -> None:
        self._data, self._built = data, data.build(store)

    def __len__(self) -> int:
        return len(self._built)

    def fingerprint(self) -> Any:
        """Return the fingerprint of the original data."""
        return fingerprint(self._data)

    def build(self, store: RunStore) -> TrainingSet:
        """Return the articles."""
        return self._built


@stage("trial", opens=_read_trial)
def _fit_and_ask(
    work: Workspace,
    learning: Learning,
    config: FitConfig,
    labelled: int,
    seed: int,
    sampling_temperature: float,
    exam: Exam,
) -> None:
    """Fit a student, evaluate it, and delete it, since weights take 50 times the space of predictions.

    All students of a seed take as many steps as one that learns from the `labelled` articles alone.
    """
    started = time.monotonic()
    data = _Built(learning.data, work.store)
    config = same_steps(config, len(data), labelled)
    inputs: Any = (learning.start, data, learning.loss, config, seed)
    options: Any = {"sampling_temperature": sampling_temperature}
    student = fit_student(work.store, *inputs, **options)
    record = {
        "seed": seed,
        "articles": len(data),
        "steps": student.history.step,
        "seconds": student.history.seconds,
    }
    _ask(work, [student.model], exam, record, started)
    work.store.discard(fit_student.folder_name(work.store, *inputs, **options))


def teacher_trial(experiment: Experiment, arm: Arm, seed: int) -> Trial:
    """Return the trial of an arm's teachers, which read the same view as for the student."""
    encoder = experiment.teacher_tokenizer(arm.student.max_tokens)
    exam = _exam(experiment, encoder, arm.teacher_view)
    teachers = teachers_of(experiment, arm, seed)
    return _ask_teachers(experiment.store, teachers, seed, exam)


@stage("teacher-trial", opens=_read_trial)
def _ask_teachers(work: Workspace, teachers: Sequence[FittedModel], seed: int, exam: Exam) -> None:
    """Evaluate teachers by their mean probabilities."""
    started = time.monotonic()
    seconds = sum(teacher.history.seconds for teacher in teachers)
    record = {"seed": seed, "seconds": seconds}
    _ask(work, [teacher.model for teacher in teachers], exam, record, started)


def _exam(experiment: Experiment, encoder: Encoder, view: View) -> Exam:
    rows, attacked = experiment.test_rows, experiment.config.attacked
    return Exam(experiment.corpora, encoder, view, rows, attacked)


def _ask(
    work: Workspace,
    models: Sequence[MultiTaskModel],
    exam: Exam,
    record: dict[str, Any],
    started: float,
) -> None:
    """Write the predictions of models for the articles of an exam."""
    store, corpora = work.store, exam.corpora
    device = store.accelerator.device
    models = [model.to(device) for model in models]

    def logits_of(split: str, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        tokens = encode_split(store, corpora, split, exam.encoder, exam.view)
        return compute_logits(
            models,
            tokens,
            rows,
            max_tokens=exam.encoder.policy.max_tokens,
            device=device,
            autocast=store.autocast,  # as in training; fp32 may take several times as long
        )

    logits = logits_of("test", exam.rows)
    held_out = corpora.targets("validation")
    rows = labelled_rows(held_out, dict.fromkeys(held_out, CALIBRATION_ARTICLES))
    temperatures = calibrate(
        logits_of("validation", rows), {task: column[rows] for task, column in held_out.items()}
    )
    attacked: dict[str, NDArray[np.int64]] = {}
    if exam.attacked and len(models) == 1:
        chosen = exam.rows[: exam.attacked]
        articles = list(corpora.articles("test"))
        gold = {task: column[chosen] for task, column in corpora.targets("test").items()}
        predicted = attack(
            models[0],
            exam.encoder,
            [articles[row] for row in chosen],
            gold,
            device,
            exam.view,
            store.autocast,
        )
        for name, labels in predicted.items():
            attacked |= {f"{name}/{task}": column for task, column in labels.items()}
    # A resumed trial has taken longer than this process knows.
    record["seconds_in_all"] = max(time.monotonic() - started, record["seconds"])
    with new_directory(work.folder) as aside:
        save_file(logits, aside / "logits.safetensors")
        save_file(attacked, aside / "attacked.safetensors")
        content = {"temperatures": temperatures, "record": record}
        (aside / "trial.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def measure_student(experiment: Experiment, student: StudentConfig, view: View = "full") -> Cost:
    """Return the cost of a student that reads a view of articles.

    Its weights and its teacher do not matter, so each shape is measured once.
    """
    unlearnt: dict[str, Any] = {
        "distillation": DistillationConfig(),
        "fit": FitConfig(max_tokens=student.fit.max_tokens),  # decides which pieces are kept
    }
    shape = replace(student, name="", teacher_view="same", **unlearnt)
    return _measure_shape(
        experiment.store,
        shape,
        experiment.tokenizer(shape),
        Pretrained(experiment.recipe.teacher.encoder),
        experiment.corpora,
        experiment.test_rows,
        view,
        __version__,
    )


def _read_cost(folder: Path) -> Cost:
    return Cost(**json.loads((folder / "cost.json").read_text(encoding="utf-8")))


@stage("cost", opens=_read_cost)
def _measure_shape(
    work: Workspace,
    shape: StudentConfig,
    tokenizer: StudentTokenizer,
    teacher: Pretrained,
    corpora: Corpora,
    rows: NDArray[np.int64],
    view: View,
    version: str,
) -> None:
    """Measure the size of a student and its time on test articles."""
    work.store.say(f"size and time of a student of {shape.layers} layers")
    model = MultiTaskModel(load_encoder(teacher.name), corpora.labels)
    student = StudentStart(model, shape, tokenizer).build()
    chosen = set(rows.tolist())
    texts = (
        view_text(article, view)
        for row, article in enumerate(corpora.articles("test"))
        if row in chosen
    )
    articles = islice((Article.from_text(text) for text in texts if text), COST_ARTICLES)
    cost = measure_cost(student, tokenizer.reads(shape.max_tokens), list(articles))
    with new_directory(work.folder) as aside:
        (aside / "cost.json").write_text(json.dumps(vars(cost)), encoding="utf-8")


def same_steps(config: FitConfig, articles: int, labelled: int) -> FitConfig:
    """Return the configuration with as many steps for `articles` as it would take for `labelled`."""
    steps = max(1, round(config.epochs * -(-labelled // config.batch_size)))
    return replace(config, epochs=steps / -(-articles // config.batch_size))


def _labelled(labels: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the rows that have a gold label in some task."""
    return np.flatnonzero(np.any([column != IGNORE for column in labels.values()], axis=0))
