"""A DistilBERT checkpoint to measure against, where no hub can be reached."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_distilbert"]

LABELS = 14
"""As many as the task `section` has."""


def write_distilbert(directory: Path, **shape: int) -> Path:
    """Save a text classifier of the shape of distilbert-base-uncased, fp32, with its vocabulary.

    The weights are random, the labels therefore too; time and memory depend on the shape alone.

    Args:
        directory: where it goes.
        shape: what differs from distilbert-base-uncased, as DistilBertConfig names it.
    """
    from transformers import (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        DistilBertTokenizerFast,
    )

    from newsie.training.encoder import encoder_directory

    # DistilBertConfig's defaults are those of distilbert-base-uncased. MiniLM has its vocabulary.
    config = DistilBertConfig.from_dict({"num_labels": LABELS, **shape})
    DistilBertForSequenceClassification(config).save_pretrained(directory)
    tokenizer = str(Path(encoder_directory("minilm")) / "tokenizer.json")
    DistilBertTokenizerFast(tokenizer_file=tokenizer).save_pretrained(directory)
    return directory
