from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsie.data import columns as columns_module
from newsie.data.articles import Article
from newsie.data.cleaning import clean_text
from newsie.data.columns import MAX_ALTERNATIVES, MAX_COLUMNS, Columns
from newsie.data.problems import MAX_EXAMPLES
from newsie.data.readers import MISSING, ArticleReader, read_articles
from newsie.errors import InputError, ReadError
from newsie.labels import LabelRule

CSV = """Title,text,ID,Source,Date,Link,section,press
Rain again,For days.,a1,The Example,2022-05-01,https://example.org/1,weather,broadsheet
A late goal,,a2,Example on Sunday,,,sports,tabloid
,Nothing but text.,,,,,,tabloid
"""
ARTICLES = [
    Article("Rain again", "For days.", "a1", "The Example", "2022-05-01", "https://example.org/1"),
    Article("A late goal", "", "a2", "Example on Sunday"),
    Article("", "Nothing but text."),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "news.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_a_column_without_a_name_is_no_body(tmp_path: Path) -> None:
    path = tmp_path / "frame.csv"
    path.write_text(",headline\n0,\n1,goal\n2,<p></p>\n", encoding="utf-8")
    reader = ArticleReader(path)
    assert list(reader) == [Article("goal")]
    assert reader.problems.counts == {"no text": 2}


@pytest.mark.parametrize("markup", [f"<!-- {'x ' * 9_000} -->", "&nbsp;" * 3_000, " " * 9_000])
def test_long_markup_is_no_text(path: Path, markup: str) -> None:
    path.write_text(f"headline,body\n{markup},\n,{markup}\n,{markup}goal\n", encoding="utf-8")
    reader = ArticleReader(path)
    assert [article.body for article in reader] == [f"{markup}goal"]
    assert reader.problems.counts == {"no text": 2}


def test_articles(path: Path) -> None:
    reader = ArticleReader(path)
    assert reader.columns == Columns("Title", "text", "ID", "Source", "Date", "Link")
    assert reader.column_names == [
        "Title",
        "text",
        "ID",
        "Source",
        "Date",
        "Link",
        "section",
        "press",
    ]
    assert list(reader) == ARTICLES
    assert (reader.rows, len(reader.problems)) == (3, 0)
    assert reader.problems.summary() == ""
    assert list(reader) == ARTICLES, "a file can be read again"
    assert reader.rows == 3
    assert read_articles(str(path)) == ARTICLES


def test_columns_can_be_named(path: Path) -> None:
    found = read_articles(path, columns={"headline": "source", "body": "Title"})
    assert [(a.headline, a.body) for a in found][:2] == [
        ("The Example", "Rain again"),
        ("Example on Sunday", "A late goal"),
    ]
    with pytest.raises(ReadError, match=r"news\.csv: no column 'titel'.*did you mean 'Title'"):
        ArticleReader(path, columns={"headline": "titel"})


# --- labels -------------------------------------------------------------------------------------


def test_labels(path: Path) -> None:
    rules = {
        "section": LabelRule("section", merge={"sports": "sport"}),
        "tabloid": LabelRule("Section", where={"press": "tabloid"}),
        "other": LabelRule("section", where={"press": "other"}),
        "mood": LabelRule("mood"),
        "region": LabelRule("section", where={"Region": "north"}),
    }
    reader = ArticleReader(path, rules=rules)
    assert reader.missing_rules == {"mood": "mood", "region": "Region"}
    assert reader.empty_rules == {}, "nothing is known before the first row"
    assert [article.labels for article in reader] == [
        {"section": "weather"},
        {"section": "sport", "tabloid": "sports"},
        {},
    ]
    assert reader.empty_rules == {"other": "section"}
    assert reader.label_counts == {"section": 2, "tabloid": 1}


# --- rows that cannot be used -------------------------------------------------------------------

BAD_CSV = (
    b"headline,body,id\n"
    b"Rain,For days.,1\n"  # 1
    b"Rain,For days.,2,and more\n"  # 2
    b",\xe2\x80\x8b <br> ,3\n"  # 3: a blank nobody sees, and a tag
    b"Rain,caf\x81,4\n"  # 4: no text of any encoding
    b"Rain,,5\n"
    b'Rain,"half'
)


def test_bad_rows_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_bytes(BAD_CSV)
    reader = ArticleReader(path)
    assert [article.id for article in reader] == ["1", "5"]
    assert reader.rows == 6
    assert reader.problems.counts == {
        "too many fields": 1,
        "no text": 1,
        "not UTF-8": 1,
        "broken CSV row": 1,
    }
    assert [(p.row, p.column, p.reason) for p in reader.problems.examples] == [
        (2, None, "too many fields"),
        (3, None, "no text"),
        (4, "body", "not UTF-8"),
        (6, None, "broken CSV row"),
    ]
    summary = reader.problems.summary()
    assert summary.startswith("4 rows skipped:\n  1 × too many fields\n")
    assert f"{path}, row 4, column 'body': not UTF-8" in summary


def test_rows_in_windows_1252_are_read_and_told(tmp_path: Path) -> None:
    rows = "headline,id\ncafé,1\n“Rain”,2\nSun,3\n"
    (tmp_path / "news.csv").write_bytes(rows.encode("cp1252"))
    (tmp_path / "news.txt").write_bytes("café\n“Rain”\nSun\n".encode("cp1252"))
    (tmp_path / "news.json").write_bytes(
        '[{"title": "café"}, {"title": "“Rain”"}]'.encode("cp1252")
    )
    for name in ("news.csv", "news.txt", "news.json"):
        reader = ArticleReader(tmp_path / name)
        assert [article.headline for article in reader][:2] == ["café", "“Rain”"]
        assert reader.problems.recoded == 2
        assert reader.problems.summary().startswith("2 rows are not UTF-8, read as Windows-1252; ")
        assert len(reader.problems) == 0


def test_the_share_that_was_read(tmp_path: Path) -> None:
    (tmp_path / "news.jsonl").write_text('{"title": "Rain"}\n' * 5_000)
    with gzip.open(tmp_path / "news.jsonl.gz", "wt") as stream:
        stream.write("".join(f'{{"title": "Rain {n**5}"}}\n' for n in range(20_000)))
    for name in ("news.jsonl", "news.jsonl.gz"):
        reader = ArticleReader(tmp_path / name)
        shares = [reader.share for _ in reader]
        assert shares == sorted(share for share in shares if share is not None)
        assert 0 <= (shares[0] or 0) < 0.6 < (shares[-1] or 0) <= 1
        assert reader.share == 1


def test_strict_raises_at_the_first_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_bytes(BAD_CSV)
    articles = iter(ArticleReader(path, strict=True))
    assert next(articles).id == "1"
    with pytest.raises(ReadError, match=r"news\.csv, row 2: too many fields") as error:
        next(articles)
    assert (error.value.row, error.value.column) == (2, None)


def test_a_field_beyond_the_limit(path: Path) -> None:
    reader = ArticleReader(path, max_field_chars=20)
    assert [article.id for article in reader] == ["a2", ""]
    [problem] = reader.problems.examples
    assert (
        str(problem) == f"{path}, row 1, column 'Link': field too long (21 characters, at most 20)"
    )


def test_examples_are_few_of_each_reason(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("headline,id\n" + ",1\n" * 1000 + "Rain,2,3\n", encoding="utf-8")
    reader = ArticleReader(path)
    assert list(reader) == []
    assert reader.problems.counts == {"no text": 1000, "too many fields": 1}
    assert len(reader.problems.examples) == MAX_EXAMPLES + 1
    assert reader.problems.summary(1).count("\n") == 4


# --- JSON: each row names its own columns -------------------------------------------------------


def test_columns_that_come_late_are_used(tmp_path: Path) -> None:
    rows: list[dict[str, str]] = [{"title": f"Headline {i}"} for i in range(500)]
    rows += [{"title": "Last", "text": "With a body", "Mood": "good", "x": "y"}]
    path = tmp_path / "news.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = ArticleReader(path, rules={"mood": LabelRule("mood")})
    assert reader.columns == Columns("title")
    assert reader.missing_rules == {"mood": "mood"}
    last = list(reader)[-1]
    assert last == Article("Last", "With a body", labels={"mood": "good"})
    assert reader.columns == Columns("title", "text")
    assert (reader.missing_rules, reader.empty_rules) == ({}, {})


def test_columns_named_anew_in_each_row(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    rows = ({"title": "Rain", f"column {i}": "x"} for i in range(2002))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = ArticleReader(path)
    assert len(list(reader)) == 2002
    assert len(reader.column_names) == MAX_COLUMNS == 2000
    assert reader.problems.notes == {
        "row with columns beyond the first 2,000, which are not read": 3
    }


def test_spellings_of_a_name_cost_work_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()

    def counted(name: str, plain: Callable[[str], str] = columns_module._plain) -> str:
        calls["plain"] += 1
        return plain(name)

    monkeypatch.setattr(columns_module, "_plain", counted)
    names = ["title" + "".join(ends) for ends in itertools.product("_-:./", repeat=4)]
    path = tmp_path / "news.jsonl"
    path.write_text("".join(json.dumps({name: "Rain"}) + "\n" for name in ["title", *names]))
    reader = ArticleReader(path)
    found = list(reader)
    assert found[0] == found[50] == Article("Rain")
    assert len(reader.column_names) == 626
    assert len(reader.alternatives["headline"]) == MAX_ALTERNATIVES
    assert len(found) == len(list(reader)) == 1 + MAX_ALTERNATIVES  # the other rows have no text
    assert calls["plain"] < 250 * len(names)  # and the names of the usual columns for each row


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("news.csv", "headline" + ",x" * MAX_COLUMNS + "\nRain\n"),
        ("news.csv", "headline" + "," * 400_000 + "\nRain\n"),
        ("news.tsv", "sep=\t\nheadline" + "\tx" * MAX_COLUMNS + "\nRain\n"),
        ("news.jsonl", json.dumps({"headline": "Rain"} | dict.fromkeys(map(str, range(2000))))),
        ("news.json", json.dumps([{"headline": "Rain"} | dict.fromkeys(map(str, range(2000)))])),
    ],
)
def test_too_many_columns(
    tmp_path: Path, name: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns_module, "find_column", None)  # nothing is matched
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ReadError, match=r"2,001 columns, and at most 2,000|beyond 2,000"):
        ArticleReader(path)


def test_as_many_columns_as_are_read(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    cells = [f"c{i}" for i in range(MAX_COLUMNS - 1)]
    path.write_text(",".join(["headline", *cells]) + "\n" + ",".join(["Rain", *cells]) + "\n")
    assert read_articles(path) == [Article("Rain")]


def test_the_columns_of_gold_labels_are_described(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("Title,Section\nRain,weather\n")
    rules = {"topic": LabelRule("section"), "mood": LabelRule("mood")}
    described = ArticleReader(path, rules=rules).describe_columns()
    assert "gold labels: topic <- 'Section'" in described
    assert "mood" not in described


# --- streams ------------------------------------------------------------------------------------


def test_a_stream_is_read_once() -> None:
    reader = ArticleReader(io.BytesIO(b"Rain\nSun\n"))
    assert [article.headline for article in reader] == ["Rain", "Sun"]
    with pytest.raises(InputError, match="only once"):
        list(reader)


def test_dash_is_stdin() -> None:
    code = "from newsie.data.readers import read_articles as r; print(r('-'))"
    for given_, found in [
        (b"Rain\n", [Article("Rain")]),
        (b'{"title": "Rain", "id": 7}\n', [Article("Rain", id="7")]),
        ("Été\n".encode(), [Article("Été")]),
    ]:
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code],
            input=given_,
            capture_output=True,
            check=True,
        )
        assert done.stdout.decode().strip() == str(found)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, newsie.data.readers, newsie.data.writers, newsie.data.duplicates, "
        "newsie.data.splits; print({'pyarrow', 'datasets', 'datasketch', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"


# --- all formats --------------------------------------------------------------------------------

Rows = list[dict[str, str]]


def write_csv(rows: Rows, path: Path, **options: Any) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*rows[0]], **options)
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(text.getvalue().encode(), path)


def write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_json(rows: Rows, path: Path) -> None:
    write_bytes(json.dumps(rows).encode(), path)


def write_json_lines(rows: Rows, path: Path) -> None:
    write_bytes("\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(), path)


FORMATS: dict[str, Callable[[Rows, Path], None]] = {
    ".csv": write_csv,
    ".csv.gz": write_csv,
    ".tsv": lambda rows, path: write_csv(rows, path, delimiter="\t"),
    ".json": write_json,
    ".json.gz": write_json,
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
    ".jsonl.gz": write_json_lines,
    ".parquet": lambda rows, path: pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), path
    ),
    ".feather": lambda rows, path: pyarrow.feather.write_feather(
        pyarrow.Table.from_pylist(rows), str(path)
    ),
}

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
cells = cells.filter(lambda cell: not cell or cell.strip() not in MISSING)
articles = st.builds(
    Article,
    headline=cells.filter(clean_text),
    body=cells,
    id=cells,
    publisher=cells,
    published=st.none() | st.dates().map(str),
    url=cells,
)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(deadline=None, max_examples=25)
@given(given_=st.lists(articles, min_size=1, max_size=5))
def test_every_format_gives_back_the_articles(
    suffix: str, given_: list[Article], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("news") / f"news{suffix}"
    rows = [dataclasses.asdict(article) for article in given_]
    for row in rows:
        row.pop("labels")
        row["published"] = row["published"] or ""
    FORMATS[suffix](rows, path)
    reader = ArticleReader(path)
    assert list(reader) == given_
    assert reader.problems.summary() == ""


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".txt"])
@settings(deadline=None, max_examples=50)
@given(content=st.binary(min_size=1, max_size=200))
def test_whatever_the_bytes_they_are_read_or_an_error(
    suffix: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("news") / f"news{suffix}"
    path.write_bytes(b"headline,id\n" + content if suffix in (".csv", ".tsv") else content)
    try:
        reader = ArticleReader(path)
        found = list(reader)
    except ReadError:
        return
    assert reader.rows == len(found) + len(reader.problems)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_cut_anywhere_loses_only_its_end(tmp_path: Path, suffix: str) -> None:
    rows = [{"headline": f"Headline {i}", "id": str(i)} for i in range(50)]
    path = tmp_path / f"news{suffix}"
    FORMATS[suffix](rows, path)
    content = path.read_bytes()
    for size in range(1, len(content) - 1, max(1, len(content) // 50)):
        path.write_bytes(content[:size])
        try:
            reader = ArticleReader(path)
            found = list(reader)
        except ReadError:
            continue
        whole = [(article.headline, article.id) for article in found]
        expected = [(row["headline"], row["id"]) for row in rows]
        # The last row may be cut within its last cell, which nobody can know without quotation.
        assert whole[:-1] == expected[: max(0, len(whole) - 1)]
        assert reader.rows == len(found) + len(reader.problems)


# --- empty columns, marks of missing values, nested values -----------------------------------------


def read_rows(path: Path, *rows: dict[str, Any], **options: Any) -> ArticleReader:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ArticleReader(path, **options)


def test_an_empty_column_gives_way_to_the_next_row_by_row(tmp_path: Path) -> None:
    reader = read_rows(
        tmp_path / "news.jsonl",
        {"title": "A", "content": None, "description": "The striker scored.", "abstract": "x"},
        {"title": "B", "content": "The bank holds.", "description": "Rates."},
        {"title": "", "headline": "C", "content": " <br> ", "description": "", "abstract": "Rain."},
        {"title": "D", "content": "&nbsp;", "description": None},
    )
    assert reader.columns == Columns("headline", "content")
    assert reader.alternatives == {"headline": ("title",), "body": ("description", "abstract")}
    assert [(a.headline, a.body) for a in reader] == [
        ("A", "The striker scored."),
        ("B", "The bank holds."),
        ("C", "Rain."),
        ("D", "&nbsp;"),
    ]
    assert reader.problems.notes == {
        "'headline' is empty: the headline is 'title'": 3,
        "'content' is empty: the body is 'description'": 1,
        "'content' is empty: the body is 'abstract'": 1,
    }
    assert "3 × 'headline' is empty: the headline is 'title'" in reader.problems.summary()
    assert reader.describe_columns() == (
        "headline <- 'headline', body <- 'content'; 'title' where 'headline' is empty; "
        "'description', 'abstract' where 'content' is empty"
    )
    assert len(reader.problems) == 0


def test_a_column_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    row = {"title": "A", "content": None, "description": "The striker scored."}
    reader = read_rows(tmp_path / "news.jsonl", row, columns={"body": "content"})
    assert [(a.headline, a.body) for a in reader] == [("A", "")]
    assert reader.alternatives == {}


def test_an_id_is_read_from_one_column(tmp_path: Path) -> None:
    reader = read_rows(tmp_path / "news.jsonl", {"title": "A", "id": "", "guid": "7"})
    assert [a.id for a in reader] == [""]


def test_columns_that_come_late_are_alternatives(tmp_path: Path) -> None:
    rows = [{"title": "A", "text": ""}] * 200 + [{"title": "B", "text": "", "summary": "C"}]
    reader = read_rows(tmp_path / "news.jsonl", *rows)
    assert list(reader)[-1] == Article("B", "C")


@pytest.mark.parametrize("mark", [*sorted(MISSING - {""}), " NaN "])
def test_marks_of_missing_values_are_empty(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "news.csv"
    path.write_text(
        f"id,headline,body,date,label\n{mark},{mark},Text,{mark},{mark}\n1,{mark},{mark},,a\n"
    )
    reader = ArticleReader(path, rules={"label": LabelRule("label")})
    [article] = reader
    assert article == Article("", "Text", id=mark, labels={"label": mark.strip()})
    assert reader.problems.counts == {"no text": 1}
    assert reader.problems.notes == {
        "cell read as empty: it holds a mark such as NaN, null or N/A": 4
    }


def test_words_that_begin_like_a_mark_stay(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("headline,body\nNone of the above,NA beats NB\nNaNny,nulls\n")
    assert [a.headline for a in ArticleReader(path)] == ["None of the above", "NaNny"]


def test_pandas_agrees_on_what_is_missing() -> None:
    import pandas

    for mark in [*MISSING - {""}, "none", "NAN", "-", "Nil", "N.A."]:
        cell = pandas.read_csv(io.StringIO(f"a,b\n{mark},x\n"))["a"][0]
        assert (mark in MISSING) == (cell != mark), mark


def test_nested_values(tmp_path: Path) -> None:
    rules = {"section": LabelRule("section"), "press": LabelRule("press", where={"kind": "x"})}
    reader = read_rows(
        tmp_path / "news.jsonl",
        {"headline": {"main": "Rain"}, "body": ["One.", "Two."], "source": {"id": 1, "name": "T"}},
        {"headline": "Sun", "section": ["weather"], "kind": ["x"], "press": {"name": "broadsheet"}},
        {"headline": "Wind", "section": ["weather", "world"]},
        {"headline": {"de": "Hagel", "fr": "Neige"}, "section": "weather"},
        {"headline": "Fog", "body": {"de": "Nebel", "fr": "Brume"}},
        {"headline": "Ice", "body": [], "section": [], "id": {"a": 1}},
        rules=rules,
    )
    assert list(reader) == [
        Article("Rain", "One.\nTwo.", publisher="T"),
        Article("Sun", labels={"section": "weather", "press": "broadsheet"}),
        Article("Ice", id='{"a": 1}'),
    ]
    assert [(p.row, p.column, p.reason) for p in reader.problems.examples] == [
        (3, "section", "several labels in one cell, and a task has one for each article"),
        (4, "headline", "a nested value that is no text"),
        (5, "body", "a nested value that is no text"),
    ]


def test_nested_values_of_tables(tmp_path: Path) -> None:
    table = pyarrow.table({"title": ["Rain"], "text": [["One.", "Two."]], "label": [["weather"]]})
    pyarrow.parquet.write_table(table, tmp_path / "news.parquet")
    reader = ArticleReader(tmp_path / "news.parquet", rules={"label": LabelRule("label")})
    assert list(reader) == [Article("Rain", "One.\nTwo.", labels={"label": "weather"})]


def test_a_label_beyond_the_limit(tmp_path: Path) -> None:
    rows = [{"title": "A", "label": "x" * 50}, {"title": "B", "label": "y"}]
    rules = {"label": LabelRule("label")}
    reader = read_rows(tmp_path / "news.jsonl", *rows, rules=rules, max_field_chars=49)
    assert [a.headline for a in reader] == ["B"]
    assert reader.problems.examples[0].column == "label"


def test_what_is_special_is_counted_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("\nheadline,body\nRain\nSun,x,\n")
    reader = ArticleReader(path)
    for _ in range(2):
        assert len(list(reader)) == 2
        assert sum(reader.problems.notes.values()) == 3
    assert reader.problems.summary().startswith("read, but not quite as it stands:\n  1 × ")


# --- uploads ---------------------------------------------------------------------------------------


def test_an_upload_is_read_as_a_file_of_its_name(path: Path) -> None:
    reader = ArticleReader(io.BytesIO(path.read_bytes()), name="upload.csv")
    assert list(reader) == ARTICLES
    assert reader.path == "upload.csv"
    with pytest.raises(InputError, match=r"upload\.csv can be read only once"):
        list(reader)


@pytest.mark.parametrize("name", ["upload.csv.gz", "upload.json.gz", None])
def test_an_upload_that_unpacks_to_too_much_is_refused(name: str | None) -> None:
    bomb = gzip.compress(b"headline,body\n" + b"Rain,x\n" * 1_000_000)
    with pytest.raises(ReadError, match="more than 100,000 bytes"):
        list(ArticleReader(io.BytesIO(bomb), name=name, max_bytes=100_000))
