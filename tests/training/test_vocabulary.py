from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from newsie.errors import RecipeError
from newsie.training.encoder import encode_first
from newsie.training.vocabulary import choose_pieces, trim_embeddings, trim_tokenizer
from tests.tiny import COMMON, WORDS, tiny_articles, tiny_encoder, tiny_tokenizer

WHOLE_WORDS = {*COMMON.split(), *" ".join(WORDS.values()).split()} - {"a"}


def counts() -> np.ndarray:
    tokenizer = tiny_tokenizer()
    ids = [i for a in tiny_articles(50) for i in tokenizer.encode(a.headline).ids]
    return np.bincount(ids, minlength=tokenizer.get_vocab_size())


def test_frequent_pieces_and_single_characters_are_kept() -> None:
    tokenizer = tiny_tokenizer()
    pieces = choose_pieces(tokenizer, counts(), 100)
    assert len(pieces) == 100
    assert pieces == sorted(set(pieces))
    kept = {tokenizer.id_to_token(i) for i in pieces}
    assert {"[CLS]", "[SEP]", "[UNK]", "[PAD]", "a", "##z", "?"} <= kept
    words = [i for i in pieces if tokenizer.id_to_token(i) in WHOLE_WORDS]
    left_out = [i for i in range(tokenizer.get_vocab_size()) if i not in pieces]
    assert words
    assert max(counts()[left_out]) <= min(counts()[words])


def test_trimmed_text_is_spelt_with_what_is_left() -> None:
    tokenizer = tiny_tokenizer()
    pieces = choose_pieces(tokenizer, counts(), 100)
    trimmed = trim_tokenizer(tokenizer, pieces)
    assert trimmed.get_vocab_size() == 100
    for article in tiny_articles(30, seed=7):
        tokens = trimmed.encode(article.headline).tokens
        assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
        assert "[UNK]" not in tokens
        spelt = "".join(token.removeprefix("##") for token in tokens[1:-1])
        assert spelt == article.headline.replace(" ", "")


def test_an_article_of_kept_pieces_is_encoded_as_before() -> None:
    tokenizer, encoder = tiny_tokenizer(), tiny_encoder("distilbert")
    encoder.eval()  # type: ignore[no-untyped-call]
    pieces = choose_pieces(tokenizer, counts(), 120)
    kept = {tokenizer.id_to_token(i) for i in pieces}
    text = " ".join(word for word in ["goal", "the", "league", "says", "over", "a"] if word in kept)
    ids = torch.tensor([tokenizer.encode(text).ids])
    with torch.no_grad():
        before = encode_first(encoder, ids, torch.ones_like(ids))
        trim_embeddings(encoder, pieces)  # type: ignore[arg-type]
        new = torch.tensor([trim_tokenizer(tokenizer, pieces).encode(text).ids])
        after = encode_first(encoder, new, torch.ones_like(new))
    assert new.tolist() != ids.tolist()
    torch.testing.assert_close(after, before)


def test_what_cannot_be_trimmed_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"student\.vocabulary is 10; .* alone are \d+"):
        choose_pieces(tiny_tokenizer(), counts(), 10)
    other = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(RecipeError, match="needs a WordPiece tokenizer; this one is WordLevel"):
        choose_pieces(other, np.ones(1, np.int64), 10)
