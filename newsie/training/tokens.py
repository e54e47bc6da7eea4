"""Tokenizers of pretrained encoders, and the token ids of a split on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from newsie.atomic import new_directory
from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy, View
from newsie.errors import RecipeError
from newsie.training.batches import TokenStore
from newsie.training.corpora import Corpora
from newsie.training.encoder import encoder_directory
from newsie.training.store import Workspace, stage

__all__ = ["encode_split", "load_tokens", "open_encoder", "save_tokens"]

WINDOW_ARTICLES = 8_192


def open_encoder(name: str, policy: EncodingPolicy) -> Encoder:
    """Return the tokenizer of a pretrained encoder, with an encoding policy.

    Args:
        name: see `load_encoder`.
        policy: the policy for truncating and cleaning articles.

    Raises:
        RecipeError: the encoder has no fast tokenizer.
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


def save_tokens(encoder: Encoder, articles: Iterable[Article], view: View, directory: Path) -> None:
    """Encode articles in a view and write their token ids to a new directory."""
    source = iter(articles)
    parts = [TokenStore.from_rows([], encoder.pad_id)]
    while window := list(islice(source, WINDOW_ARTICLES)):
        parts.append(TokenStore.from_rows(encoder.encode(window, view).ids, encoder.pad_id))
    lengths = np.concatenate([part.lengths for part in parts])
    with new_directory(directory) as aside:
        np.save(aside / "ids.npy", np.concatenate([part.ids for part in parts]))
        np.save(aside / "offsets.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
        (aside / "pad_id.json").write_text(json.dumps(encoder.pad_id), encoding="utf-8")


def load_tokens(directory: Path) -> TokenStore:
    """Open the token ids that `save_tokens` wrote, memory-mapped."""
    return TokenStore(
        np.load(directory / "ids.npy", mmap_mode="r"),
        np.load(directory / "offsets.npy"),
        json.loads((directory / "pad_id.json").read_text(encoding="utf-8")),
    )


@stage("tokens", opens=load_tokens)
def encode_split(
    work: Workspace, corpora: Corpora, split: str, encoder: Encoder, view: View
) -> None:
    """Encode the articles of a split in a view."""
    save_tokens(encoder, corpora.articles(split), view, work.folder)
