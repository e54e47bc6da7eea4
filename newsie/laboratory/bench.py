"""Where the students of a comparison are made: a pipeline whose teacher, labels and steps an arm decides.

Each arm and seed is a trial with a folder of its own, named by the fingerprint of all that it depends on.
A trial that is done is read, one that was interrupted goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from newsie.atomic import new_directory
from newsie.data.articles import Article
from newsie.data.encoding import Encoder
from newsie.labels import IGNORE
from newsie.laboratory.arms import ENSEMBLE, Arm
from newsie.laboratory.attacks import attack
from newsie.training.batches import TokenStore, TrainingSet
from newsie.training.calibration import calibrate
from newsie.training.config import FitConfig
from newsie.training.encoder import load_encoder
from newsie.training.experiment import CompareConfig
from newsie.training.fingerprints import digest, encoder_digest
from newsie.training.lessons import Lessons
from newsie.training.losses import HardLoss
from newsie.training.model import MultiTaskModel
from newsie.training.pipeline import Pipeline
from newsie.training.soft_labels import compute_logits

__all__ = ["Bench", "Trial"]

Evaluate = Callable[[], Callable[[nn.Module], float]]

CALIBRATION_ARTICLES = 2_000
"""Validation articles, at most, on which a calibration temperature is fitted."""


@dataclass(frozen=True)
class Trial:
    """What a model answered, and how it came about.

    Attributes:
        logits: (N, C) by task, for the test articles.
        temperatures: calibration temperature by task.
        record: articles learnt from, steps, seconds, and what attacks did: plain JSON values.
    """

    logits: Mapping[str, NDArray[np.float32]]
    temperatures: Mapping[str, float]
    record: Mapping[str, Any]


class Bench:
    """Makes teachers and students of one recipe.

    Args:
        pipeline: gives articles, tokens and the place for results.
        config: sizes.
    """

    def __init__(self, pipeline: Pipeline, config: CompareConfig) -> None:
        self.pipeline, self.config = pipeline, config
        self._teachers: dict[str, MultiTaskModel] = {}

    @cached_property
    def test_rows(self) -> NDArray[np.int64]:
        """Test articles that are measured on: labelled ones, in their order."""
        labels = self.pipeline.corpora.targets("test")
        rows = _labelled(labels)
        chosen = np.random.default_rng(0).permutation(rows)[: self.config.test or len(rows)]
        return np.sort(chosen)

    @cached_property
    def gold(self) -> dict[str, NDArray[np.int64]]:
        """(N,) gold labels of the test articles by task."""
        labels = self.pipeline.corpora.targets("test")
        return {task: column[self.test_rows] for task, column in labels.items()}

    def articles(self, count: int) -> list[Article]:
        """The first of the test articles that are measured on."""
        chosen = set(self.test_rows[:count].tolist())
        return [a for i, a in enumerate(self.pipeline.corpora.articles("test")) if i in chosen]

    def rows(self, seed: int, labelled: int, transfer: int) -> NDArray[np.int64]:
        """Training articles of a seed: the labelled ones, then further ones to transfer with.

        The fewer are always among the more, so that sweeps over both numbers are nested.
        """
        targets = self.pipeline.corpora.targets("train")
        random = np.random.default_rng([seed, 1])
        known = random.permutation(_labelled(targets))
        gold = known[: labelled or len(known)]
        total = len(next(iter(targets.values())))
        rest = random.permutation(np.setdiff1d(np.arange(total), gold, assume_unique=True))
        return np.concatenate([gold, rest[:transfer]])

    def labelled(self, seed: int, arm: Arm) -> NDArray[np.int64]:
        """The articles whose gold labels an arm may know."""
        return self.rows(seed, arm.labelled, 0)

    def teachers(self, seed: int, arm: Arm) -> list[MultiTaskModel]:
        """The teachers of an arm; they know its labelled articles alone.

        Their weights are the last ones: nothing is chosen on validation articles, whose labels a
        comparison at few labels must not know.
        """
        rows, found = self.labelled(seed, arm), []
        for member, name in enumerate(self._teacher_names(seed, arm)):
            if name not in self._teachers:
                teacher = self._fit_teacher(name, seed, member, rows)
                # A few stay in memory: the arms of a seed have most of them in common.
                kept = list(self._teachers.items())[-ENSEMBLE:]
                self._teachers = {**dict(kept), name: teacher}
            found.append(self._teachers[name])
        return found

    def _teacher_names(self, seed: int, arm: Arm) -> list[str]:
        """Folders of the teachers of an arm."""
        config, inputs = self.pipeline.recipe.teacher, self._inputs(self.labelled(seed, arm))
        kind = [encoder_digest(config.encoder), asdict(config.fit), seed]
        return [f"teacher-{digest(*kind, member, inputs)}" for member in range(arm.teachers)]

    def _fit_teacher(
        self, name: str, seed: int, member: int, rows: NDArray[np.int64]
    ) -> MultiTaskModel:
        config = self.pipeline.recipe.teacher
        fit, labels = config.fit, self.pipeline.corpora.labels

        def build() -> MultiTaskModel:
            return MultiTaskModel(load_encoder(config.encoder, fit.dropout), labels, fit.dropout)

        return self.pipeline.fitted(
            name,
            f"teacher, seed {seed}" + (f", member {member}" if member else ""),
            build,
            HardLoss(self.pipeline.weights),
            fit,
            lambda: self.pipeline.training_set(config.encoder, "train", fit.max_tokens).take(rows),
            seed=1_000 * member + seed,
        )

    def trial(self, arm: Arm, seed: int) -> Trial:
        """The student of an arm and seed, or what is known of it from before."""
        name = digest(
            [teacher.fingerprint() for teacher in self.teachers(seed, arm)],
            encoder_digest(self.pipeline.student_encoder),
            arm.to_json(),
            seed,
            self._inputs(self.rows(seed, arm.labelled, arm.transfer)),
            self._questions,
        )
        directory = self.pipeline.directory / f"trial-{name}"
        if not directory.exists():
            fitted = f"student-{name}"
            student, articles = self.fit_student(arm, seed, fitted)
            self._keep(student, arm, directory, seed, articles)
        # Weights take 50 times the room of answers, and are not needed any more.
        shutil.rmtree(self.pipeline.directory / f"student-{name}", ignore_errors=True)
        return _read(directory)

    def teacher_trial(self, arm: Arm, seed: int) -> Trial:
        """The same of an arm's teachers."""
        teachers = self.teachers(seed, arm)
        prints = [teacher.fingerprint() for teacher in teachers]
        directory = self.pipeline.directory / f"trial-{digest(prints, arm.view, self._questions)}"
        if not directory.exists():
            encoder = self.pipeline.recipe.teacher.encoder
            record = {
                "seed": seed,
                "labelled": len(self.labelled(seed, arm)),
                "seconds": sum(self.history(n)["seconds"] for n in self._teacher_names(seed, arm)),
            }
            self._write(directory, teachers, encoder, 0, arm, record)
        return _read(directory)

    def fit_student(
        self, arm: Arm, seed: int, name: str, evaluate: Evaluate | None = None
    ) -> tuple[MultiTaskModel, int]:
        """Make a student, with as many steps as one that learns from the labelled articles alone.

        Args:
            arm, seed: which.
            name: of its folder.
            evaluate: see `Pipeline.fitted`.

        Returns:
            The student, and from how many articles it learnt, with those that are made of them.
        """
        teachers, config = self.teachers(seed, arm), arm.student
        rows = self.rows(seed, arm.labelled, arm.transfer)
        data = self._student_set(arm, seed, rows)
        build, loss = Lessons(self.pipeline, teachers, config).parts()

        student = self.pipeline.fitted(
            name,
            f"{arm.name}, seed {seed}",
            build,
            loss,
            same_steps(config.fit, len(data), len(self.labelled(seed, arm))),
            lambda: data,
            seed=seed,
            evaluate=evaluate,
        )
        return student, len(data)

    def _student_set(self, arm: Arm, seed: int, rows: NDArray[np.int64]) -> TrainingSet:
        """What a student learns from: gold labels of the labelled articles, soft labels of all."""
        lessons = Lessons(self.pipeline, self.teachers(seed, arm), arm.student)
        data = lessons.training_set(rows, len(self.labelled(seed, arm)), seed=seed)
        assert data.soft is not None
        # softmax(z / (k T)) is the softmax at T of logits z / k: a teacher k times hotter.
        soft = {
            view: {
                task: (logits / arm.teacher_temperature).astype(np.float16)
                for task, logits in answers.items()
            }
            for view, answers in data.soft.items()
        }
        return replace(data, soft=soft)

    def _keep(
        self, student: MultiTaskModel, arm: Arm, directory: Path, seed: int, articles: int
    ) -> None:
        history = self.history(directory.name.replace("trial-", "student-"))
        record = {
            "seed": seed,
            "articles": articles,
            "labelled": len(self.labelled(seed, arm)),
            "steps": history["step"],
            "seconds": history["seconds"],
        }
        encoder, vocabulary = self.pipeline.student_encoder, arm.student.vocabulary
        self._write(directory, [student], encoder, vocabulary, arm, record)

    def _write(
        self,
        directory: Path,
        models: Sequence[MultiTaskModel],
        encoder: str,
        vocabulary: int,
        arm: Arm,
        record: dict[str, Any],
    ) -> None:
        """Ask models and store what they answer."""
        pipeline, max_tokens = self.pipeline, arm.student.max_tokens
        models = [model.to(pipeline.accelerator.device) for model in models]

        def answer(split: str, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
            store: TokenStore = pipeline.tokens(encoder, split, max_tokens, vocabulary)[arm.view]
            device = pipeline.accelerator.device
            return compute_logits(models, store, rows, max_tokens=max_tokens, device=device)

        pipeline.say(f"{arm.name}, seed {record['seed']}: {len(self.test_rows):,} test articles")
        logits = answer("test", self.test_rows)
        held_out = pipeline.corpora.targets("validation")
        rows = _labelled(held_out)[:CALIBRATION_ARTICLES]
        temperatures = calibrate(
            answer("validation", rows), {task: column[rows] for task, column in held_out.items()}
        )
        if self.config.attacked and len(models) == 1:
            tool = pipeline.encoder(encoder, max_tokens, vocabulary)
            record["attacks"] = self._attack(models[0], tool)
        with new_directory(directory) as aside:
            save_file(logits, aside / "logits.safetensors")
            content = {"temperatures": temperatures, "record": record}
            (aside / "trial.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    def history(self, name: str) -> dict[str, Any]:
        """How the model in a folder was fitted."""
        path = self.pipeline.directory / name / "history.json"
        history: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return history

    def _attack(self, model: MultiTaskModel, encoder: Encoder) -> dict[str, float]:
        articles = self.articles(self.config.attacked)
        gold = {task: column[: len(articles)] for task, column in self.gold.items()}
        return attack(model, encoder, articles, gold, self.pipeline.accelerator.device)

    @cached_property
    def _questions(self) -> list[Any]:
        """What every trial is asked."""
        return [self.test_rows.tolist(), self.config.attacked]

    def _inputs(self, rows: NDArray[np.int64]) -> list[Any]:
        """What every model that learns from these articles depends on."""
        recipe = self.pipeline.recipe
        weighed = [self.pipeline.weights, recipe.data.sampling_temperature]
        return [self.pipeline.corpora.name, rows.tolist(), *weighed]


def same_steps(config: FitConfig, articles: int, labelled: int) -> FitConfig:
    """The configuration with as many steps for `articles` as the given one takes for `labelled`."""
    steps = max(1, round(config.epochs * -(-labelled // config.batch_size)))
    return replace(config, epochs=steps / -(-articles // config.batch_size))


def _labelled(labels: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Rows that have a gold label in some task."""
    return np.flatnonzero(np.any([column != IGNORE for column in labels.values()], axis=0))


def _read(directory: Path) -> Trial:
    content = json.loads((directory / "trial.json").read_text(encoding="utf-8"))
    logits = load_file(directory / "logits.safetensors")
    return Trial(logits, content["temperatures"], content["record"])
