"""The teacher of a finished run, with the interface of a classifier, to compare with its student."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from newsie.bundles.bundle import read_bundle
from newsie.data.articles import Article
from newsie.data.encoding import Encoder
from newsie.errors import InputError
from newsie.inference.prediction import Prediction
from newsie.labels import LabelSpace
from newsie.metrics.evaluation import softmax
from newsie.training.batches import TokenStore
from newsie.training.fingerprints import digest
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import compute_logits, read_header
from newsie.training.tokens import open_encoder

__all__ = ["Teacher", "open_teacher"]

WINDOW_ARTICLES = 1_024


@dataclass(frozen=True)
class Teacher:
    """A classifier of articles like `Classifier`. Its probabilities are not calibrated.

    Attributes:
        models: one model for each seed, on `device`.
        encoder: their tokenizer, with the encoding policy of their students.
        fingerprint: the fingerprint of all their weights.
        device: the device of the models.
    """

    models: Sequence[MultiTaskModel]
    encoder: Encoder
    fingerprint: str
    device: torch.device

    @property
    def labels(self) -> LabelSpace:
        """The tasks."""
        return self.models[0].labels

    def classify_stream(
        self, articles: Iterable[Article], *, tasks: Sequence[str] | None = None
    ) -> Iterator[tuple[Article, Prediction]]:
        """Yield the articles in order, each with its prediction; see `Classifier.classify_stream`."""
        source = iter(articles)
        while window := list(islice(source, WINDOW_ARTICLES)):
            encoded = self.encoder.encode(window)
            logits = compute_logits(
                self.models,
                TokenStore.from_rows(encoded.ids, self.encoder.pad_id),
                np.arange(len(window)),
                max_tokens=self.encoder.policy.max_tokens,
                device=self.device,
            )
            found = {task: softmax(logits[task]) for task in tasks or self.labels.names}
            for row, article in enumerate(window):
                answers = {task: probabilities[row] for task, probabilities in found.items()}
                yield article, Prediction(self.labels, answers, bool(encoded.truncated[row]))


def open_teacher(run: Path) -> Teacher:
    """Open the teacher of the newest bundle of a run.

    Args:
        run: the folder that `newsie train` wrote: runs/NAME.

    Raises:
        InputError: the run is not finished, or its teacher is missing.
    """
    bundles = sorted(run.glob("bundle-*"), key=lambda path: path.stat().st_mtime)
    if not bundles:
        raise InputError(
            f"{run} holds no bundle-*: newsie train has not ended there; let it end first"
        )
    manifests = [read_bundle(path).manifest for path in bundles]
    lineage = manifests[-1].lineage
    # Students of a ladder may differ in their longest input; the largest one is used.
    policies = [m.encoding for m in manifests if m.lineage.teacher == lineage.teacher]
    policy = max(policies, key=lambda policy: policy.max_tokens)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    models = [model.to(device) for model in _teachers(run, lineage.teacher)]
    encoder = open_encoder(lineage.recipe["teacher"]["encoder"], policy)
    return Teacher(models, encoder, lineage.teacher, device)


def _teachers(run: Path, fingerprint: str) -> list[MultiTaskModel]:
    """Return the models of a teacher, in the order in which its soft labels were computed."""
    found = (MultiTaskModel.load(path).eval() for path in run.glob("teacher-*/model"))
    models = {model.fingerprint(): model for model in found}
    for directory in run.glob("soft-labels-*"):
        prints = read_header(directory).teacher
        if digest(*prints) == fingerprint and models.keys() >= set(prints):
            return [models[name] for name in prints]
    raise InputError(f"{run} no longer holds the teacher of its newest bundle; train it again")
