"""The stages of a retraining: those of the pipeline, with the base for a student to begin with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from newsie.bundle import Bundle, Lineage, read_bundle
from newsie.data.articles import Article
from newsie.data.encoding import VIEWS, Encoder, EncodingPolicy, View
from newsie.errors import InputError, RecipeError
from newsie.labels import IGNORE
from newsie.training.card import recipe_corpora
from newsie.training.config import (
    DataConfig,
    DistillationConfig,
    FitConfig,
    QualityConfig,
    Recipe,
    StudentConfig,
    TeacherConfig,
)
from newsie.training.corpora import Corpora, prepare_corpora
from newsie.training.dithering import dither
from newsie.training.encoder import check_max_tokens
from newsie.training.fingerprints import digest
from newsie.training.model import MultiTaskModel
from newsie.training.package import commit_id, make_bundle
from newsie.training.pipeline import Pipeline
from newsie.training.retraining.material import UNLABELLED, Material
from newsie.training.retraining.quick import quick_student
from newsie.training.revival import read_weights, revive_student
from newsie.training.soft_labels import SoftLabels
from newsie.version import __version__

__all__ = ["Depth", "Plan", "Retraining", "choose_depth", "with_own_answers"]

Depth = Literal["quick", "student", "full"]

BASE = "base"
"""What the recipe calls the student that is retrained."""

FEW, MANY = 1_000, 50_000
PASSES_OVER = 30_000
"""Articles that a student or teacher reads in all, where one pass is less and ten are more."""


def choose_depth(labelled: int) -> Depth:
    """How deep to go for a number of labelled articles, where nobody says."""
    return "quick" if labelled < FEW else "student" if labelled < MANY else "full"


@dataclass(frozen=True)
class Plan:
    """What decides a retrained student besides the articles.

    Attributes:
        name: of the student.
        depth: "quick" fits heads on the frozen base; "student" fits the whole student; "full" fits a
            teacher first, whose soft labels the student learns.
        encoder: of the teacher.
        seed: of the splits, and of all that is drawn.
    """

    name: str
    depth: Depth
    encoder: str = "minilm"
    seed: int = 0

    def recipe(self, data: DataConfig, base: Bundle, labelled: int) -> Recipe:
        """The recipe of the retraining; `labelled` articles of the task that has the most."""
        fit = FitConfig(
            epochs=float(np.clip(PASSES_OVER / max(labelled, 1), 1, 10)),
            batch_size=32,
            micro_batch_size=32,
            max_tokens=min(96, base.manifest.encoding.max_tokens),
            learning_rate=5e-5,
            head_learning_rate=5e-4,
            checkpoint_minutes=1.0,
        )
        layers = sum(name.endswith("ffn.lin1.weight") for name in read_weights(base))
        return Recipe(
            name=self.name,
            data=data,
            teacher=TeacherConfig(self.encoder if self.depth == "full" else BASE, [self.seed], fit),
            student=StudentConfig(
                encoder=BASE,
                layers=layers,
                max_tokens=base.manifest.encoding.max_tokens,
                distillation=DistillationConfig(alpha=0.5),
                fit=fit,
            ),
            seed=self.seed,
            precision="fp32",  # which one is faster may be measured otherwise next time
            # Of a few articles a single one may be half a point or more.
            quality=QualityConfig(max(2.0, 600 / max(labelled, 1))),
        )


class Retraining(Pipeline):
    """The stages of a retraining; see `Pipeline`.

    The student begins as the base, with quick heads for what is new. Its soft labels are the answers of
    just that model, so that old tasks stay as they are on the new text (learning without forgetting,
    Li & Hoiem 2016, arXiv 1606.09282); with depth "full" a teacher gives those of the tasks that the file
    has gold labels for.

    Args:
        material: what is learnt from.
        base: the student that is retrained.
        plan: what else decides the result.
        runs: folder for the results; those of this retraining go to `runs/NAME`.
    """

    def __init__(self, material: Material, base: Bundle, plan: Plan, *, runs: Path) -> None:
        recipe = plan.recipe(material.data, base, material.labelled)
        super().__init__(recipe, data=material.directory, runs=runs)
        self.material, self.base, self.plan = material, base, plan

    @property
    def taught(self) -> list[str]:
        """The tasks that the file has gold labels for."""
        return [question.name for question in self.material.questions]

    @cached_property
    def corpora_name(self) -> str:
        """Folder of the articles, named by all that decides them."""
        return f"data-{digest(self.material.directory.name, self.recipe.seed)}"

    @cached_property
    def corpora(self) -> Corpora:
        """Articles cleaned, split and stored; sites' names are those that the base removes."""
        found = super().corpora
        return replace(found, site_suffixes=self.base.manifest.encoding.site_suffixes)

    def _prepare(self, directory: Path) -> None:
        try:
            prepare_corpora(
                self.recipe.data,
                self.data,
                directory,
                say=lambda _text: None,  # the files are those that `gather_material` has told of
                seed=self.recipe.seed,
                labels=self.material.labels,
                learnt_whole=(UNLABELLED,),
                # Copies of an article would make intervals narrower than they are.
                test_once=True,
            )
        except RecipeError as error:  # a split is empty
            tested = any(corpus.test for corpus in self.recipe.data.corpora)
            raise InputError(
                "there are too few different articles to learn from some and to measure on others; "
                + (
                    "those that --test has, too, are not learnt from: give others there, or leave it out"
                    if tested
                    else "give more, or others to measure on: --test FILE"
                )
            ) from error

    def _whole_encoder(self, name: str, max_tokens: int) -> Encoder:
        """The tokenizer of an encoder, or that of the base."""
        if name != BASE:
            return super()._whole_encoder(name, max_tokens)
        policy = EncodingPolicy(max_tokens, self.corpora.site_suffixes)
        return Encoder.from_file(self.base.tokenizer_path, policy)

    @cached_property
    def quick(self) -> Bundle:
        """The base with quick heads for the tasks that the file has gold labels for."""
        splits, seed = self._head_splits, self.recipe.seed
        parts = self.base.fingerprint, self.corpora.name, splits, seed, __version__
        directory = self.directory / f"quick-{digest(*parts)}"
        with self.accelerator.main_process_first():
            if not directory.exists():
                quick_student(
                    self.base,
                    self.head_articles,
                    self.corpora.labels,
                    self.taught,
                    directory,
                    name=self.recipe.name,
                    lineage=self.lineage(""),
                    seed=self.recipe.seed,
                    say=self.say,
                )
        return read_bundle(directory)

    @property
    def learnt(self) -> list[Article]:
        """All articles that are not held out to measure on."""
        return self._articles(("train", "validation"))

    @cached_property
    def absent(self) -> dict[str, list[int]]:
        """Task of the base -> its labels that none of the articles has that heads are fitted on, as class
        indices, where others of its labels are there: what could be unlearnt."""
        targets = [self.corpora.targets(split) for split in self._head_splits]
        found = {}
        for task in self.base.manifest.label_space.tasks:
            there = set(np.concatenate([labels[task.name] for labels in targets]).tolist())
            missing = [index for index in range(len(task.labels)) if index not in there]
            if missing and there != {IGNORE}:
                found[task.name] = missing
        return found

    @property
    def _head_splits(self) -> tuple[str, ...]:
        """What quick heads are fitted on. A student that begins with them is chosen and calibrated on
        the validation articles, which it must not know then."""
        return ("train", "validation") if self.plan.depth == "quick" else ("train",)

    @property
    def head_articles(self) -> list[Article]:
        """The articles that quick heads are fitted on."""
        return self._articles(self._head_splits)

    def _articles(self, splits: Sequence[str]) -> list[Article]:
        return [article for split in splits for article in self.corpora.articles(split)]

    @cached_property
    def beginning(self) -> MultiTaskModel:
        """The student as it begins."""
        student = revive_student(self.quick)
        dither(student, self.recipe.seed)
        return student

    @cached_property
    def teachers(self) -> list[MultiTaskModel]:
        """A teacher of the tasks that are taught, or the student as it begins."""
        if self.plan.depth != "full":
            return [self.beginning]
        config = self.recipe.teacher
        check_max_tokens(config.encoder, {"the longest training input": config.fit.max_tokens})
        return self._fit_teachers()

    @cached_property
    def soft_labels(self) -> dict[View, SoftLabels]:
        """What the student is to answer to every article, in every view."""
        found = super().soft_labels
        if self.plan.depth != "full":
            return found
        student = self.recipe.student
        tokens = self.tokens(BASE, "train", student.taught_tokens)
        kept = self.soft_labels_of([self.beginning], tokens, self.corpora.name, student)
        return {view: _merge(kept[view], found[view], self.taught, self.absent) for view in VIEWS}

    def new_student(self, teacher: MultiTaskModel, config: StudentConfig) -> MultiTaskModel:
        """The student as it begins, to be fitted."""
        return copy.deepcopy(self.beginning).train()

    @cached_property
    def bundle(self) -> Path:
        """The retrained student as a bundle."""
        if self.plan.depth == "quick":
            return self.quick.path
        student, config = self.student, self.recipe.student
        lineage = self.lineage(digest(*self.soft_labels["full"].header.teacher))
        name = digest(student.fingerprint(), lineage.recipe, __version__)
        directory = self.directory / f"bundle-{name}"
        with self.accelerator.main_process_first():
            if not directory.exists():
                make_bundle(
                    student,
                    self.corpora,
                    self.encoder(BASE, config.max_tokens),
                    directory,
                    name=self.recipe.name,
                    max_int8_loss=self.recipe.quality.max_int8_loss,
                    lineage=lineage,
                    calibration=self.base.manifest.calibration,
                    # The promotion gate measures the int8 form itself; this finds broken ones early.
                    max_int8_difference=0.1,
                )
        return directory

    def lineage(self, teacher: str) -> Lineage:
        """Where the student comes from. The corpora of the base stay named: it learnt from them, too.

        The own ones are named after the student, so that those of one retraining are not those of the next.
        """
        recipe = self.recipe.to_json()
        recipe["retrained"] = {"depth": self.plan.depth, "tasks": self.taught}
        old = recipe_corpora(self.base.manifest.lineage.recipe)
        own = [
            {**corpus, "name": f"{self.recipe.name}-{corpus['name']}", **_use(corpus["name"])}
            for corpus in recipe["data"]["corpora"]
            # Heads alone do not learn from texts without labels.
            if (corpus["name"], self.plan.depth) != (UNLABELLED, "quick")
        ]
        recipe["data"]["corpora"] = [*old, *own]
        return Lineage(
            parent=self.base.fingerprint,
            teacher=teacher,
            data=self.corpora.name,
            commit=commit_id(),
            recipe=recipe,
        )


def _use(corpus: str) -> dict[str, str]:
    """What a corpus is for, where it is not for all: texts without labels measure nothing."""
    return {"use": "training"} if corpus == UNLABELLED else {}


def _merge(
    own: SoftLabels,
    teacher: SoftLabels,
    taught: Sequence[str],
    absent: Mapping[str, Sequence[int]],
) -> SoftLabels:
    """Soft labels of the teacher for the tasks that it was taught, the student's own for the others."""
    header = replace(own.header, teacher=(*own.header.teacher, *teacher.header.teacher))
    merged = {
        task: with_own_answers(teacher.logits[task], own.logits[task], absent.get(task, ()))
        for task in taught
    }
    return SoftLabels(header, {**own.logits, **merged})


def with_own_answers(
    teacher: NDArray[np.float16], own: NDArray[np.float16], absent: Sequence[int]
) -> NDArray[np.float16]:
    """A teacher's logits (N, C), and the student's own for labels that the teacher has not met.

    Among themselves the labels that it has met are as probable as the teacher says; together they are
    as probable, beside the others, as the student says.
    """
    if not absent:
        return teacher
    met = np.setdiff1d(np.arange(teacher.shape[1]), absent)
    merged = own.astype(np.float64)
    theirs, ours = teacher[:, met].astype(np.float64), merged[:, met]
    merged[:, met] = theirs + (_log_sum(ours) - _log_sum(theirs))
    return merged.astype(np.float16)


def _log_sum(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, C) -> (N, 1): log of the sum of the exponentials."""
    return np.logaddexp.reduce(logits, axis=1, keepdims=True)
