"""Fitting of a model: initial weights, training data, and the stage that fits the teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from newsie.atomic import new_directory, write_text
from newsie.data.encoding import VIEWS, Encoder, View
from newsie.labels import IGNORE, LabelSpace
from newsie.metrics.evaluation import macro_f1
from newsie.training.batches import Batches, TrainingSet
from newsie.training.checkpoints import Checkpoints
from newsie.training.config import FitConfig
from newsie.training.corpora import Corpora
from newsie.training.encoder import load_encoder
from newsie.training.fingerprints import Pretrained
from newsie.training.loop import History, fit
from newsie.training.losses import Loss
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import compute_logits
from newsie.training.store import RunStore, Workspace, stage
from newsie.training.tokens import encode_split

__all__ = [
    "FittedModel",
    "FreshHeads",
    "GoldLabels",
    "Start",
    "TrainingData",
    "fit_model",
    "fit_teacher",
    "load_fitted",
]

MODEL, HISTORY = "model", "history.json"


class Start(Protocol):
    """The initial weights of a model. They have a fingerprint, as every input of a stage has."""

    def build(self) -> MultiTaskModel:
        """Return a new model. Random weights are drawn from torch's global generator."""
        ...


class TrainingData(Protocol):
    """The articles that a model learns from. They have a fingerprint, as every input of a stage has."""

    def build(self, store: RunStore) -> TrainingSet:
        """Return the articles as a training set."""
        ...


@dataclass(frozen=True)
class FreshHeads:
    """A pretrained encoder with new heads, the initial weights of a teacher.

    Attributes:
        encoder: the encoder.
        labels: the tasks, one head each.
        dropout: the dropout of encoder and heads.
    """

    encoder: Pretrained
    labels: LabelSpace
    dropout: float

    def build(self) -> MultiTaskModel:
        """Return a new model."""
        encoder = load_encoder(self.encoder.name, self.dropout)
        return MultiTaskModel(encoder, self.labels, self.dropout)


@dataclass(frozen=True)
class GoldLabels:
    """Articles of a split with their gold labels.

    Attributes:
        corpora: the articles.
        encoder: the model's tokenizer and encoding policy.
        split: "train", "validation" or "test".
        rows: (n,) the rows of the articles in the split; None means all.
        short: the view that is read of an article that is shown without its body.
    """

    corpora: Corpora
    encoder: Encoder
    split: str = "train"
    rows: NDArray[np.int64] | None = None
    short: View = "headline"

    def build(self, store: RunStore) -> TrainingSet:
        """Return the articles without soft labels."""
        read: dict[View, View] = {"full": "full", "headline": self.short}
        tokens = {
            view: encode_split(store, self.corpora, self.split, self.encoder, read[view])
            for view in VIEWS
        }
        _, corpus = np.unique(self.corpora.corpus_names(self.split), return_inverse=True)
        data = TrainingSet(tokens, self.corpora.targets(self.split), corpus)
        return data if self.rows is None else data.take(self.rows)


@dataclass(frozen=True)
class FittedModel:
    """A fitted model.

    Attributes:
        model: the model, in evaluation mode.
        history: the losses and scores of its training.
    """

    model: MultiTaskModel
    history: History

    def fingerprint(self) -> str:
        """Return the model's fingerprint."""
        return self.model.fingerprint()


def load_fitted(folder: Path) -> FittedModel:
    """Load the model that `fit_model` saved in a folder."""
    history = History.from_json(json.loads((folder / HISTORY).read_text(encoding="utf-8")))
    return FittedModel(MultiTaskModel.load(folder / MODEL).eval(), history)


def fit_model(
    work: Workspace,
    start: Start,
    data: TrainingData,
    loss: Loss,
    config: FitConfig,
    seed: int,
    *,
    sampling_temperature: float = 1.0,
    validation: TrainingData | None = None,
    watch: Callable[[float], None] | None = None,
) -> None:
    """Fit a model, and save it with its history in the folder.

    Args:
        work: the store and the folder of the result.
        start: the initial weights.
        data: the training articles.
        loss: the loss to minimise.
        config: the settings for fitting.
        seed: the seed of new heads, order, views and dropout.
        sampling_temperature: see `DataConfig`.
        validation: the articles whose mean macro-F1 selects the best weights; None keeps the last weights.
        watch: called with each score on the validation articles.
    """
    store = work.store
    if not (work.folder / MODEL).exists():
        batches = Batches(
            data.build(store),
            config.batch_size,
            config.max_tokens,
            config.headline_share,
            sampling_temperature,
            seed,
        )
        torch.manual_seed(seed)
        model = start.build()
        history = fit(
            model,
            batches,
            loss,
            config,
            accelerator=store.accelerator,
            directory=work.folder,
            evaluate=None if validation is None else _scorer(store, validation, config, watch),
            title=work.folder.name,
        )
        if store.accelerator.is_main_process:
            _keep(model, history, work.folder)


fit_teacher = stage("teacher", opens=load_fitted, resumable=True)(fit_model)


def _keep(model: MultiTaskModel, history: History, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # without a checkpoint the folder does not exist
    write_text(folder / HISTORY, json.dumps(history.to_json(), indent=1))
    with new_directory(folder / MODEL) as aside:
        model.save(aside)
    Checkpoints(folder).clear()


def _scorer(
    store: RunStore,
    validation: TrainingData,
    config: FitConfig,
    watch: Callable[[float], None] | None,
) -> Callable[[nn.Module], float]:
    """Return a function that scores a model by its mean macro-F1 over tasks on whole articles."""
    data = validation.build(store)
    rows = np.arange(len(data))

    def score(model: nn.Module) -> float:
        logits = compute_logits(
            [model],
            data.tokens["full"],
            rows,
            max_tokens=config.max_tokens,
            device=store.accelerator.device,
            autocast=store.autocast,  # as in training
        )
        scores = []
        for task, labels in data.labels.items():
            known = labels != IGNORE
            if known.any():
                scores.append(macro_f1(logits[task][known].argmax(-1), labels[known]))
        mean = float(np.mean(scores))
        if watch is not None:
            watch(mean)
        return mean

    return score
