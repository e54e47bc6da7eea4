"""What moves an answer, word by word: occlusion of the int8 student, gradients of the float one.

W words, T tokens, H hidden, B batch. Every method gives (W,) for one article, one task and one label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from newsie.data.articles import Article
from newsie.data.encoding import Encoder, pad
from newsie.errors import InputError
from newsie.inference.classifier import Classifier
from newsie.inference.explanation import NO_WORD, occlude, split_words
from newsie.metrics.evaluation import softmax
from newsie.training.model import MultiTaskModel

__all__ = ["Attributions", "Reading"]

Floats = NDArray[np.float64]

BATCH = 16
"""Texts that are computed together."""


@dataclass(frozen=True)
class Reading:
    """One article as the students read it.

    Attributes:
        ids: (T,) token ids.
        owners: (T,) the word of each token.
        words: W.
    """

    ids: list[int]
    owners: NDArray[np.int64]
    words: int

    def without(self, gone: Sequence[int], mask_id: int | None = None) -> list[int]:
        """The token ids without some words, or with a mask in the place of each of their tokens."""
        owners = np.where(np.isin(self.owners, gone), 0, NO_WORD)
        return next(occlude(self.ids, owners, 1, mask_id=mask_id))


class Attributions:
    """All methods, of one student in its two forms.

    Args:
        classifier: the int8 student.
        student: the float student that it was made of.
        steps: of the integral of integrated gradients.

    Raises:
        InputError: the two do not answer the same tasks with the same labels.
    """

    def __init__(self, classifier: Classifier, student: MultiTaskModel, steps: int) -> None:
        if classifier.labels.fingerprint() != student.labels.fingerprint():
            raise InputError("bundle and float student have other labels; give those of one run")
        self.classifier, self.student, self.steps = classifier, student.eval(), steps
        self.temperatures = classifier.bundle.manifest.calibration
        bundle = classifier.bundle
        self.encoder = Encoder.from_file(bundle.tokenizer_path, bundle.manifest.encoding)
        self.mask_id = self.encoder.tokenizer.token_to_id("[MASK]")

    def read(self, article: Article, max_words: int) -> Reading:
        """The words of an article."""
        read = self.encoder.read(article)
        words, owners, _ = split_words(read, article, max_words)
        return Reading(read.ids, owners, len(words))

    def probabilities(self, ids: Sequence[Sequence[int]]) -> dict[str, Floats]:
        """The int8 student's answers to texts, task -> (B, C)."""
        tasks = self.classifier.tasks
        parts = [
            self.classifier.run_batch(ids[at : at + BATCH], tasks)
            for at in range(0, len(ids), BATCH)
        ]
        return {
            task: softmax(np.concatenate([part[task] for part in parts]) / self.temperatures[task])
            for task in tasks
        }

    def float_probabilities(self, ids: Sequence[Sequence[int]]) -> dict[str, Floats]:
        """The float student's."""
        parts = []
        with torch.no_grad():
            for at in range(0, len(ids), BATCH):
                found = self.student(*map(torch.from_numpy, pad(ids[at : at + BATCH], 0)))
                parts.append({task: logits.numpy() for task, logits in found.items()})
        return {
            task: softmax(np.concatenate([part[task] for part in parts]) / temperature)
            for task, temperature in self.temperatures.items()
        }

    def occlusion(
        self, reading: Reading, *, masked: bool = False, quantized: bool = True
    ) -> dict[str, Floats]:
        """What is lost without each word, task -> (W, C)."""
        mask_id = self.mask_id if masked else None
        rows = [
            reading.ids,
            *occlude(reading.ids, reading.owners, reading.words, mask_id=mask_id),
        ]
        found = self.probabilities(rows) if quantized else self.float_probabilities(rows)
        return {task: answer[0] - answer[1:] for task, answer in found.items()}

    def gradient_times_input(self, reading: Reading, task: str, label: int) -> Floats:
        """Sum over the tokens of a word of dp/dx · x, x a token's embedding (T, H).

        Denil et al. 2014 (arXiv 1412.6815); Ancona et al. 2018 (arXiv 1711.06104).
        """
        with self._embeddings(reading.ids) as x:
            gradient = self._gradient(reading.ids, x, task, label)
        return _by_word(gradient[0] * x.inputs[0], reading)

    def integrated_gradients(self, reading: Reading, task: str, label: int) -> Floats:
        """Sum over the tokens of a word of (x - x') · mean of dp/dx on the way from x' to x, where x' is
        the embedding of padding. Sundararajan et al. 2017 (arXiv 1703.01365), midpoint rule."""
        with self._embeddings(reading.ids, self.encoder.pad_id) as x:
            total = torch.zeros_like(x.inputs[0])
            points = (np.arange(self.steps) + 0.5) / self.steps
            for at in range(0, self.steps, BATCH):
                x.scales = torch.tensor(points[at : at + BATCH], dtype=torch.float32)
                total += self._gradient(reading.ids, x, task, label).sum(dim=0)
        return _by_word(total / self.steps * (x.inputs - x.baseline)[0], reading)

    @contextmanager
    def _embeddings(self, ids: Sequence[int], baseline_id: int | None = None) -> Iterator[_Path]:
        """While this is open, the encoder's word embeddings are points of a path."""
        layer: Any = self.student.encoder.get_input_embeddings()
        inputs = layer.weight[torch.tensor([ids])].detach()
        if baseline_id is None:
            baseline = torch.zeros_like(inputs)
        else:
            baseline = layer.weight[baseline_id].detach().expand_as(inputs)
        path = _Path(inputs, baseline)
        hook = layer.register_forward_hook(lambda *_: path.points())
        try:
            yield path
        finally:
            hook.remove()

    def _gradient(self, ids: Sequence[int], path: _Path, task: str, label: int) -> Tensor:
        """dp/dx at the points of a path, (B, T, H)."""
        rows = torch.tensor([ids]).expand(len(path.scales), -1)
        logits = self.student(rows, torch.ones_like(rows))[task] / self.temperatures[task]
        assert path.leaf is not None
        total = torch.softmax(logits, dim=1)[:, label].sum()
        (gradient,) = torch.autograd.grad(total, path.leaf)
        return gradient


class _Path:
    """Points between a baseline and the inputs, both (1, T, H)."""

    def __init__(self, inputs: Tensor, baseline: Tensor) -> None:
        self.inputs, self.baseline = inputs, baseline
        self.scales = torch.ones(1)
        self.leaf: Tensor | None = None

    def points(self) -> Tensor:
        way = self.scales[:, None, None] * (self.inputs - self.baseline)
        self.leaf = (self.baseline + way).requires_grad_()
        return self.leaf


def _by_word(tokens: Tensor, reading: Reading) -> Floats:
    """(T, H) -> (W,): sums over hidden and over the tokens of each word."""
    values = tokens.sum(dim=-1).numpy().astype(np.float64)
    known = reading.owners != NO_WORD
    sums: Floats = np.zeros(reading.words)
    np.add.at(sums, reading.owners[known], values[known])
    return sums
