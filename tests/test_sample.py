"""The sample articles: what data/README.md promises about them."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from newsie.data.readers import ArticleReader
from newsie.labels import LabelRule
from newsie.training.config import recipe_from

DATA = Path(__file__).parent.parent / "data"
SAMPLE = DATA / "sample" / "articles.jsonl"
COLUMNS = [
    "id",
    "headline",
    "body",
    "publisher",
    "press",
    "published",
    "url",
    "section",
    "topic",
    "desk",
    "clickbait",
]
NON_ASCII = set("£àçéñ–‘’…")

Row = dict[str, str]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def definitions(heading: str) -> set[str]:
    """The labels that data/labels.md defines below a heading that begins with the given words."""
    text = (DATA / "labels.md").read_text(encoding="utf-8")
    (part,) = (p for p in re.split(r"^## ", text, flags=re.MULTILINE) if p.startswith(heading))
    return set(re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE))


def words(text: str) -> int:
    return len(text.split())


def test_every_row_has_every_column_as_text(rows: list[Row]) -> None:
    assert len(rows) == 336
    for row in rows:
        assert list(row) == COLUMNS
        assert all(isinstance(value, str) and value == value.strip() for value in row.values())


def test_ids_headlines_bodies_and_urls_are_unique(rows: list[Row]) -> None:
    assert [row["id"] for row in rows] == [f"sample-{n:03}" for n in range(1, 337)]
    for column in ("headline", "body", "url"):
        values = [row[column].casefold() for row in rows if row[column]]
        assert [value for value, n in Counter(values).items() if n > 1] == []


def test_each_section_has_twelve_articles_of_either_press(rows: list[Row]) -> None:
    counts = Counter((row["section"], row["press"]) for row in rows)
    sections, presses = definitions("section"), definitions("broadsheet")
    assert len(sections) == 14
    assert counts == {(section, press): 12 for section in sections for press in presses}


@pytest.mark.parametrize(("column", "labels"), [("topic", 6), ("desk", 27), ("clickbait", 2)])
def test_labels_are_the_defined_ones(rows: list[Row], column: str, labels: int) -> None:
    defined = definitions(column)
    assert len(defined) == labels
    assert {row[column] for row in rows} - {""} <= defined


def test_shares_of_labelled_articles(rows: list[Row]) -> None:
    assert Counter(row["clickbait"] for row in rows) == {
        "": 228,
        "clickbait": 56,
        "not_clickbait": 52,
    }
    assert {row["press"] for row in rows if row["clickbait"] == "clickbait"} == {"tabloid"}
    assert Counter(row["press"] for row in rows if row["clickbait"] == "not_clickbait").keys() == {
        "broadsheet",
        "tabloid",
    }
    assert 0.5 < sum(bool(row["topic"]) for row in rows) / len(rows) < 0.6
    assert 0.2 < sum(bool(row["desk"]) for row in rows) / len(rows) < 0.3


def test_sports_has_its_topic_and_politics_has_none(rows: list[Row]) -> None:
    topics = {(row["section"], row["topic"]) for row in rows}
    assert {topic for section, topic in topics if section == "sports"} == {"sports"}
    assert {topic for section, topic in topics if section == "politics"} == {""}


def test_each_outlet_belongs_to_one_press_and_one_address(rows: list[Row]) -> None:
    outlets = {(row["publisher"], row["press"], row["url"].split("/")[3]) for row in rows}
    assert len(outlets) == len({row["publisher"] for row in rows}) == 8
    assert Counter(press for _, press, _ in outlets) == {"broadsheet": 4, "tabloid": 4}


def test_dates_are_of_2023_and_2024_in_order_and_in_the_address(rows: list[Row]) -> None:
    dates = [date.fromisoformat(row["published"]) for row in rows]
    assert dates == sorted(dates)
    assert {day.year for day in dates} == {2023, 2024}
    for row, day in zip(rows, dates, strict=True):
        address = rf"https://example\.org/[a-z-]+/[a-z-]+/{day:%Y/%m}/[a-z0-9-]+"
        assert re.fullmatch(address, row["url"]), row["id"]


def test_the_sunday_paper_appears_on_sundays(rows: list[Row]) -> None:
    days = {
        date.fromisoformat(row["published"]).isoweekday()
        for row in rows
        if row["publisher"] == "The Sunday Whistle"
    }
    assert days == {7}


def test_lengths(rows: list[Row]) -> None:
    assert all(4 <= words(row["headline"]) <= 25 for row in rows)
    lengths = [words(row["body"]) for row in rows]
    assert lengths.count(0) == 48
    assert sum(250 <= length <= 450 for length in lengths) == 24
    assert sum(30 <= length <= 70 for length in lengths) == 336 - 48 - 24


def test_text_is_clean(rows: list[Row]) -> None:
    for row in rows:
        text = row["headline"] + row["body"]
        assert {c for c in text if not c.isascii()} <= NON_ASCII, row["id"]
        assert "\n" not in row["headline"]
        assert not re.search(r"[\t\r|<>]|  | ,|\n\n", text), row["id"]
        assert text.count('"') % 2 == 0, row["id"]


def test_the_csv_holds_the_same_rows(rows: list[Row]) -> None:
    with SAMPLE.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows


def test_the_headlines_are_of_the_sample(rows: list[Row]) -> None:
    headlines = (SAMPLE.parent / "headlines.txt").read_text(encoding="utf-8").splitlines()
    assert len(headlines) == 12
    assert set(headlines) <= {row["headline"] for row in rows}


@pytest.mark.parametrize("name", ["articles.jsonl", "articles.csv"])
def test_the_reader_finds_every_column(name: str) -> None:
    rules = {"tabloid": LabelRule("section", {"press": "tabloid"}), "desk": LabelRule("desk")}
    reader = ArticleReader(SAMPLE.parent / name, rules=rules, strict=True)
    articles = list(reader)
    assert reader.columns.chosen().keys() == {
        "headline",
        "body",
        "id",
        "publisher",
        "published",
        "url",
    }
    assert len(articles) == 336
    assert reader.label_counts["tabloid"] == 168


def test_the_recipe_in_the_readme_answers_its_tasks(rows: list[Row]) -> None:
    (text,) = re.findall(
        r"```toml\n(.*?)```", (DATA / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    recipe = recipe_from(tomllib.loads(text))
    (corpus,) = recipe.data.corpora
    assert (DATA / corpus.train).is_file()
    counts = {
        task.name: Counter(filter(None, (task.rule.label(row) for row in rows)))
        for task in recipe.data.tasks
    }
    assert len(counts["section"]) == 14
    assert set(counts["tabloid"].values()) == {12}
    assert counts["beat"]["news"] == 72
    assert "opinion" not in counts["beat"]
