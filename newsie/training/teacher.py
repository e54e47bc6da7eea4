"""The teacher of a finished run, to be asked like a classifier: what did the student not learn of it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from newsie.bundle import read_bundle
from newsie.data.articles import Article
from newsie.data.encoding import Encoder
from newsie.errors import InputError
from newsie.evaluation import softmax
from newsie.labels import LabelSpace
from newsie.prediction import Prediction
from newsie.training.batches import TokenStore
from newsie.training.fingerprints import digest
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import compute_logits, read_header
from newsie.training.tokens import open_encoder

__all__ = ["Teacher", "open_teacher"]

WINDOW_ARTICLES = 1_024


@dataclass(frozen=True)
class Teacher:
    """Answers articles as `Classifier` does; its probabilities are not calibrated.

    Attributes:
        models: one for each seed, on `device`.
        encoder: their tokenizer, with the policy of their students.
        fingerprint: of all their weights.
        device: where they are.
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
        """The articles in their order, each with the answers; see `Classifier.classify_stream`."""
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
    """The teacher of the newest bundle of a run, which nobody has to be at work on.

    Args:
        run: folder of `newsie train`: runs/NAME.

    Raises:
        InputError: the run is not finished, or its teacher is gone.
    """
    bundles = sorted(run.glob("bundle-*"), key=lambda path: path.stat().st_mtime)
    if not bundles:
        raise InputError(
            f"{run} holds no bundle-*: newsie train has not ended there; let it end first"
        )
    manifests = [read_bundle(path).manifest for path in bundles]
    lineage = manifests[-1].lineage
    # Of a ladder of students, what the one reads that reads most.
    policies = [m.encoding for m in manifests if m.lineage.teacher == lineage.teacher]
    policy = max(policies, key=lambda policy: policy.max_tokens)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    models = [model.to(device) for model in _teachers(run, lineage.teacher)]
    encoder = open_encoder(lineage.recipe["teacher"]["encoder"], policy)
    return Teacher(models, encoder, lineage.teacher, device)


def _teachers(run: Path, fingerprint: str) -> list[MultiTaskModel]:
    """The models of a teacher, in the order in which it was taught by them."""
    found = (MultiTaskModel.load(path).eval() for path in run.glob("teacher-*/model"))
    models = {model.fingerprint(): model for model in found}
    for directory in run.glob("soft-labels-*"):
        prints = read_header(directory).teacher
        if digest(*prints) == fingerprint and models.keys() >= set(prints):
            return [models[name] for name in prints]
    raise InputError(f"{run} no longer holds the teacher of its newest bundle; train it again")
