from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from newsie.data import wordpiece_cache as pieces
from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy
from newsie.data.readers import read_articles
from newsie.data.wordpiece_cache import PieceCache
from tests.test_sample import SAMPLE
from tests.tiny import tiny_articles, tiny_tokenizer

CACHE = PieceCache(tiny_tokenizer())
PLAIN = tiny_tokenizer()
# What news is made of, and what could lie between words without being a blank.
ALPHABET = "goalcupAÉéßİıΣς09 \n.,'’“”‘–—…-_%&$€£©™•·½\u0301\u0338\u200d\u00ad漢字한あअ🎉[]#"


@given(st.text(ALPHABET, max_size=60) | st.text(max_size=40))
@example("[MASK] the goal [SEP] cup")
@example("=\u0338 goal’\u0301s cup\u0301, naïve—Ünïcode")
@example("x" * 200 + " cup")
@example("0\x1f0 a\u2003b")
def test_pieces_are_those_of_the_tokenizer(text: str) -> None:
    assert CACHE.ids(text) == PLAIN.encode(text, add_special_tokens=False).ids
    assert CACHE.ids(text) == PLAIN.encode(text, add_special_tokens=False).ids  # now looked up


def test_an_encoder_cuts_where_its_tokenizer_does() -> None:
    tool = Encoder(tiny_tokenizer(), EncodingPolicy(16))
    plain = tiny_tokenizer()
    plain.enable_truncation(16)
    articles = [*read_articles(SAMPLE), *tiny_articles(50), Article("goal")]
    found = tool.encode(articles)
    for ids, truncated, text in zip(found.ids, found.truncated, map(_text, articles), strict=True):
        wanted = plain.encode(text)
        assert (ids, truncated) == (wanted.ids, bool(wanted.overflowing))


def _text(article: Article) -> str:
    from newsie.data.encoding import view_text

    return view_text(article, "full")[: 16 * 8]


def test_other_tokenizers_are_asked_for_every_text() -> None:
    bytes_, named = tiny_tokenizer(), tiny_tokenizer()
    bytes_.pre_tokenizer = ByteLevel()
    named.add_tokens([AddedToken("the cup", normalized=True)])
    for tokenizer in (bytes_, named):
        assert not PieceCache.suits(tokenizer)
        tool = Encoder(Tokenizer.from_str(tokenizer.to_str()), EncodingPolicy(16))
        [ids], _ = tool.encode([Article("goal the cup")])
        assert ids == tokenizer.encode("goal the cup").ids


def test_only_so_many_words_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_WORDS", 3)
    cache = PieceCache(tiny_tokenizer())
    text = "goal cup match the goal league"
    assert cache.ids(text) == PLAIN.encode(text, add_special_tokens=False).ids
    assert list(cache) == ["goal", "cup", "match"]
    assert "y" * 65 not in (cache.ids("y" * 65) and cache)


def test_several_threads_may_look_up_at_once() -> None:
    cache, barrier = PieceCache(tiny_tokenizer()), threading.Barrier(4)
    texts = [f"{article.headline} {article.body}" for article in tiny_articles(40)]

    def look_up(_: int) -> list[list[int]]:
        barrier.wait()
        return [cache.ids(text) for text in texts]

    with ThreadPoolExecutor(4) as executor:
        answers = list(executor.map(look_up, range(4)))
    assert answers == [[PLAIN.encode(t, add_special_tokens=False).ids for t in texts]] * 4
