"""Where the students of a comparison are made: a pipeline whose teacher, labels and steps an arm decides.

Each arm and seed is a trial with a folder of its own, named by the fingerprint of all that it depends on.
A trial that is done is read, one that was interrupted goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from newsie.atomic import new_directory, write_text
from newsie.data.articles import Article
from newsie.data.encoding import View, view_text
from newsie.labels import IGNORE
from newsie.laboratory.arms import ENSEMBLE, Arm
from newsie.laboratory.attacks import attack
from newsie.laboratory.costs import COST_ARTICLES, Cost, measure_cost
from newsie.training.batches import TrainingSet
from newsie.training.calibration import calibrate, labelled_rows
from newsie.training.config import DistillationConfig, FitConfig, StudentConfig
from newsie.training.encoder import load_encoder
from newsie.training.experiment import CompareConfig
from newsie.training.fingerprints import digest, encoder_digest
from newsie.training.lessons import Lessons
from newsie.training.losses import HardLoss
from newsie.training.model import MultiTaskModel
from newsie.training.pipeline import Pipeline
from newsie.training.soft_labels import SoftLabels, compute_logits
from newsie.version import __version__

__all__ = ["TRIALS", "Bench", "Trial"]

Evaluate = Callable[[], Callable[[nn.Module], float]]

TRIALS = "trials"
"""Folder of the trials of all recipes: what they have in common is made once."""

CALIBRATION_ARTICLES = 2_000
"""Validation articles of a task, at most, on which its calibration temperature is fitted."""


@dataclass(frozen=True)
class Trial:
    """What a model answered, and how it came about.

    Attributes:
        logits: (N, C) by task, for the test articles.
        temperatures: calibration temperature by task.
        attacked: attack -> predicted labels (A,) by task of the first A test articles; empty for none.
        record: articles learnt from, steps, seconds to fit it, seconds in all: plain JSON values.
    """

    logits: Mapping[str, NDArray[np.float32]]
    temperatures: Mapping[str, float]
    attacked: Mapping[str, Mapping[str, NDArray[np.int64]]]
    record: Mapping[str, Any]


class Bench:
    """Makes teachers and students of one recipe.

    Args:
        pipeline: gives articles, tokens and the place for results.
        config: sizes.
        given: whether the teachers are those of the recipe, which have learnt from all articles, instead of
            one for each seed that knows the seed's labelled articles alone.
    """

    def __init__(self, pipeline: Pipeline, config: CompareConfig, *, given: bool = False) -> None:
        self.pipeline, self.config, self.given = pipeline, config, given
        self._teachers: dict[str, MultiTaskModel] = {}

    @cached_property
    def test_rows(self) -> NDArray[np.int64]:
        """Test articles that are measured on: labelled ones, in their order."""
        rows = _labelled(self.pipeline.corpora.targets("test"))
        chosen = np.random.default_rng(0).permutation(rows)[: self.config.test or len(rows)]
        return np.sort(chosen)

    @cached_property
    def gold(self) -> dict[str, NDArray[np.int64]]:
        """(N,) gold labels of the test articles by task."""
        labels = self.pipeline.corpora.targets("test")
        return {task: column[self.test_rows] for task, column in labels.items()}

    @property
    def attacked_gold(self) -> dict[str, NDArray[np.int64]]:
        """(A,) gold labels, by task, of the test articles that are attacked."""
        return {task: column[: self.config.attacked] for task, column in self.gold.items()}

    @cached_property
    def _targets(self) -> dict[str, NDArray[np.int64]]:
        return self.pipeline.corpora.targets("train")

    @property
    def articles_in_all(self) -> int:
        """Training articles, labelled or not."""
        return len(next(iter(self._targets.values())))

    def articles(self, count: int) -> list[Article]:
        """The first of the test articles that are measured on."""
        chosen = set(self.test_rows[:count].tolist())
        return [a for i, a in enumerate(self.pipeline.corpora.articles("test")) if i in chosen]

    def rows(self, seed: int, labelled: int, transfer: int) -> NDArray[np.int64]:
        """Training articles of a seed: the labelled ones, then further ones to transfer with.

        The fewer are always among the more, so that sweeps over both numbers are nested.
        """
        random = np.random.default_rng([seed, 1])
        known = random.permutation(_labelled(self._targets))
        gold = known[: labelled or len(known)]
        rest = np.setdiff1d(np.arange(self.articles_in_all), gold, assume_unique=True)
        rest = random.permutation(rest)
        return np.concatenate([gold, rest[:transfer]])

    def labelled(self, seed: int, arm: Arm) -> NDArray[np.int64]:
        """The articles whose gold labels an arm may know."""
        return self.rows(seed, arm.labelled, 0)

    def teachers(self, seed: int, arm: Arm) -> list[MultiTaskModel]:
        """The teachers of an arm; unless they are given, they know its labelled articles alone.

        Their weights are the last ones: nothing is chosen on validation articles, whose labels a
        comparison at few labels must not know.
        """
        if self.given:
            return self.pipeline.teachers[: arm.teachers]
        rows, found = self.labelled(seed, arm), []
        for member, name in enumerate(self.teacher_names(seed, arm)):
            if name not in self._teachers:
                teacher = self._fit_teacher(name, seed, member, rows)
                # A few stay in memory: the arms of a seed have most of them in common.
                kept = list(self._teachers.items())[-ENSEMBLE:]
                self._teachers = {**dict(kept), name: teacher}
            found.append(self._teachers[name])
        return found

    def teacher_names(self, seed: int, arm: Arm) -> list[str]:
        """Folders of the teachers of an arm, named by all that decides them; not where they are given."""
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
        started = time.monotonic()
        name = digest(
            [teacher.fingerprint() for teacher in self.teachers(seed, arm)],
            encoder_digest(self.pipeline.student_encoder),
            arm.to_json(),
            seed,
            self._inputs(self.rows(seed, arm.labelled, arm.transfer)),
            self._questions,
        )
        directory, fitted = (self.pipeline.directory / f"{x}-{name}" for x in ("trial", "student"))
        if not directory.exists():
            student, articles = self.fit_student(arm, seed, fitted.name)
            history = self.history(fitted.name)
            record = {
                "seed": seed,
                "articles": articles,
                "steps": history["step"],
                "seconds": history["seconds"],
            }
            tokenizer = (self.pipeline.student_encoder, arm.student.vocabulary)
            self._write(directory, [student], tokenizer, arm.view, arm, record, started)
        # Weights take 50 times the room of answers, and are not needed any more.
        shutil.rmtree(fitted, ignore_errors=True)
        return _read(directory)

    def teacher_trial(self, arm: Arm, seed: int) -> Trial:
        """The same of an arm's teachers, who read what they read for the student."""
        started = time.monotonic()
        teachers, view = self.teachers(seed, arm), arm.teacher_view
        prints = [teacher.fingerprint() for teacher in teachers]
        name = digest(prints, view, arm.student.max_tokens, self._questions)
        directory = self.pipeline.directory / f"trial-{name}"
        if not directory.exists():
            folders = [] if self.given else self.teacher_names(seed, arm)
            record = {
                "seed": seed,
                "seconds": sum(self.history(folder)["seconds"] for folder in folders),
            }
            tokenizer = (self.pipeline.recipe.teacher.encoder, 0)
            self._write(directory, teachers, tokenizer, view, arm, record, started)
        return _read(directory)

    def cost(self, student: StudentConfig, view: View = "full") -> Cost:
        """What a student of that shape costs that reads this of an article, measured once: what it has
        learnt, and from whom, does not matter."""
        pipeline, recipe = self.pipeline, self.pipeline.recipe
        unlearnt: dict[str, Any] = {"distillation": DistillationConfig(), "fit": FitConfig()}
        shape = replace(student, name="", teacher_view="same", **unlearnt)
        pieces = [recipe.student.fit.max_tokens]  # see Pipeline.pieces
        origin = [encoder_digest(x) for x in (recipe.teacher.encoder, pipeline.student_encoder)]
        name = digest(asdict(shape), pieces, origin, pipeline.corpora.name, view, __version__)
        path = pipeline.directory / f"cost-{name}.json"
        if not path.exists():
            pipeline.say(f"size and time of a student of {student.layers} layers")
            labels = pipeline.corpora.labels
            teacher = MultiTaskModel(load_encoder(recipe.teacher.encoder), labels)
            model = pipeline.new_student(teacher, student)
            tool = pipeline.encoder(
                pipeline.student_encoder, student.max_tokens, student.vocabulary
            )
            texts = (view_text(a, view) for a in self.articles(len(self.test_rows)))
            articles = islice((Article.from_text(text) for text in texts if text), COST_ARTICLES)
            found = measure_cost(model, tool, list(articles))
            write_text(path, json.dumps(asdict(found)))
        return Cost(**json.loads(path.read_text(encoding="utf-8")))

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
        data = self._student_set(arm, seed)
        build, loss = self._lessons(arm, seed).parts()
        student = self.pipeline.fitted(
            name,
            f"{arm.name}, seed {seed}",
            build,
            loss,
            same_steps(arm.student.fit, len(data), len(self.labelled(seed, arm))),
            lambda: data,
            seed=seed,
            evaluate=evaluate,
        )
        return student, len(data)

    def _lessons(self, arm: Arm, seed: int) -> Lessons:
        stored = self._stored if self.given and self._is_stored(arm) else None
        return Lessons(
            self.pipeline, self.teachers(seed, arm), arm.student, short=arm.short, stored=stored
        )

    @cached_property
    def _stored(self) -> dict[View, SoftLabels]:
        return self.pipeline.soft_labels

    def _is_stored(self, arm: Arm) -> bool:
        """Whether the teachers' answers that the recipe stores are those that an arm learns from."""
        recipe = self.pipeline.recipe
        ours, stored = (
            (student.teacher_view, student.taught_tokens)
            for student in (arm.student, recipe.student)
        )
        return ours == stored and arm.teachers == len(recipe.teacher.seeds)

    def _student_set(self, arm: Arm, seed: int) -> TrainingSet:
        """What a student learns from: gold labels of the labelled articles, soft labels of all."""
        rows = self.rows(seed, arm.labelled, arm.transfer)
        data = self._lessons(arm, seed).training_set(rows, len(self.labelled(seed, arm)), seed=seed)
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

    def _write(
        self,
        directory: Path,
        models: Sequence[MultiTaskModel],
        tokenizer: tuple[str, int],
        view: View,
        arm: Arm,
        record: dict[str, Any],
        started: float,
    ) -> None:
        """Ask models, with the tokenizer of an encoder and a vocabulary, and store what they answer."""
        pipeline, longest = self.pipeline, arm.student.max_tokens
        device = pipeline.accelerator.device
        # As it learnt: where bf16 is several times as fast, answers would else take most of the time.
        autocast = pipeline.precision == "bf16"
        models = [model.to(device) for model in models]

        def answer(split: str, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
            encoder, vocabulary = tokenizer
            store = pipeline.tokens(encoder, split, longest, vocabulary, views=(view,))[view]
            return compute_logits(
                models, store, rows, max_tokens=longest, device=device, autocast=autocast
            )

        pipeline.say(f"{arm.name}, seed {record['seed']}: {len(self.test_rows):,} test articles")
        logits = answer("test", self.test_rows)
        held_out = pipeline.corpora.targets("validation")
        rows = labelled_rows(held_out, dict.fromkeys(held_out, CALIBRATION_ARTICLES))
        temperatures = calibrate(
            answer("validation", rows), {task: column[rows] for task, column in held_out.items()}
        )
        attacked: dict[str, NDArray[np.int64]] = {}
        if self.config.attacked and len(models) == 1:
            tool = pipeline.encoder(tokenizer[0], longest, tokenizer[1])
            articles, gold = self.articles(self.config.attacked), self.attacked_gold
            found = attack(models[0], tool, articles, gold, device, view, autocast)
            for name, labels in found.items():
                attacked |= {f"{name}/{task}": column for task, column in labels.items()}
        # One that was resumed has taken longer than this process knows.
        record["seconds_in_all"] = max(time.monotonic() - started, record["seconds"])
        with new_directory(directory) as aside:
            save_file(logits, aside / "logits.safetensors")
            save_file(attacked, aside / "attacked.safetensors")
            content = {"temperatures": temperatures, "record": record}
            (aside / "trial.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    def history(self, name: str) -> dict[str, Any]:
        """How the model in a folder was fitted."""
        path = self.pipeline.directory / name / "history.json"
        history: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return history

    @cached_property
    def _questions(self) -> list[Any]:
        """What every trial is asked, of which corpora, by which Newsie, and in which precision it answers."""
        asked = [self.test_rows.tolist(), self.config.attacked]
        return [*asked, self.pipeline.corpora.name, __version__, self.pipeline.precision]

    def _inputs(self, rows: NDArray[np.int64]) -> list[Any]:
        """What every model that learns from these articles depends on."""
        recipe = self.pipeline.recipe
        weighed = [self.pipeline.weights, recipe.data.sampling_temperature]
        corpora, precision = self.pipeline.corpora.name, self.pipeline.precision
        return [corpora, __version__, precision, rows.tolist(), *weighed]


def same_steps(config: FitConfig, articles: int, labelled: int) -> FitConfig:
    """The configuration with as many steps for `articles` as the given one takes for `labelled`."""
    steps = max(1, round(config.epochs * -(-labelled // config.batch_size)))
    return replace(config, epochs=steps / -(-articles // config.batch_size))


def _labelled(labels: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Rows that have a gold label in some task."""
    return np.flatnonzero(np.any([column != IGNORE for column in labels.values()], axis=0))


def _read(directory: Path) -> Trial:
    content = json.loads((directory / "trial.json").read_text(encoding="utf-8"))
    attacked: dict[str, dict[str, NDArray[np.int64]]] = {}
    for name, column in load_file(directory / "attacked.safetensors").items():
        attack_name, _, task = name.partition("/")
        attacked.setdefault(attack_name, {})[task] = column
    logits = load_file(directory / "logits.safetensors")
    return Trial(logits, content["temperatures"], attacked, content["record"])
