"""What a student learns from, and with: training articles, what is made of them, soft labels, the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.data.encoding import VIEWS, Encoder, View
from newsie.labels import IGNORE
from newsie.training.augmentation import augment
from newsie.training.batches import TokenStore, TrainingSet
from newsie.training.config import AugmentationName, StudentConfig
from newsie.training.fingerprints import digest
from newsie.training.hidden import HiddenLoss, check_tokens
from newsie.training.losses import DistillationLoss, Loss
from newsie.training.mixtures import (
    Mixtures,
    add_mixtures,
    bisect_shares,
    boundary_pairs,
    draw_mixtures,
    mixture_logits,
)
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import SoftLabels

if TYPE_CHECKING:
    from newsie.training.pipeline import Pipeline

__all__ = ["Lessons"]

SoftByView = dict[View, dict[str, NDArray[np.float16]]]


class Lessons:
    """How teachers teach a student.

    Args:
        pipeline: gives articles, tokens, and a place for soft labels.
        teachers: whose soft labels it learns; the first gives its layers.
        student: how it learns.
        short: what the student reads of an article that is shown without its body.
        stored: soft labels of all training articles, where there are some of these teachers and of what
            they read for this student; else they are computed for the articles that are asked for.

    Raises:
        RecipeError: the student's tokens would have to be the teacher's, and are not.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        teachers: Sequence[MultiTaskModel],
        student: StudentConfig,
        *,
        short: View = "headline",
        stored: Mapping[View, SoftLabels] | None = None,
    ) -> None:
        check_tokens(student)
        # Articles that are made have no address, and teachers read none.
        assert short == "headline" or student.teacher_view == "full"
        assert short == "headline" or not student.distillation.augment
        self.pipeline, self.teachers, self.student = pipeline, teachers, student
        self.short, self.stored = short, stored

    def parts(self) -> tuple[Callable[[], MultiTaskModel], Loss]:
        """What makes a new student, and the loss that it learns with."""
        config = self.student.distillation
        answers = DistillationLoss.of(config, self.pipeline.weights, self.pipeline.absent)

        def build() -> MultiTaskModel:
            return self.pipeline.new_student(self.teachers[0], self.student)

        if config.hidden == "none":
            return build, answers
        loss = HiddenLoss(answers, self.teachers[0], config.hidden, config.hidden_weight)

        def build_watched() -> MultiTaskModel:
            student = build()
            loss.attach(student)
            return student

        return build_watched, loss

    def training_set(
        self,
        rows: NDArray[np.int64] | None = None,
        labelled: int | None = None,
        *,
        seed: int,
    ) -> TrainingSet:
        """Training articles, then those made of them and their mixtures, all with soft labels.

        Args:
            rows: of the training articles; None means all.
            labelled: how many of them keep their gold labels, the first ones; None means all.
            seed: of what is made.
        """
        student, corpora = self.student, self.pipeline.corpora
        data, name = self._everything(), corpora.name
        if rows is not None:
            data, name = data.take(rows), digest(name, rows.tolist())
        known = np.arange(len(data)) < (len(data) if labelled is None else labelled)
        labels = {task: np.where(known, column, IGNORE) for task, column in data.labels.items()}
        data = replace(data, labels=labels, soft=self._taught(rows, name))
        for kind in student.distillation.augment:
            articles = list(corpora.articles("train"))
            made_of = articles if rows is None else [articles[row] for row in rows]
            data = data.join(self._made(made_of, kind, seed, name, data))
        return self._with_mixtures(data, seed)

    def _everything(self) -> TrainingSet:
        """All training articles, in what the student reads."""
        pipeline, student = self.pipeline, self.student
        what = (pipeline.student_encoder, "train", self._max_tokens, student.vocabulary)
        data = pipeline.training_set(*what)
        if self.short == "headline":
            return data
        short = pipeline.tokens(*what, views=(self.short,))[self.short]
        return replace(data, tokens={**data.tokens, "headline": short})

    def _taught(self, rows: NDArray[np.int64] | None, name: str) -> SoftByView:
        """Soft labels of training articles; of all, where `rows` is None."""
        if self.stored is not None:
            chosen = slice(None) if rows is None else rows
            return {
                view: {task: logits[chosen] for task, logits in found.logits.items()}
                for view, found in self.stored.items()
            }
        encoder, longest = self.pipeline.recipe.teacher.encoder, self.student.taught_tokens
        tokens = self.pipeline.tokens(encoder, "train", longest)
        if rows is not None:
            tokens = {view: store.take(rows) for view, store in tokens.items()}
        return self._soft(tokens, name)

    @property
    def _max_tokens(self) -> int:
        return self.student.fit.max_tokens

    def _soft(self, tokens: Mapping[View, TokenStore], name: str) -> SoftByView:
        stores = self.pipeline.soft_labels_of(self.teachers, tokens, name, self.student)
        return {view: store.logits for view, store in stores.items()}

    def _made(
        self,
        articles: Sequence[Article],
        kind: AugmentationName,
        seed: int,
        name: str,
        data: TrainingSet,
    ) -> TrainingSet:
        """An article of one kind made of each article, labelled by the teachers alone."""
        made, pipeline = augment(articles, [kind], seed), self.pipeline
        student, taught_by = self.student, pipeline.recipe.teacher.encoder
        tool = pipeline.encoder(pipeline.student_encoder, self._max_tokens, student.vocabulary)
        ours = _encoded(made, tool)
        theirs = _encoded(made, pipeline.encoder(taught_by, student.taught_tokens))
        labels = {task: np.full(len(made), IGNORE) for task in data.labels}
        soft = self._soft(theirs, digest(name, kind, seed))
        return TrainingSet(ours, labels, data.corpus[: len(made)], soft)

    def _with_mixtures(self, data: TrainingSet, seed: int) -> TrainingSet:
        kind = self.student.distillation.mixtures
        if kind == "none":
            return data
        device = self.pipeline.accelerator.device
        models = [model.to(device) for model in self.teachers]
        options: dict[str, Any] = {"max_tokens": self._max_tokens, "device": device}
        self.pipeline.say(f"mixtures: {kind}")
        mixtures = self._mixtures(data, models, np.random.default_rng([seed, 2]), options)
        views = VIEWS if self.student.teacher_view == "same" else VIEWS[:1]
        answers: SoftByView = {
            view: {
                task: logits.astype(np.float16)
                for task, logits in mixture_logits(
                    models, data.tokens[view], mixtures, **options
                ).items()
            }
            for view in views
        }
        soft = {view: answers.get(view, answers["full"]) for view in VIEWS}
        return add_mixtures(data, mixtures, soft)

    def _mixtures(
        self,
        data: TrainingSet,
        models: Sequence[MultiTaskModel],
        random: np.random.Generator,
        options: dict[str, Any],
    ) -> Mixtures:
        if self.student.distillation.mixtures == "mix_up":
            return draw_mixtures(len(data), random)
        assert data.soft is not None  # the training set of a student has soft labels
        pairs, borders = boundary_pairs(data.soft["full"], data.labels, random)
        return bisect_shares(models, data.tokens["full"], pairs, borders, **options)


def _encoded(articles: Sequence[Article], tool: Encoder) -> dict[View, TokenStore]:
    """Token ids of articles that are not stored, in every view."""
    return {
        view: TokenStore.from_rows(tool.encode(articles, view).ids, tool.pad_id) for view in VIEWS
    }
