from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy, view_text
from newsie.data.urls import url_words
from tests.tiny import tiny_tokenizer


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://a.example/sport/man-wins-cup-at-last-123.html", "man wins cup at last"),
        ("https://a.example/world-news/why_it_rained_so_much", "why it rained so much"),
        ("https://a.example/mayor-opens-new-bridge/story-5cZ1jhR8.html", "mayor opens new bridge"),
        (
            "https://a.example/2022/03/Zu-viel-f%C3%BCr-uns?from=big-red-front-page",
            "Zu viel für uns",
        ),
        ("/mayor-opens-bridge#comments-of-our-readers", "mayor opens bridge"),
        # Folders alone, which may be the section, are nothing.
        ("https://a.example/sport/football-news/18466779", ""),
        ("https://a-site-of-many-words.example/", ""),
        ("", ""),
    ],
)
def test_words_name_the_article_and_not_its_folder(url: str, words: str) -> None:
    assert url_words(url) == words


@given(st.text(max_size=60))
def test_any_text_is_borne(url: str) -> None:
    words = url_words(url).split()
    assert not words or len(words) >= 3


def test_a_view_of_its_own_that_may_be_blank() -> None:
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(16))
    address = "https://a.example/sport/the-striker-leaves-the-league"
    article, blank = Article("Rain", "Much rain.", url=address), Article("Rain")
    assert view_text(article, "url") == "the striker leaves the league"
    named, nothing = encoder.encode([article, blank], "url").ids
    assert named == encoder.encode([Article("the striker leaves the league")]).ids[0]
    assert len(nothing) == 2  # what begins and ends every text
