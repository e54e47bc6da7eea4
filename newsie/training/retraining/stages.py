"""The stages of a retraining: those of training, with the base as the initial student."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle, Lineage, read_bundle
from newsie.data.articles import Article
from newsie.data.encoding import VIEWS, Encoder, EncodingPolicy
from newsie.errors import InputError, RecipeError
from newsie.graph.weights import read_weights
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
from newsie.training.corpora import Corpora, DataSource, read_corpora
from newsie.training.distilling import (
    SoftLabelled,
    SoftLogits,
    SoftSource,
    Teachers,
    fit_student,
)
from newsie.training.dithering import dither
from newsie.training.encoder import check_max_tokens
from newsie.training.fingerprints import digest
from newsie.training.losses import DistillationLoss
from newsie.training.model import MultiTaskModel
from newsie.training.package import commit_id, package
from newsie.training.retraining.dataset import UNLABELLED, Material
from newsie.training.retraining.head_only import quick_student
from newsie.training.revived_student import revive_student
from newsie.training.store import RunStore, Workspace, stage
from newsie.training.teaching import GoldLabels
from newsie.training.tokens import open_encoder
from newsie.training.train import teach
from newsie.version import __version__

__all__ = [
    "Depth",
    "Plan",
    "Retraining",
    "choose_depth",
    "fit_quick",
    "open_retraining",
    "retrain_student",
    "split_articles",
    "with_own_answers",
]

Depth = Literal["quick", "student", "full"]

BASE = "base"
"""The name of the retrained student in the recipe."""

FEW, MANY = 1_000, 50_000
PASSES_OVER = 30_000
"""The total number of articles that a student or teacher reads, within one and ten passes."""


def choose_depth(labelled: int) -> Depth:
    """Return the default depth for a number of labelled articles."""
    return "quick" if labelled < FEW else "student" if labelled < MANY else "full"


@dataclass(frozen=True)
class Plan:
    """The settings of a retraining.

    Attributes:
        name: the student's name.
        depth: "quick" fits heads on the frozen base; "student" fits the whole student; "full" fits a
            teacher first, whose soft labels the student learns.
        encoder: the teacher's encoder.
        seed: seed of the splits, and of everything drawn.
    """

    name: str
    depth: Depth
    encoder: str = "minilm"
    seed: int = 0

    def recipe(self, data: DataConfig, base: Bundle, labelled: int) -> Recipe:
        """Return the recipe; `labelled` is the number of articles of the task that has the most."""
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
            precision="fp32",  # a measured choice might differ in a resumed run
            # With few articles a single one may be half a point or more.
            quality=QualityConfig(max(2.0, 600 / max(labelled, 1))),
        )


@dataclass(frozen=True)
class Retraining:
    """The inputs of all stages of a retraining.

    Attributes:
        material: the dataset.
        base: the student that is retrained.
        plan: the settings.
        recipe: sizes and schedules.
        store: the store of the results.
        corpora: the articles, cleaned and split; the site suffixes are those of the base.
    """

    material: Material
    base: Bundle
    plan: Plan
    recipe: Recipe
    store: RunStore
    corpora: Corpora

    @property
    def taught(self) -> list[str]:
        """The tasks that the file has gold labels for."""
        return [question.name for question in self.material.questions]

    @property
    def head_splits(self) -> tuple[str, ...]:
        """The splits that quick heads are fitted on.

        A student that is trained further from them is chosen and calibrated on the validation articles, so
        its heads must not learn from these.
        """
        return ("train", "validation") if self.plan.depth == "quick" else ("train",)

    @cached_property
    def absent(self) -> dict[str, list[int]]:
        """Task of the base -> class indices of its labels without an article to fit heads on.

        Tasks without any labelled article are left out, since nothing of them could be unlearnt.
        """
        targets = [self.corpora.targets(split) for split in self.head_splits]
        absent = {}
        for task in self.base.manifest.label_space.tasks:
            present = set(np.concatenate([labels[task.name] for labels in targets]).tolist())
            missing = [index for index in range(len(task.labels)) if index not in present]
            if missing and present != {IGNORE}:
                absent[task.name] = missing
        return absent

    @property
    def learnt(self) -> list[Article]:
        """The training and validation articles."""
        return list(split_articles(self.corpora, ("train", "validation")))

    def encoder(self, max_tokens: int) -> Encoder:
        """Return the base's tokenizer for inputs of up to `max_tokens`."""
        policy = EncodingPolicy(max_tokens, self.corpora.site_suffixes)
        return Encoder.from_file(self.base.tokenizer_path, policy)

    def lineage(self, teacher: str = "") -> Lineage:
        """Return the origin of the student.

        The corpora of the base are listed, since the student learnt from them, too. New ones are named
        after the student, so that the corpora of several retrainings have different names.
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
            data=self.corpora.directory.name,
            recipe=recipe,
        )


def open_retraining(material: Material, base: Bundle, plan: Plan, *, runs: Path) -> Retraining:
    """Read, clean and split the articles of a retraining.

    Args:
        material: the dataset.
        base: the student that is retrained.
        plan: the settings.
        runs: folder for the results; those of this retraining go to `runs/NAME`.

    Raises:
        InputError: there are too few different articles.
    """
    recipe = plan.recipe(material.data, base, material.labelled)
    store = RunStore(runs / recipe.name, precision=recipe.precision)
    try:
        corpora = read_corpora(
            store,
            DataSource(recipe.data, material.directory),
            recipe.seed,
            labels=material.labels,
            learnt_whole=(UNLABELLED,),
            # Copies of an article would make intervals narrower than they are.
            test_once=True,
            quiet=True,  # `gather_material` has described the files
        )
    except RecipeError as error:  # a split is empty
        tested = any(corpus.test for corpus in recipe.data.corpora)
        raise InputError(
            "there are too few different articles to learn from some and to measure on others; "
            + (
                "those that --test has, too, are not learnt from: give others there, or leave it out"
                if tested
                else "give more, or others to measure on: --test FILE"
            )
        ) from error
    corpora = replace(corpora, site_suffixes=base.manifest.encoding.site_suffixes)
    return Retraining(material, base, plan, recipe, store, corpora)


def retrain_student(run: Retraining) -> Bundle:
    """Retrain the base to the depth of the plan.

    The student starts as the base with quick heads for the taught tasks. Its soft labels are the predictions
    of that same model, so that old tasks are kept on the new text (learning without forgetting, Li & Hoiem
    2016, arXiv 1606.09282). With depth "full" a teacher gives the soft labels of the taught tasks.
    """
    recipe, store, corpora = run.recipe, run.store, run.corpora
    config, seed = recipe.student, recipe.seed

    quick = fit_quick(run)
    if run.plan.depth == "quick":
        return quick

    start = RevivedStudent(quick, seed)
    own = Teachers([start.build()], run.encoder(config.taught_tokens))
    teachers: SoftSource = own
    prints = [own.models[0].fingerprint()]
    if run.plan.depth == "full":
        encoder = recipe.teacher.encoder
        check_max_tokens(encoder, {"the longest training input": recipe.teacher.fit.max_tokens})
        models = [fitted.model for fitted in teach(recipe, store, corpora)]
        policy = EncodingPolicy(config.taught_tokens, corpora.site_suffixes)
        teachers = MergedTeachers(
            own, Teachers(models, open_encoder(encoder, policy)), run.taught, run.absent
        )
        prints += [model.fingerprint() for model in models]

    reading = run.encoder(config.fit.max_tokens)
    student = fit_student(
        store,
        start,
        SoftLabelled(GoldLabels(corpora, reading), teachers),
        DistillationLoss.of(config.distillation, recipe.weights, run.absent),
        config.fit,
        seed,
        validation=GoldLabels(corpora, reading, "validation"),
    )
    return package(
        store,
        student.model,
        corpora,
        run.encoder(config.max_tokens),
        run.lineage(digest(*prints)),
        name=recipe.name,
        max_int8_loss=recipe.quality.max_int8_loss,
        version=__version__,
        calibration=run.base.manifest.calibration,
        # The promotion gate measures the int8 form itself; this finds broken ones early.
        max_int8_difference=0.1,
    )


def fit_quick(run: Retraining) -> Bundle:
    """Return the base with quick heads for the tasks that the file has gold labels for."""
    return fit_quick_heads(
        run.store,
        run.base,
        run.corpora,
        run.head_splits,
        run.taught,
        run.recipe.name,
        run.lineage(),
        run.recipe.seed,
        __version__,
    )


@stage("quick", opens=read_bundle)
def fit_quick_heads(
    work: Workspace,
    base: Bundle,
    corpora: Corpora,
    splits: Sequence[str],
    tasks: Sequence[str],
    name: str,
    lineage: Lineage,
    seed: int,
    version: str,
) -> None:
    """Fit heads for tasks on the frozen base; see `quick_student`."""
    quick_student(
        base,
        list(split_articles(corpora, splits)),
        corpora.labels,
        tasks,
        work.folder,
        name=name,
        lineage=replace(lineage, commit=commit_id()),
        seed=seed,
        say=work.store.say,
    )


def split_articles(corpora: Corpora, splits: Sequence[str]) -> Iterator[Article]:
    """Yield the articles of some splits."""
    for split in splits:
        yield from corpora.articles(split)


@dataclass(frozen=True)
class RevivedStudent:
    """A student that starts from the weights of a bundle.

    Attributes:
        bundle: the base with quick heads.
        seed: seed of the dithering that undoes the rounding of int8.
    """

    bundle: Bundle
    seed: int

    def build(self) -> MultiTaskModel:
        """Return the bundle's student in float."""
        student = revive_student(self.bundle)
        dither(student, self.seed)
        return student


@dataclass(frozen=True)
class MergedTeachers:
    """Soft labels of the initial student, and of a teacher for the tasks that it was taught.

    Attributes:
        own: the initial student.
        taught: the teacher.
        tasks: the tasks that the teacher was taught.
        absent: see `Retraining.absent`.
    """

    own: Teachers
    taught: Teachers
    tasks: Sequence[str]
    absent: Mapping[str, Sequence[int]]

    def logits(
        self, store: RunStore, corpora: Corpora, rows: NDArray[np.int64] | None = None
    ) -> SoftLogits:
        """Return the logits that the student learns, for every view that it reads."""
        own, taught = (each.logits(store, corpora, rows) for each in (self.own, self.taught))
        return {
            view: {
                **own[view],
                **{
                    task: with_own_answers(
                        taught[view][task], own[view][task], self.absent.get(task, ())
                    )
                    for task in self.tasks
                },
            }
            for view in VIEWS
        }


def _use(corpus: str) -> dict[str, str]:
    """Return the `use` of a corpus if it is limited: texts without labels cannot be measured on."""
    return {"use": "training"} if corpus == UNLABELLED else {}


def with_own_answers(
    teacher: NDArray[np.float16], own: NDArray[np.float16], absent: Sequence[int]
) -> NDArray[np.float16]:
    """Return a teacher's logits (N, C), with the student's own for labels that the teacher has not seen.

    The teacher decides how the probability of the labels that it has seen is shared among them. The student
    decides their total probability.
    """
    if not absent:
        return teacher
    met = np.setdiff1d(np.arange(teacher.shape[1]), absent)
    merged = own.astype(np.float64)
    theirs, ours = teacher[:, met].astype(np.float64), merged[:, met]
    merged[:, met] = theirs + (_log_sum(ours) - _log_sum(theirs))
    return merged.astype(np.float16)


def _log_sum(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log of the sum of the exponentials: (N, C) -> (N, 1)."""
    return np.logaddexp.reduce(logits, axis=1, keepdims=True)
