"""Train a student from a recipe: read, teach, label, distil, package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from newsie.bundles.bundle import Bundle, Lineage
from newsie.data.encoding import EncodingPolicy
from newsie.training.config import Recipe, StudentConfig
from newsie.training.corpora import Corpora, DataSource, read_corpora
from newsie.training.distilling import (
    Distilled,
    Method,
    StudentStart,
    StudentTokenizer,
    Teachers,
    fit_student,
    plain,
)
from newsie.training.encoder import check_max_tokens
from newsie.training.fingerprints import Pretrained, digest
from newsie.training.losses import HardLoss
from newsie.training.package import package
from newsie.training.store import RunStore
from newsie.training.teaching import FittedModel, FreshHeads, GoldLabels, fit_teacher
from newsie.training.tokens import open_encoder
from newsie.version import __version__

__all__ = ["StageName", "Trained", "check_lengths", "student_origin", "teach", "train"]

StageName = Literal["data", "teacher", "soft-labels", "student", "bundle"]


@dataclass(frozen=True)
class Trained:
    """The results of a recipe.

    Attributes:
        recipe: the recipe.
        data: the folder of the corpora.
        store: the run store.
        corpora: the articles.
        teachers: one teacher for each seed.
        student: the distilled float student.
        tokenizer: the student's tokenizer.
        bundle: the int8 student, calibrated and checked.
    """

    recipe: Recipe
    data: Path
    store: RunStore
    corpora: Corpora
    teachers: list[FittedModel]
    student: FittedModel
    tokenizer: StudentTokenizer
    bundle: Bundle


def train(
    recipe: Recipe,
    store: RunStore,
    *,
    data: Path,
    until: StageName = "bundle",
    method: Method = plain,
) -> Trained | None:
    """Train the student of a recipe. Stages that are already complete are skipped.

    Args:
        recipe: the recipe.
        store: the run store.
        data: the folder of the corpora.
        until: the last stage to run.
        method: changes plain distillation as the recipe configures it.

    Returns:
        The results, or None if `until` is a stage before the bundle.

    Raises:
        TrainingError: training fails.
        QualityGateError: the student does not pass the quality gate.
    """
    config, seed = recipe.student, recipe.seed
    corpora = read_corpora(store, DataSource(recipe.data, data), seed)
    if until == "data":
        return None

    check_lengths(recipe)
    fitted = teach(recipe, store, corpora)
    models = [teacher.model for teacher in fitted]
    if until == "teacher":
        return None

    reading = EncodingPolicy(config.taught_tokens, corpora.site_suffixes)
    teachers = Teachers(models, open_encoder(recipe.teacher.encoder, reading), config.teacher_view)
    soft = teachers.soft_labels(store, corpora)
    if until == "soft-labels":
        return None

    tokenizer = StudentTokenizer.choose(store, corpora, student_origin(recipe), config)
    encoder = tokenizer.reads(config.fit.max_tokens)
    start = StudentStart(models[0], config, tokenizer)
    gold = GoldLabels(corpora, encoder)
    learning = method(Distilled(config, start, gold, teachers, recipe.weights, seed))
    student = fit_student(
        store,
        learning.start,
        learning.data,
        learning.loss,
        config.fit,
        seed,
        sampling_temperature=recipe.data.sampling_temperature,
        validation=GoldLabels(corpora, encoder, "validation"),
    )
    if until == "student":
        return None

    lineage = Lineage(
        teacher=digest(*soft["full"].header.teacher),
        data=corpora.directory.name,
        recipe=recipe.to_json(),
    )
    bundle = package(
        store,
        student.model,
        corpora,
        tokenizer.reads(config.max_tokens),
        lineage,
        name=config.name or recipe.name,
        max_int8_loss=recipe.quality.max_int8_loss,
        version=__version__,
    )
    return Trained(recipe, data, store, corpora, fitted, student, tokenizer, bundle)


def teach(
    recipe: Recipe,
    store: RunStore,
    corpora: Corpora,
    fit: Callable[..., FittedModel] = fit_teacher,
) -> list[FittedModel]:
    """Fit a teacher for each seed of a recipe. Pass `fit_teacher.open` as `fit` to only open them."""
    config = recipe.teacher
    encoder = open_encoder(
        config.encoder, EncodingPolicy(config.fit.max_tokens, corpora.site_suffixes)
    )
    return [
        fit(
            store,
            FreshHeads(Pretrained(config.encoder), corpora.labels, config.fit.dropout),
            GoldLabels(corpora, encoder),
            HardLoss(recipe.weights),
            config.fit,
            seed,
            sampling_temperature=recipe.data.sampling_temperature,
            validation=GoldLabels(corpora, encoder, "validation"),
        )
        for seed in config.seeds
    ]


def student_origin(recipe: Recipe, student: StudentConfig | None = None) -> Pretrained:
    """Return the encoder that the student's layers and tokenizer come from."""
    name = (student or recipe.student).encoder
    return Pretrained(recipe.teacher.encoder if name == "teacher" else name)


def check_lengths(recipe: Recipe) -> None:
    """Raise RecipeError if a configured input length is too long for its encoder."""
    teacher, student = recipe.teacher, recipe.student
    seen = {"student.fit.max_tokens": student.fit.max_tokens}  # the teacher reads it, too
    check_max_tokens(teacher.encoder, {"teacher.fit.max_tokens": teacher.fit.max_tokens, **seen})
    origin = student_origin(recipe).name
    check_max_tokens(origin, {**seen, "student.max_tokens": student.max_tokens})
