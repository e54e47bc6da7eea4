"""Tokenizers of encoders, and token ids of a whole split, computed once, on disk, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from newsie.atomic import new_directory
from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy, View
from newsie.errors import RecipeError
from newsie.training.batches import TokenStore
from newsie.training.encoder import encoder_directory

__all__ = ["encode_split", "open_encoder"]

WINDOW_ARTICLES = 8_192


def open_encoder(name: str, policy: EncodingPolicy) -> Encoder:
    """The tokenizer of a pretrained encoder, with a policy.

    Args:
        name: see `load_encoder`.
        policy: how to cut and clean.

    Raises:
        RecipeError: it has none that is fast.
    """
    path = Path(encoder_directory(name)) / "tokenizer.json"
    if path.exists():
        return Encoder.from_file(path, policy)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder_directory(name), trust_remote_code=False)
    if not getattr(tokenizer, "is_fast", False):
        raise RecipeError(
            f"the encoder {name!r} has no fast tokenizer (tokenizer.json); use another"
        )
    return Encoder(tokenizer.backend_tokenizer, policy)


def encode_split(
    encoder: Encoder, articles: Iterable[Article], view: View, directory: Path
) -> TokenStore:
    """Encode articles in a view, or open what was encoded before.

    Args:
        encoder: the tokenizer and its policy.
        articles: N articles.
        view: what of each is encoded.
        directory: of this tokenizer, policy and split alone.
    """
    target = directory / view
    if not target.exists():
        source = iter(articles)
        parts = [TokenStore.from_rows([], encoder.pad_id)]
        while window := list(islice(source, WINDOW_ARTICLES)):
            parts.append(TokenStore.from_rows(encoder.encode(window, view).ids, encoder.pad_id))
        lengths = np.concatenate([part.lengths for part in parts])
        with new_directory(target) as aside:
            np.save(aside / "ids.npy", np.concatenate([part.ids for part in parts]))
            np.save(
                aside / "offsets.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
            )
    return TokenStore(
        np.load(target / "ids.npy", mmap_mode="r"), np.load(target / "offsets.npy"), encoder.pad_id
    )
