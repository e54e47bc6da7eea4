"""A smaller vocabulary for the student: half of a small model is its table of word pieces.

The pieces that the training articles use most are kept, and every single character, so that what was
left out can still be spelt. Rows of the table are kept with them; nothing is learnt anew.
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
    """Ids of the pieces to keep, ascending: special ones, single characters, and the most frequent.

    Args:
        tokenizer: a WordPiece tokenizer.
        counts: (V,) how often each id occurs in the training articles.
        size: how many to keep.

    Raises:
        RecipeError: the tokenizer is of another kind, or `size` is less than what must be kept.
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
    """The same tokenizer with the given pieces alone, numbered in their order."""
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
    """Keep the given rows of an encoder's table of word embeddings, in place."""
    old = encoder.embeddings.word_embeddings
    table = nn.Embedding(len(pieces), old.embedding_dim)
    with torch.no_grad():
        table.weight.copy_(old.weight[torch.tensor(pieces)])
    encoder.embeddings.word_embeddings = table
    encoder.config.vocab_size = len(pieces)
    encoder.config.pad_token_id = None  # its row is an ordinary one: padding is masked anyway


def _word_piece(tokenizer: Tokenizer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    if content["model"]["type"] != "WordPiece":
        raise RecipeError(
            f"student.vocabulary needs a WordPiece tokenizer; this one is {content['model']['type']}. "
            "Set it to 0, or choose another student.encoder"
        )
    return content


def _added_by(processor: dict[str, Any] | None) -> list[str]:
    """The special tokens that a post-processor adds."""
    if processor is None:
        return []
    pairs = [processor[name] for name in ("sep", "cls") if name in processor]  # BertProcessing
    return [*processor.get("special_tokens", {}), *(piece for piece, _ in pairs)]


def _renumber(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Ids of the special tokens that a post-processor adds."""
    if processor is None:
        return
    for token in processor.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [new[i] for i in token["ids"]]
    for name in ("sep", "cls"):  # BertProcessing
        if name in processor:
            processor[name][1] = new[processor[name][1]]
