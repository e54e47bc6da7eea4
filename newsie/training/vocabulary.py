"""A smaller vocabulary for the student, since word embeddings make up half of a small model.

It keeps the most frequent pieces of the training articles and all single characters, so that removed pieces
can still be spelt. The kept pieces keep their embeddings; nothing is retrained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import DistilBertModel

from newsie.errors import RecipeError

__all__ = ["choose_pieces", "trim_embeddings", "trim_tokenizer"]

PADDING = ("[PAD]", "<pad>")


def choose_pieces(tokenizer: Tokenizer, counts: NDArray[np.int64], size: int) -> list[int]:
    """Return the ids of the pieces to keep, ascending: special, single-character and the most frequent ones.

    Args:
        tokenizer: a WordPiece tokenizer.
        counts: (V,) the number of occurrences of each id in the training articles.
        size: the number of pieces to keep.

    Raises:
        RecipeError: the tokenizer is not WordPiece, or `size` is too small for the required pieces.
    """
    content = _word_piece(tokenizer)
    special = {content["model"]["unk_token"], *PADDING, *_added_by(content["post_processor"])}
    needed = {token["id"] for token in content["added_tokens"]}
    needed |= {
        i
        for piece, i in content["model"]["vocab"].items()
        if piece in special or len(piece.removeprefix("##")) == 1
    }
    if len(needed) > size:
        raise RecipeError(
            f"student.vocabulary is {size:,}; special pieces and single characters alone are "
            f"{len(needed):,}. Give more, or 0 for all"
        )
    frequent = [int(i) for i in np.argsort(-counts, kind="stable") if int(i) not in needed]
    return sorted([*needed, *frequent[: size - len(needed)]])


def trim_tokenizer(tokenizer: Tokenizer, pieces: Sequence[int]) -> Tokenizer:
    """Return the tokenizer with only the given pieces, numbered in their order."""
    content = _word_piece(tokenizer)
    new = {old: number for number, old in enumerate(pieces)}
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {
        piece: new[i] for piece, i in sorted(vocabulary.items(), key=lambda x: x[1]) if i in new
    }
    for token in content["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber(content["post_processor"], new)
    return Tokenizer.from_str(json.dumps(content))


def trim_embeddings(encoder: DistilBertModel, pieces: Sequence[int]) -> None:
    """Keep only the given rows of an encoder's word embeddings, in place."""
    old = encoder.embeddings.word_embeddings
    table = nn.Embedding(len(pieces), old.embedding_dim)
    with torch.no_grad():
        table.weight.copy_(old.weight[torch.tensor(pieces)])
    encoder.embeddings.word_embeddings = table
    encoder.config.vocab_size = len(pieces)
    encoder.config.pad_token_id = None  # no special row is needed, since padding is masked


def _word_piece(tokenizer: Tokenizer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    if content["model"]["type"] != "WordPiece":
        raise RecipeError(
            f"student.vocabulary needs a WordPiece tokenizer; this one is {content['model']['type']}. "
            "Set it to 0, or choose another student.encoder"
        )
    return content


def _added_by(processor: dict[str, Any] | None) -> list[str]:
    """Return the special tokens that a post-processor adds."""
    if processor is None:
        return []
    pairs = [processor[name] for name in ("sep", "cls") if name in processor]  # BertProcessing
    return [*processor.get("special_tokens", {}), *(piece for piece, _ in pairs)]


def _renumber(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Renumber the special tokens that a post-processor adds."""
    if processor is None:
        return
    for token in processor.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [new[i] for i in token["ids"]]
    for name in ("sep", "cls"):  # BertProcessing
        if name in processor:
            processor[name][1] = new[processor[name][1]]
