from __future__ import annotations

import pytest

from newsie.data.columns import ALIASES, Columns, find_columns
from newsie.errors import ReadError


def test_names_are_found_whatever_their_case() -> None:
    names = ["ID", "Title", "short_description", "Pub Date", "Outlet", "LINK", "label"]
    assert find_columns(names) == Columns(
        headline="Title",
        body="short_description",
        id="ID",
        publisher="Outlet",
        published="Pub Date",
        url="LINK",
    )


@pytest.mark.parametrize("field", ALIASES)
def test_every_alias_is_found(field: str) -> None:
    for alias in ALIASES[field]:
        names = [alias, "title" if field != "headline" else "text"]
        assert getattr(find_columns(names), field) == alias


def test_the_better_name_wins() -> None:
    columns = find_columns(["description", "content", "body", "title", "headline"])
    assert (columns.headline, columns.body) == ("headline", "body")


def test_text_alone_is_the_body() -> None:
    assert find_columns(["text", "label"]) == Columns(body="text")


def test_an_override_is_taken_whatever_the_names() -> None:
    names = ["headline", "Long Text", "body"]
    columns = find_columns(names, {"body": "long_text"})
    assert (columns.headline, columns.body) == ("headline", "Long Text")


def test_a_column_is_used_once() -> None:
    columns = find_columns(["title", "text"], {"headline": "text"})
    assert columns == Columns(headline="text")


def test_accents_and_plurals_do_not_count() -> None:
    for name in ("\u00dcberschriften", "U\u0308BERSCHRIFT", "Uberschrift", "T\u00edtulo", "Titles"):
        assert find_columns(["x", name]).headline == name


def test_the_close_match_is_shown_first() -> None:
    names = [f"c{i}" for i in range(100)]
    with pytest.raises(ReadError, match=r"are: Headlin3s, c0, .*--columns headline=Headlin3s "):
        find_columns([*names, "Headlin3s"])
    with pytest.raises(ReadError, match="are: text_1, c0"):
        find_columns([*names, "text_1"], {"body": "text1x"})


def test_a_header_that_is_missing() -> None:
    with pytest.raises(ReadError, match=r"'Late goal wins the cup.*header seems to be missing"):
        find_columns(["sport", "Late goal wins the cup for the home side"])


def test_describe() -> None:
    assert find_columns(["Title", "text"]).describe() == "headline <- 'Title', body <- 'text'"


@pytest.mark.parametrize(
    ("names", "overrides", "parts"),
    [
        (["a", "b"], {}, ["the columns are: a, b", "headline, title", "body, text", "--columns"]),
        ([], {}, ["the columns are: none"]),
        (["title"], {"body": "txet"}, ["'txet'", "the columns are: title"]),
        (["title", "text"], {"body": "txet"}, ["did you mean 'text'?"]),
        (["title"], {"heading": "title"}, ["'heading'", "headline, body, id"]),
    ],
)
def test_errors_tell_what_there_is(
    names: list[str], overrides: dict[str, str], parts: list[str]
) -> None:
    with pytest.raises(ReadError) as error:
        find_columns(names, overrides, path="news.csv")
    for part in ["news.csv", *parts]:
        assert part in str(error.value)
