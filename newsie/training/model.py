"""The multi-task model of teacher and student: an encoder with a head for each task."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from newsie.labels import LabelSpace
from newsie.training.encoder import encode_first, load_encoder

__all__ = ["Head", "MultiTaskModel"]

HEADS_FILE = "heads.safetensors"
LABELS_FILE = "labels.json"


class Head(nn.Module):
    """The classification head of one task, on the first token: (B, H) -> (B, C).

    The layers are those of DistilBertForSequenceClassification, so that one task of a student can be
    exported to plain transformers.
    """

    def __init__(self, hidden_size: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.pre_classifier = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, labels)
        for layer in (self.pre_classifier, self.classifier):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.dropout(torch.relu(self.pre_classifier(hidden)))))


class MultiTaskModel(nn.Module):
    """An encoder and a head for each task.

    Args:
        encoder: any transformers encoder whose output has `last_hidden_state` (B, T, H).
        labels: the tasks, with one head each in this order.
        dropout: the dropout of the heads.
    """

    def __init__(self, encoder: PreTrainedModel, labels: LabelSpace, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.labels = labels
        self.heads = nn.ModuleDict(
            {t.name: Head(encoder.config.hidden_size, len(t.labels), dropout) for t in labels.tasks}
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return the logits by task: input_ids and attention_mask (B, T) -> {task: (B, C_task)}."""
        first = encode_first(self.encoder, input_ids, attention_mask)
        return {name: head(first) for name, head in self.heads.items()}

    def save(self, directory: Path) -> None:
        """Write encoder (transformers format), heads and labels into an existing directory."""
        self.encoder.save_pretrained(directory)
        save_file(self.heads.state_dict(), directory / HEADS_FILE)
        labels = json.dumps(self.labels.to_json(), indent=1, ensure_ascii=False)
        (directory / LABELS_FILE).write_text(labels, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> MultiTaskModel:
        """Read a model that `save` wrote."""
        labels = json.loads((directory / LABELS_FILE).read_text(encoding="utf-8"))
        model = cls(load_encoder(str(directory)), LabelSpace.from_json(labels))
        model.heads.load_state_dict(load_file(directory / HEADS_FILE))
        return model

    def fingerprint(self) -> str:
        """Return a hex digest of all weights and labels."""
        digest = hashlib.sha256(self.labels.fingerprint().encode())
        for name, weight in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]
