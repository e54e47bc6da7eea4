"""Distillation: the teachers' soft labels, and the student that learns from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from newsie.data.encoding import VIEWS, Encoder, EncodingPolicy, View
from newsie.errors import RecipeError
from newsie.labels import IGNORE
from newsie.training.batches import TokenStore, TrainingSet
from newsie.training.config import StudentConfig
from newsie.training.corpora import Corpora
from newsie.training.encoder import load_encoder
from newsie.training.fingerprints import Pretrained, digest
from newsie.training.losses import DistillationLoss, Loss
from newsie.training.model import MultiTaskModel
from newsie.training.nano import nano_student
from newsie.training.progress import Progress
from newsie.training.soft_labels import (
    SoftLabels,
    SoftLabelsHeader,
    compute_soft_labels,
    load_soft_labels,
)
from newsie.training.store import RunStore, Workspace, stage
from newsie.training.student import student_from_teacher
from newsie.training.teaching import GoldLabels, Start, TrainingData, fit_model, load_fitted
from newsie.training.tokens import encode_split, open_encoder
from newsie.training.vocabulary import choose_pieces, trim_tokenizer

__all__ = [
    "Distilled",
    "Learning",
    "Method",
    "SoftLabelled",
    "SoftLogits",
    "SoftSource",
    "StudentStart",
    "StudentTokenizer",
    "Teachers",
    "fit_student",
    "label_softly",
    "plain",
    "store_soft_labels",
]

SoftLogits = Mapping[View, Mapping[str, NDArray[np.float16]]]
"""View -> task -> (N, C) logits of the teachers."""


@stage("soft-labels", opens=load_soft_labels, resumable=True)
def label_softly(
    work: Workspace,
    teachers: Sequence[MultiTaskModel],
    corpora: Corpora,
    encoder: Encoder,
    view: View,
    rows: NDArray[np.int64] | None = None,
) -> None:
    """Let the teachers label the training articles in a view.

    Args:
        work: where.
        teachers: of one label space; several are averaged as probabilities.
        corpora: the articles.
        encoder: the teachers' tokenizer, and how many tokens they read.
        view: what they read of each article.
        rows: (n,) which training articles; None means all.
    """
    tokens = encode_split(work.store, corpora, "train", encoder, view)
    data = corpora.fingerprint()
    if rows is not None:
        tokens, data = tokens.take(rows), digest(data, rows.tolist())
    store_soft_labels(work, teachers, tokens, encoder.policy.max_tokens, data, view)


def store_soft_labels(
    work: Workspace,
    teachers: Sequence[MultiTaskModel],
    tokens: TokenStore,
    max_tokens: int,
    data: str,
    view: View,
) -> None:
    """Fill a folder with the teachers' logits of articles, here or on Ray.

    Args:
        work: where.
        teachers: see `compute_soft_labels`.
        tokens: N articles.
        max_tokens: longest input in tokens.
        data: fingerprint of the articles.
        view: what the teachers read of each.
    """
    store = work.store
    models = [model.to(store.accelerator.device) for model in teachers]
    prints = [model.fingerprint() for model in models]
    labels = models[0].labels
    header = SoftLabelsHeader.of(prints, labels, data, view, max_tokens, len(tokens))
    main = store.accelerator.is_main_process
    with Progress(f"soft labels ({view})", len(tokens), enabled=main) as progress:
        if store.ray:
            if main:
                from newsie.training.ray_soft_labels import compute_soft_labels_on_ray, connect

                gpus = connect(store.ray)
                compute_soft_labels_on_ray(
                    models,
                    tokens,
                    header,
                    work.folder,
                    autocast=store.autocast,
                    gpus=gpus,
                    progress=progress,
                )
            return
        compute_soft_labels(
            models,
            tokens,
            header,
            work.folder,
            device=store.accelerator.device,
            autocast=store.autocast,
            process=store.accelerator.process_index,
            processes=store.accelerator.num_processes,
            progress=progress,
        )


@dataclass(frozen=True)
class Teachers:
    """Fitted teachers, and what they read.

    Attributes:
        models: of one label space; the first gives the student its layers.
        encoder: their tokenizer, and how many tokens they read for the soft labels.
        view: what they read of an article whose headline alone is shown to the student: "same" as the
            student, or the "full" article, as privileged information.
        temperature: how many times hotter their softmax is than the student's.
        whole: label all training articles also where only some are asked for.
    """

    models: Sequence[MultiTaskModel]
    encoder: Encoder
    view: str = "same"
    temperature: float = 1.0
    whole: bool = False

    @property
    def views(self) -> tuple[View, ...]:
        """The views that they read."""
        return VIEWS if self.view == "same" else VIEWS[:1]

    def soft_labels(
        self, store: RunStore, corpora: Corpora, rows: NDArray[np.int64] | None = None
    ) -> dict[View, SoftLabels]:
        """Return their soft labels of training articles, for every view that a student reads."""
        asked = None if self.whole else rows
        labels = {
            view: label_softly(store, self.models, corpora, self.encoder, view, asked)
            for view in self.views
        }
        if self.whole and rows is not None:
            labels = {view: found.take(rows) for view, found in labels.items()}
        return {view: labels.get(view, labels["full"]) for view in VIEWS}

    def logits(
        self, store: RunStore, corpora: Corpora, rows: NDArray[np.int64] | None = None
    ) -> SoftLogits:
        """Return their logits for training articles, as the student learns them."""
        # softmax(z / (k T)) is the softmax at T of the logits z / k: a teacher k times hotter.
        return {
            view: {
                task: (logits / self.temperature).astype(np.float16)
                for task, logits in labels.logits.items()
            }
            for view, labels in self.soft_labels(store, corpora, rows).items()
        }


class SoftSource(Protocol):
    """What gives training articles their soft labels. Has a fingerprint, as every input of a stage."""

    def logits(
        self, store: RunStore, corpora: Corpora, rows: NDArray[np.int64] | None = None
    ) -> SoftLogits:
        """Return the logits that the student learns, for every view that it reads."""
        ...


@dataclass(frozen=True)
class SoftLabelled:
    """Training articles with the teachers' soft labels, and gold labels where they are known.

    Attributes:
        gold: the articles as the student reads them.
        teachers: label them.
        labelled: how many of the articles keep their gold labels, the first ones; None means all.
    """

    gold: GoldLabels
    teachers: SoftSource
    labelled: int | None = None

    def build(self, store: RunStore) -> TrainingSet:
        """Return the articles with gold and soft labels."""
        data = self.gold.build(store)
        known = np.arange(len(data)) < (len(data) if self.labelled is None else self.labelled)
        labels = {task: np.where(known, column, IGNORE) for task, column in data.labels.items()}
        soft = self.teachers.logits(store, self.gold.corpora, self.gold.rows)
        return replace(data, labels=labels, soft=soft)


@dataclass(frozen=True)
class StudentTokenizer:
    """The tokenizer of a student: that of an encoder, or its most frequent pieces.

    Attributes:
        encoder: where layers and tokenizer come from.
        pieces: ids of the pieces that the student keeps, ascending; None keeps all.
        site_suffixes: see `EncodingPolicy`.
    """

    encoder: Pretrained
    pieces: Sequence[int] | None
    site_suffixes: tuple[str, ...]

    @classmethod
    def choose(
        cls, store: RunStore, corpora: Corpora, encoder: Pretrained, config: StudentConfig
    ) -> StudentTokenizer:
        """Choose the pieces that the training articles use most, as many as the student may have."""
        whole = cls(encoder, None, corpora.site_suffixes)
        if not config.vocabulary:
            return whole
        reading = whole.reads(config.fit.max_tokens)
        ids = encode_split(store, corpora, "train", reading, "full").ids
        counts = np.bincount(ids, minlength=reading.tokenizer.get_vocab_size())
        return replace(whole, pieces=choose_pieces(reading.tokenizer, counts, config.vocabulary))

    def reads(self, max_tokens: int) -> Encoder:
        """Return it with the longest input in tokens."""
        whole = open_encoder(self.encoder.name, EncodingPolicy(max_tokens, self.site_suffixes))
        if self.pieces is None:
            return whole
        return Encoder(trim_tokenizer(whole.tokenizer, self.pieces), whole.policy)


@dataclass(frozen=True)
class StudentStart:
    """A student before it learns: layers of its teacher, or of a pretrained encoder.

    Attributes:
        teacher: gives the label space, and its layers where the student's encoder is "teacher".
        config: the student's shape.
        tokenizer: the student's.
    """

    teacher: MultiTaskModel
    config: StudentConfig
    tokenizer: StudentTokenizer

    def build(self) -> MultiTaskModel:
        """Return a new student."""
        config, pieces = self.config, self.tokenizer.pieces
        own = None if config.encoder == "teacher" else load_encoder(self.tokenizer.encoder.name)
        if config.kind == "nano":
            source = self.teacher.encoder if own is None else own
            vectors = cast(Tensor, source.get_input_embeddings().weight)
            return nano_student(
                self.teacher.labels,
                vectors if pieces is None else vectors[list(pieces)],
                hidden_size=config.hidden_size,
                pairs=config.pairs,
                dropout=config.fit.dropout,
            )
        return student_from_teacher(
            self.teacher, config.layers, encoder=own, dropout=config.fit.dropout, pieces=pieces
        )


@dataclass(frozen=True)
class Learning:
    """What a student starts as, what it learns from, and what it minimises.

    Attributes:
        start: its first weights.
        data: its articles.
        loss: its loss.
    """

    start: Start
    data: TrainingData
    loss: Loss


@dataclass(frozen=True)
class Distilled:
    """Plain distillation of a student, before a method changes it.

    Attributes:
        config: the student.
        start: its first weights.
        gold: its articles with gold labels.
        teachers: give these soft labels.
        labelled: how many of them keep their gold labels; see `SoftLabelled`.
        weights: factor of each task's loss.
        seed: of what a method draws.
    """

    config: StudentConfig
    start: Start
    gold: GoldLabels
    teachers: Teachers
    weights: Mapping[str, float]
    seed: int
    labelled: int | None = None

    @property
    def data(self) -> SoftLabelled:
        """The articles with gold and soft labels."""
        return SoftLabelled(self.gold, self.teachers, self.labelled)

    @property
    def learning(self) -> Learning:
        """The student as plain distillation teaches it."""
        loss = DistillationLoss.of(self.config.distillation, self.weights)
        return Learning(self.start, self.data, loss)


Method = Callable[[Distilled], Learning]
"""Makes of plain distillation what a recipe asks for: another loss, another training set, or both."""


def plain(distilled: Distilled) -> Learning:
    """Distil with soft labels alone.

    Raises:
        RecipeError: the recipe asks for one of the laboratory's methods.
    """
    if asked := distilled.config.distillation.extras:
        raise RecipeError(
            f"student.distillation.{asked[0]} is a method of the laboratory; pass "
            "method=newsie.laboratory.methods.extended"
        )
    return distilled.learning


fit_student = stage("student", opens=load_fitted, resumable=True)(fit_model)
