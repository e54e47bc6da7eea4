"""Export of one task of a student as a folder that plain transformers loads, without custom code."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor
from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertModel

from newsie.atomic import new_directory
from newsie.bundles.bundle import Bundle
from newsie.errors import BundleError, InputError
from newsie.training.card import transformers_card
from newsie.training.model import MultiTaskModel

__all__ = ["export_transformers"]

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def export_transformers(
    student: MultiTaskModel, bundle: Bundle, task: str, directory: Path
) -> None:
    """Write a DistilBertForSequenceClassification with its tokenizer and a card.

    `transformers.pipeline("text-classification", directory)` returns the calibrated probabilities of the
    student. Its heads have the layers of that class, and the calibration temperature divides the weights
    of the last layer: softmax((W x + b) / T) = softmax((W / T) x + b / T).

    Args:
        student: the float student, with a DistilBERT as its encoder.
        bundle: the student's bundle, with tokenizer, encoding and calibration.
        task: the task to export.
        directory: the folder to write, which must not exist.

    Raises:
        LabelError: the task does not exist.
        InputError: the folder exists already.
        BundleError: the encoder is not a DistilBERT.
    """
    bundle.manifest.label_space[task]
    if directory.exists():
        raise InputError(f"{directory} exists already; choose another name, or remove it")
    model = _sequence_classifier(student, task, bundle.manifest.calibration[task])
    with new_directory(directory) as aside:
        model.save_pretrained(aside)
        _write_tokenizer(bundle, aside)
        card = transformers_card(bundle.manifest, task)
        (aside / "README.md").write_text(card, encoding="utf-8")


def _sequence_classifier(
    student: MultiTaskModel, task: str, temperature: float
) -> DistilBertForSequenceClassification:
    encoder = student.encoder
    if not isinstance(encoder, DistilBertModel):
        raise BundleError(
            f"a student that plain transformers loads is a DistilBERT, and this one is a "
            f"{type(encoder).__name__}; export it as ONNX, or use it through newsie"
        )
    labels = student.labels[task].labels
    config = DistilBertConfig.from_dict(encoder.config.to_dict())
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    config.seq_classif_dropout = 0.0
    model = DistilBertForSequenceClassification(config)
    weights: dict[str, Tensor] = {
        f"distilbert.{name}": value for name, value in encoder.state_dict().items()
    }
    for name, value in student.heads[task].state_dict().items():
        weights[name] = value / temperature if name.startswith("classifier.") else value
    model.load_state_dict(weights)
    return model


def _write_tokenizer(bundle: Bundle, directory: Path) -> None:
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer_path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(directory / "tokenizer.json"))
    known = {
        role: token
        for role, token in SPECIAL_TOKENS.items()
        if tokenizer.token_to_id(token) is not None
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": bundle.manifest.encoding.max_tokens,
        "model_input_names": ["input_ids", "attention_mask"],
        **known,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
