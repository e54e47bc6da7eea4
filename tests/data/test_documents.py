from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from newsie.data.articles import Article
from newsie.data.binary import FileSource
from newsie.data.documents import open_json
from newsie.data.readers import ArticleReader, read_articles
from newsie.errors import ReadError

ROWS = [
    {"headline": "Rain again", "body": "For days.", "label": "weather"},
    {"headline": "A late goal", "body": "", "label": "sports"},
]
ARTICLES = [Article("Rain again", "For days."), Article("A late goal")]


def save(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def both(tmp_path: Path, content: Any) -> list[list[Article]]:
    """The articles of a file and of a stream with that content."""
    path = save(tmp_path / "news.json", content)
    return [read_articles(path), read_articles(io.BytesIO(path.read_bytes()))]


@pytest.mark.parametrize("orient", ["columns", "records", "index", "split", "table"])
@pytest.mark.parametrize("indent", [None, 2])
def test_what_pandas_writes(tmp_path: Path, orient: Any, indent: int | None) -> None:
    text = pandas.DataFrame(ROWS, index=[10, 20]).to_json(orient=orient, indent=indent or 0)
    assert both(tmp_path, text) == [ARTICLES, ARTICLES]


def test_pandas_lines(tmp_path: Path) -> None:
    text = pandas.DataFrame(ROWS).to_json(orient="records", lines=True)
    assert both(tmp_path, text) == [ARTICLES, ARTICLES]


def test_pandas_values_have_no_columns(tmp_path: Path) -> None:
    path = save(tmp_path / "news.json", pandas.DataFrame(ROWS).to_json(orient="values"))
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(ReadError, match="arrays without names of columns"):
            ArticleReader(source)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: {"status": "ok", "totalResults": 2, "articles": rows},
        lambda rows: {"response": {"docs": rows, "meta": {"hits": 2}}},
        lambda rows: {"response": {"status": "ok", "results": rows}},
        lambda rows: {"version": "1", "title": "A feed", "description": "News", "items": rows},
        lambda rows: {"data": rows},
        lambda rows: {"data": {"articles": rows}},
    ],
)
def test_arrays_in_objects(tmp_path: Path, wrap: Any) -> None:
    assert both(tmp_path, wrap(ROWS)) == [ARTICLES, ARTICLES]
    assert both(tmp_path, json.dumps(wrap(ROWS), indent=1)) == [ARTICLES, ARTICLES]


def test_one_article_alone(tmp_path: Path) -> None:
    article = {**ROWS[0], "images": [{"title": "An image"}], "tags": ["a", "b"]}
    assert both(tmp_path, article) == [ARTICLES[:1]] * 2
    assert both(tmp_path, json.dumps(article, indent=4)) == [ARTICLES[:1]] * 2


def test_objects_one_after_the_other(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(row, indent=2) for row in ROWS)
    assert both(tmp_path, text) == [ARTICLES, ARTICLES]


def test_lines_whose_objects_hold_arrays(tmp_path: Path) -> None:
    rows = [{**row, "items": [{"title": "Read on"}]} for row in ROWS]
    text = "\n".join(map(json.dumps, rows))
    assert both(tmp_path, text) == [ARTICLES, ARTICLES]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"total": 1, "item": [1]}, "the columns are: total, item"),
        ('{"total": 1,\n"item": [1]}', "an array of objects.*an object with: total, item"),
        ('["a", 2]', "none of the 2 rows can be read"),
        ('{"headline": "a", ', "broken JSON"),
        ("[]", "the file is empty"),
    ],
)
def test_documents_without_articles(tmp_path: Path, content: Any, message: str) -> None:
    path = save(tmp_path / "news.json", content)
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(ReadError, match=message):
            ArticleReader(source)


def test_a_table_with_cells_left_out_is_never_read_as_its_source(tmp_path: Path) -> None:
    table = {"headline": {"0": "a", "1": "b"}, "body": {"0": "c"}}
    reader = ArticleReader(save(tmp_path / "news.json", table))
    assert list(reader) == []
    assert reader.problems.counts == {"a nested value that is no text": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-32-le" else ""
    content = mark + json.dumps([{"headline": "Ça va – “oui”"}], ensure_ascii=False)
    path = tmp_path / "news.json"
    path.write_bytes(content.encode(encoding))
    [row] = open_json(FileSource(path), 1000).read([])
    assert row.content == {"headline": "Ça va – “oui”"}
