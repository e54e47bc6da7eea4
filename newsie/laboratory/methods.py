"""The laboratory's methods of distillation, each of which replaces the loss or the training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.data.encoding import VIEWS, Encoder, View
from newsie.labels import IGNORE
from newsie.laboratory.augmentation import augment
from newsie.laboratory.hidden_state_losses import HiddenLoss, check_tokens
from newsie.laboratory.mixtures import (
    MixedSet,
    Mixtures,
    add_mixtures,
    bisect_shares,
    boundary_pairs,
    draw_mixtures,
    mixture_logits,
)
from newsie.training.batches import TokenStore, TrainingSet
from newsie.training.config import AugmentationName
from newsie.training.corpora import Corpora
from newsie.training.distilling import (
    Distilled,
    Learning,
    SoftLabelled,
    Teachers,
    store_soft_labels,
)
from newsie.training.fingerprints import digest
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import load_soft_labels
from newsie.training.store import RunStore, Workspace, stage
from newsie.training.teaching import GoldLabels, Start, TrainingData

__all__ = ["Augmented", "Mixed", "WatchedStart", "extended"]


def extended(distilled: Distilled) -> Learning:
    """Add the methods that a recipe asks for to plain distillation.

    Raises:
        RecipeError: a method needs the student to have the teacher's tokens, and it does not.
    """
    config, teachers = distilled.config, distilled.teachers
    check_tokens(config)
    learning, asked = distilled.learning, config.distillation
    data: TrainingData = learning.data
    if asked.augment:
        kinds = tuple(asked.augment)
        data = Augmented(distilled.data, distilled.gold, teachers, kinds, distilled.seed)
    if asked.mixtures != "none":
        data = Mixed(data, teachers, config.fit.max_tokens, asked.mixtures, distilled.seed)
    if asked.hidden == "none":
        return replace(learning, data=data)
    loss = HiddenLoss(learning.loss, teachers.models[0], asked.hidden, asked.hidden_weight)
    return Learning(WatchedStart(learning.start, loss), data, loss)


@dataclass(frozen=True)
class WatchedStart:
    """A student whose hidden states a loss watches.

    Attributes:
        start: the student.
        loss: the loss, which may add weights to the student that are learnt with it.
    """

    start: Start
    loss: HiddenLoss

    def build(self) -> MultiTaskModel:
        """Return a new student with the loss attached."""
        student = self.start.build()
        self.loss.attach(student)
        return student


@dataclass(frozen=True)
class Augmented:
    """Training articles, and augmented ones that only the teachers label.

    Attributes:
        source: the training articles with their soft labels.
        gold: the same articles, as the student reads them.
        teachers: the teachers that label the augmented articles.
        kinds: the kinds of augmentation; each makes one article from each training article.
        seed: seed of everything drawn.
    """

    source: SoftLabelled
    gold: GoldLabels
    teachers: Teachers
    kinds: Sequence[AugmentationName]
    seed: int

    def build(self, store: RunStore) -> TrainingSet:
        """Return the articles with the augmented ones."""
        data = self.source.build(store)
        gold, teachers = self.gold, self.teachers
        # Augmented articles have no URL of their own, so neither the student nor the teachers may read it.
        assert gold.short == "headline"
        whole = data
        for kind in self.kinds:
            soft = {
                view: label_made(
                    store,
                    teachers.models,
                    gold.corpora,
                    gold.rows,
                    kind,
                    self.seed,
                    teachers.encoder,
                    view,
                ).logits
                for view in teachers.views
            }
            articles = made_articles(gold.corpora, gold.rows, kind, self.seed)
            made = TrainingSet(
                _encode(articles, gold.encoder),
                {task: np.full(len(articles), IGNORE) for task in data.labels},
                data.corpus,
                {
                    view: {
                        task: (logits / teachers.temperature).astype(np.float16)
                        for task, logits in soft.get(view, soft["full"]).items()
                    }
                    for view in VIEWS
                },
            )
            whole = whole.join(made)
        return whole


@stage("made-soft-labels", opens=load_soft_labels, resumable=True)
def label_made(
    work: Workspace,
    teachers: Sequence[MultiTaskModel],
    corpora: Corpora,
    rows: NDArray[np.int64] | None,
    kind: AugmentationName,
    seed: int,
    encoder: Encoder,
    view: View,
) -> None:
    """Store the teachers' soft labels for augmented training articles."""
    articles = made_articles(corpora, rows, kind, seed)
    tokens = TokenStore.from_rows(encoder.encode(articles, view).ids, encoder.pad_id)
    chosen = None if rows is None else rows.tolist()
    data = digest(corpora.fingerprint(), chosen, kind, seed)
    store_soft_labels(work, teachers, tokens, encoder.policy.max_tokens, data, view)


def made_articles(
    corpora: Corpora, rows: NDArray[np.int64] | None, kind: AugmentationName, seed: int
) -> list[Article]:
    """Return an augmented article of one kind for each training article."""
    articles = list(corpora.articles("train"))
    return augment(articles if rows is None else [articles[row] for row in rows], [kind], seed)


def _encode(articles: Sequence[Article], encoder: Encoder) -> dict[View, TokenStore]:
    return {
        view: TokenStore.from_rows(encoder.encode(articles, view).ids, encoder.pad_id)
        for view in VIEWS
    }


@dataclass(frozen=True)
class Mixed:
    """Training articles, and mixtures of them that only the teachers label.

    Attributes:
        source: the training articles, with soft labels.
        teachers: the teachers that label the mixtures; their tokens are the student's.
        max_tokens: the longest input in tokens.
        kind: "mix_up" or "boundary"; see `newsie.laboratory.mixtures`.
        seed: seed of everything drawn.
    """

    source: TrainingData
    teachers: Teachers
    max_tokens: int
    kind: Literal["mix_up", "boundary"]
    seed: int

    def build(self, store: RunStore) -> MixedSet:
        """Return the articles with their mixtures."""
        data, device = self.source.build(store), store.accelerator.device
        models = [model.to(device) for model in self.teachers.models]
        store.say(f"mixtures: {self.kind}")
        mixtures = self._choose(data, models, store)
        soft = {
            view: {
                task: logits.astype(np.float16)
                for task, logits in mixture_logits(
                    models, data.tokens[view], mixtures, max_tokens=self.max_tokens, device=device
                ).items()
            }
            for view in self.teachers.views
        }
        return add_mixtures(data, mixtures, {view: soft.get(view, soft["full"]) for view in VIEWS})

    def _choose(
        self, data: TrainingSet, models: Sequence[MultiTaskModel], store: RunStore
    ) -> Mixtures:
        random = np.random.default_rng([self.seed, 2])
        if self.kind == "mix_up":
            return draw_mixtures(len(data), random)
        assert data.soft is not None  # the training set of a student has soft labels
        pairs, borders = boundary_pairs(data.soft["full"], data.labels, random)
        return bisect_shares(
            models,
            data.tokens["full"],
            pairs,
            borders,
            max_tokens=self.max_tokens,
            device=store.accelerator.device,
        )
