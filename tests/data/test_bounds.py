"""Bounds of cleaning, duplicates and encoding: the last value on each side."""

from __future__ import annotations

import time

import numpy as np
import pytest

from newsie.data.articles import Article
from newsie.data.cleaning import MAX_MARKS, clean_start, clean_text, learn_site_suffixes
from newsie.data.dialects import find_dialect
from newsie.data.duplicates import BANDS, _rows_a_band, duplicate_groups
from newsie.data.encoding import Encoder, EncodingPolicy
from newsie.data.splits import split_by_date
from tests.tiny import tiny_tokenizer

STORIES = [f"Story number {number} of the day" for number in range(40)]


def headlines(ending: str, count: int = 20) -> list[str]:
    return [f"{story}{ending}" for story in STORIES[:count]]


@pytest.mark.parametrize(
    ("name", "learnt"),
    [
        ("The News of Our Town", True),  # five words
        ("The News of Our Small Town", False),
        ("A" + "b" * 39, True),  # 40 characters
        ("A" + "b" * 40, False),
    ],
)
def test_a_name_of_a_site_is_short(name: str, learnt: bool) -> None:
    assert learn_site_suffixes(headlines(f" | {name}")) == ((name,) if learnt else ())


@pytest.mark.parametrize("separator", [" | ", " - "])
def test_an_ending_occurs_often_enough(separator: str) -> None:
    for count, expected in ((19, ()), (20, ("Gazette",))):
        assert learn_site_suffixes(headlines(f"{separator}Gazette", count)) == expected


def test_most_headlines_of_an_ending_come_from_its_publisher() -> None:
    texts = headlines(" - Gazette", 20)
    for own, expected in ((10, ()), (11, ("Gazette",))):
        publishers = ["The Gazette"] * own + ["Another Paper"] * (20 - own)
        assert learn_site_suffixes(texts, publishers) == expected


def test_a_part_of_a_publisher_is_at_least_half_of_its_name() -> None:
    for ending, expected in (("Abc", ()), ("Abcd", ("Abcd",))):
        publishers = ["Abcdefgh"] * 20
        assert learn_site_suffixes(headlines(f" - {ending}"), publishers) == expected


@pytest.mark.parametrize("count", [MAX_MARKS - 1, MAX_MARKS, MAX_MARKS + 1, 3 * MAX_MARKS])
def test_so_many_combining_marks_are_kept(count: int) -> None:
    mark = "\u0316"  # combines with no letter into another one
    found = clean_text("cafe\u0301 x" + mark * count)  # a text that has to be normalised
    assert found == "caf\u00e9 x" + mark * min(count, MAX_MARKS)


def groups(*articles: tuple[str, str]) -> list[int]:
    found = duplicate_groups([Article(headline, body) for headline, body in articles])
    return [int(first) for first in found]


def test_a_headline_that_two_articles_share_has_five_words() -> None:
    body = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"
    assert groups(("one two three four five", body), ("one two three four five", "")) == [0, 0]
    assert groups(("one two three four", body), ("one two three four", "")) == [0, 1]


def test_half_of_the_pairs_of_the_shorter_body_are_shared() -> None:
    headline = "the weather of the whole week"
    long = "alpha beta gamma " + " ".join(f"word{number}" for number in range(30))
    # The shorter one has four pairs of words, of which alpha beta and beta gamma are in the longer one.
    assert groups((headline, long), (headline, "alpha beta gamma other words")) == [0, 0]
    assert groups((headline, long), (headline, "alpha beta other kinds words")) == [0, 1]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
def test_a_pair_at_the_threshold_is_missed_once_in_a_thousand(threshold: float) -> None:
    rows = _rows_a_band(threshold)
    found = 1 - (1 - threshold**rows) ** BANDS
    assert found >= 0.999
    more = 1 - (1 - threshold ** (rows + 1)) ** BANDS
    assert more < 0.999 or rows == 16  # and no hash fewer than that allows


def test_an_article_without_headline_is_read_by_its_body_in_every_view() -> None:
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(24))
    article = Article("", "goal match striker")
    full, headline = (encoder.encode([article], view).ids for view in ("full", "headline"))
    assert full == headline
    assert len(headline[0]) == 5


def test_a_long_text_of_few_tokens_was_cut_all_the_same() -> None:
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(24))
    found = encoder.encode([Article("x" * 1_000), Article("x" * 10)])
    assert len(found.ids[0]) < 24  # a word that is too long is one unknown token
    np.testing.assert_array_equal(found.truncated, [True, False])


def test_a_pair_just_at_the_threshold_is_a_duplicate() -> None:
    # Of five pairs of words in all, four are common: a similarity of 0.8.
    assert groups(("", "one two three four five six"), ("", "one two three four five")) == [0, 0]


def test_a_tag_longer_than_what_is_read_is_no_text() -> None:
    text = f'Rain <a href="{"y" * 5_000}">falls</a> today'
    assert clean_start(text, 20) == "Rain falls today"


def test_a_split_does_not_depend_on_the_zone_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dates = ["2024-01-01T02:00:00+00:00", "2023-12-31T22:00:00+00:00"]
    try:
        for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            splits = split_by_date(dates, {"train": "2024-01-01", "test": None})
            assert splits.tolist() == ["test", "train"], zone
    finally:
        monkeypatch.undo()
        time.tzset()


def test_even_rows_count_for_more_than_known_names_of_columns() -> None:
    lines = ["headline, title, text;body\n", "Rain;falls\n", "Sun;shines\n"]
    assert find_dialect(lines, ",").delimiter == ";"
