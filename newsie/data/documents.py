"""Readers of whole JSON documents: an array, an object that contains one, or a table that pandas wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from newsie.data.binary import Source, read_whole
from newsie.data.columns import has_text_column
from newsie.data.lines import first_lines, open_json_lines, starts_object
from newsie.data.nested import TEXT_KEYS, TYPED_KEYS
from newsie.data.records import (
    BadRow,
    RecodedRow,
    Record,
    Records,
    Row,
    all_columns,
    as_text,
    cut_off,
    recode,
)
from newsie.errors import ReadError

__all__ = ["find_rows", "holds_lines", "open_json", "rows_of"]

MAX_DOCUMENT_BYTES = 256 * 2**20
"""The largest JSON document, which is held in memory and takes several times its size there."""

ARRAY_KEYS = (
    *("data", "articles", "items", "results", "docs", "hits", "news", "stories", "entries"),
    *("records", "rows", "value", "response"),
)
"""The usual keys of the array of articles in an object, which may be nested: {"response": {"docs":
[...]}}."""

_OBJECT_KEYS = frozenset((*TEXT_KEYS, *TYPED_KEYS))

_ADVICE = (
    "and a JSON array has to be held in memory; write it as JSON Lines, an object a line, which is read "
    "line by line (jq -c '.[]' FILE.json > FILE.jsonl)"
)
_ALLOWED = (
    'must hold an array of objects, [{...}, ...] or {"data": [...]}, an object a line, or what pandas\' '
    "to_json writes"
)


def open_json(source: Source, limit: int) -> Records:
    """Open the rows of a JSON document of up to `MAX_DOCUMENT_BYTES`, which is held in memory, or of JSON
    Lines of any size.

    Raises:
        ReadError: the document is too large or damaged, or has no rows.
    """
    if holds_lines(source, limit):
        return open_json_lines(source, limit)
    content = read_whole(source, MAX_DOCUMENT_BYTES, _ADVICE)
    rows = enumerate(_document_rows(source.name, content), 1)
    records = [Record(number, row) for number, row in rows]
    return Records(all_columns(source.name, records[:1000]), lambda _wanted: iter(records))


def holds_lines(source: Source, limit: int) -> bool:
    """Return True if JSON begins with one object per line, rather than with a document. The second line of
    a stream is read only if the first one does not decide."""
    first, second = first_lines(source, limit, lambda line: not _is_row(line))
    return starts_object(first) and (_is_row(first) or starts_object(second))


def _is_row(line: bytes) -> bool:
    """Return True if a line is a JSON object that is one article."""
    value = _load(line)
    return isinstance(value, dict) and not _is_table(value) and find_rows(value) is None


def _load(line: bytes) -> Any:
    try:
        text: str | None = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = recode(line)
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        return None


def find_rows(content: Any, depth: int = 3) -> list[Any] | None:
    """Return the array of rows in a JSON document: the document itself, or an array under one of
    `ARRAY_KEYS`. Return None if there is none, or if the document is an article that contains an array."""
    if isinstance(content, list):
        return content
    if not isinstance(content, dict) or not depth:
        return None
    for key in ARRAY_KEYS:
        value = content.get(key)
        rows = find_rows(value, depth - 1) if isinstance(value, dict) else value
        if isinstance(rows, list) and _holds_articles(rows, content):
            return rows
    return None


def _holds_articles(rows: list[Any], parent: dict[str, Any]) -> bool:
    first = next((row for row in rows if isinstance(row, dict)), None)
    return not has_text_column(parent) or (first is not None and has_text_column(first))


def _is_table(content: dict[str, Any]) -> bool:
    """Return True if an object is what pandas' `to_json` writes by default: columns (or rows) by name."""
    if _is_split(content):
        return True
    cells = list(content.values())
    if not cells or not all(isinstance(cell, dict) for cell in cells):
        return False
    names = cells[0].keys()
    if not has_text_column(content):  # rows by name
        return has_text_column(names)
    return names.isdisjoint(_OBJECT_KEYS) and all(cell.keys() == names for cell in cells)


def _is_split(content: dict[str, Any]) -> bool:
    names = {"columns", "data"} <= content.keys() <= {"columns", "data", "index"}
    return names and all(isinstance(content[name], list) for name in ("columns", "data"))


def _table_rows(content: dict[str, Any]) -> list[Any]:
    """Return the rows of what pandas' `to_json` wrote with orient "split", "columns" or "index"."""
    if _is_split(content):
        columns = [str(name) for name in content["columns"]]
        return [
            dict(zip(columns, row, strict=False)) if isinstance(row, list) else row
            for row in content["data"]
        ]
    if not has_text_column(content):
        return list(content.values())
    index = next(iter(content.values()))
    return [{name: cells[key] for name, cells in content.items()} for key in index]


def _document_rows(name: str, content: bytes) -> Iterator[Row | BadRow]:
    """Yield the rows of a document, which is decoded as Windows-1252 if it is not UTF-8."""
    try:
        yield from _parse_document(name, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        text = recode(content)
        if text is None:
            raise ReadError(name, f"not UTF-8 at byte {error.start + 1}") from error
        for row in _parse_document(name, text):
            yield row if isinstance(row, BadRow) else RecodedRow(row)


def _parse_document(name: str, text: str) -> Iterator[Row | BadRow]:
    if not text.strip():
        return
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        start = text.lstrip()[:1]
        if start == "{" and str(error).startswith("Extra data"):
            yield from _parse_sequence(text, 0)
        elif start == "[":
            yield from _parse_sequence(text, text.index("[") + 1)
        else:
            raise ReadError(name, f"broken JSON: {error}") from error
        return
    yield from map(_as_row, rows_of(name, content))


def rows_of(name: str, content: Any) -> list[Any]:
    """Return the rows of a parsed document. Each is an object, unless it is not a valid row.

    Raises:
        ReadError: the document is not an array, an object that contains one, a table, or an article.
    """
    if isinstance(content, dict) and _is_table(content):
        return _table_rows(content)
    rows = find_rows(content)
    if rows is None and isinstance(content, dict):
        if not has_text_column(content):
            raise ReadError(name, f"{_ALLOWED}; it is an object with: {', '.join(content)[:200]}")
        rows = [content]
    if rows is None:
        raise ReadError(name, f"{_ALLOWED}; it is a {type(content).__name__}")
    if rows and all(isinstance(row, list) for row in rows):
        raise ReadError(
            name,
            "its rows are arrays without names of columns, as pandas writes with "
            'orient="values"; write objects, orient="records"',
        )
    return rows


def _parse_sequence(text: str, position: int) -> Iterator[Row | BadRow]:
    """Yield concatenated objects, up to the first one that is broken."""
    decoder, separator = json.JSONDecoder(), re.compile(r"[\s,]*")
    while True:
        blank = separator.match(text, position)
        assert blank is not None  # the pattern also matches the empty string
        if blank.end() == len(text) and not text.lstrip().startswith("["):
            return
        try:
            value, position = decoder.raw_decode(text, blank.end())
        except (ValueError, RecursionError) as error:
            yield cut_off(error)
            return
        yield _as_row(value)


def _as_row(value: object) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow("not a JSON object", f"but a {type(value).__name__}")
    return {str(name): as_text(cell) for name, cell in value.items()}
