"""Distillation: computing the teachers' soft labels and fitting the student on them."""

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
"""The teachers' logits by view and task, (N, C) each."""


@stage("soft-labels", opens=load_soft_labels, resumable=True)
def label_softly(
    work: Workspace,
    teachers: Sequence[MultiTaskModel],
    corpora: Corpora,
    encoder: Encoder,
    view: View,
    rows: NDArray[np.int64] | None = None,
) -> None:
    """Compute the teachers' soft labels of the training articles in a view.

    Args:
        work: the store and the folder of the result.
        teachers: models of one label space; several are averaged as probabilities.
        corpora: the articles.
        encoder: the teachers' tokenizer and encoding policy.
        view: the view of each article that the teachers read.
        rows: (n,) the rows of the training articles to label; None means all.
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
    """Compute the teachers' logits and write them to a folder, on this machine or on Ray.

    Args:
        work: the store and the folder of the result.
        teachers: see `compute_soft_labels`.
        tokens: the N articles.
        max_tokens: the longest input in tokens.
        data: the fingerprint of the articles.
        view: the view of each article that the teachers read.
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
    """Fitted teachers, and the settings for computing their soft labels.

    Attributes:
        models: models of one label space; the student may take its layers from the first.
        encoder: their tokenizer, and the encoding policy for the soft labels.
        view: the view that they read when the student sees only the headline: the "same" as the student,
            or the "full" article, as privileged information.
        temperature: the ratio of their softmax temperature to the student's.
        whole: label all training articles even if only some are requested.
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
        """Return the soft labels of training articles, for every view that a student reads."""
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
        """Return the logits for training articles that the student learns from, divided by `temperature`."""
        # softmax(z / (k T)) is the softmax of the logits z / k at T: a teacher k times hotter.
        return {
            view: {
                task: (logits / self.temperature).astype(np.float16)
                for task, logits in labels.logits.items()
            }
            for view, labels in self.soft_labels(store, corpora, rows).items()
        }


class SoftSource(Protocol):
    """A source of soft labels for training articles. It has a fingerprint, as every input of a stage has."""

    def logits(
        self, store: RunStore, corpora: Corpora, rows: NDArray[np.int64] | None = None
    ) -> SoftLogits:
        """Return the logits that the student learns from, for every view that it reads."""
        ...


@dataclass(frozen=True)
class SoftLabelled:
    """Training articles with the teachers' soft labels, and gold labels where they are known.

    Attributes:
        gold: the articles as the student reads them.
        teachers: the source of the soft labels.
        labelled: the number of articles, from the first, that keep their gold labels; None means all.
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
    """The tokenizer of a student: that of a pretrained encoder, with all its pieces or some of them.

    Attributes:
        encoder: the encoder that layers and tokenizer come from.
        pieces: the ids of the pieces that the student keeps, ascending; None keeps all.
        site_suffixes: see `EncodingPolicy`.
    """

    encoder: Pretrained
    pieces: Sequence[int] | None
    site_suffixes: tuple[str, ...]

    @classmethod
    def choose(
        cls, store: RunStore, corpora: Corpora, encoder: Pretrained, config: StudentConfig
    ) -> StudentTokenizer:
        """Return the tokenizer with the most frequent pieces in the training articles."""
        whole = cls(encoder, None, corpora.site_suffixes)
        if not config.vocabulary:
            return whole
        reading = whole.reads(config.fit.max_tokens)
        ids = encode_split(store, corpora, "train", reading, "full").ids
        counts = np.bincount(ids, minlength=reading.tokenizer.get_vocab_size())
        return replace(whole, pieces=choose_pieces(reading.tokenizer, counts, config.vocabulary))

    def reads(self, max_tokens: int) -> Encoder:
        """Return the tokenizer with a policy that truncates articles to `max_tokens`."""
        whole = open_encoder(self.encoder.name, EncodingPolicy(max_tokens, self.site_suffixes))
        if self.pieces is None:
            return whole
        return Encoder(trim_tokenizer(whole.tokenizer, self.pieces), whole.policy)


@dataclass(frozen=True)
class StudentStart:
    """The initial weights of a student: layers of its teacher or of a pretrained encoder.

    Attributes:
        teacher: the source of the label space, and of the layers if the student's encoder is "teacher".
        config: the student's shape.
        tokenizer: the student's tokenizer.
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
    """The initial weights, the training data and the loss of a student.

    Attributes:
        start: the initial weights.
        data: the training articles.
        loss: the loss.
    """

    start: Start
    data: TrainingData
    loss: Loss


@dataclass(frozen=True)
class Distilled:
    """Plain distillation of a student, before a method changes it.

    Attributes:
        config: the student's settings.
        start: the initial weights.
        gold: the training articles with gold labels.
        teachers: the source of their soft labels.
        labelled: the number of articles that keep their gold labels; see `SoftLabelled`.
        weights: the factor of each task's loss.
        seed: the seed of a method's random draws.
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
        """The training articles with gold and soft labels."""
        return SoftLabelled(self.gold, self.teachers, self.labelled)

    @property
    def learning(self) -> Learning:
        """The weights, data and loss of plain distillation."""
        loss = DistillationLoss.of(self.config.distillation, self.weights)
        return Learning(self.start, self.data, loss)


Method = Callable[[Distilled], Learning]
"""A function that changes plain distillation: its loss, its training set, or both."""


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
