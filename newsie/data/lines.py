"""Rows of JSON Lines files, of plain headlines one a line, and of JSON arrays."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from newsie.data.records import (
    DAMAGE,
    BadRow,
    RecodedRow,
    Record,
    Records,
    Row,
    Watch,
    all_columns,
    as_text,
    cut_off,
    open_binary,
    peek,
    recode,
)
from newsie.errors import ReadError

__all__ = ["open_headlines", "open_json", "open_json_lines", "open_stream"]

MAX_ARRAY_BYTES = 256 * 2**20
"""A JSON array is held in memory, where it takes several times its size."""

Line = bytes | str
Parse = Callable[[Line], Row | BadRow]


def open_json_lines(path: Path, limit: int) -> Records:
    """An object a line; a row's number is its line."""
    return _open_lines(path, _parse_object, limit)


def open_headlines(path: Path, limit: int) -> Records:
    """A headline a line; a row's number is its line."""
    return _open_lines(path, _parse_headline, limit)


def open_stream(stream: IO[Any], limit: int) -> Records:
    """Objects if the first line with text starts with "{", headlines otherwise; read once.

    No line is read before it is asked for, but those up to the first one with a row.
    """
    lines = _lines(stream, limit)
    start = next(lines, None)
    if start is None:
        raise ReadError("stdin", "there is no line with text")
    parse = _streamed_object if _starts_object(start[1]) else _streamed_headline
    rows = _parse_lines(itertools.chain([start], lines), parse)
    first = peek(rows, 1)
    columns = all_columns("stdin", first)
    return Records(columns, lambda _wanted: itertools.chain(_taken(first), rows))


def _taken(records: list[Record]) -> Iterator[Record]:
    """The records, which are not there a second time."""
    while records:
        yield records.pop(0)


def _open_lines(path: Path, parse: Parse, limit: int) -> Records:
    watch = Watch()

    def read(_wanted: Sequence[str] = ()) -> Iterator[Record]:
        with open_binary(path, watch) as stream:
            yield from _parse_lines(_lines(stream, limit), parse)

    rows = read()
    first = peek(rows)
    rows.close()  # type: ignore[attr-defined]  # a generator; closes the file
    return Records(all_columns(path, first), read, watch.share)


def _parse_lines(lines: Iterable[tuple[int, Line | BadRow]], parse: Parse) -> Iterator[Record]:
    for number, line in lines:
        yield Record(number, line if isinstance(line, BadRow) else parse(line))


def _lines(stream: IO[Any], limit: int) -> Iterator[tuple[int, Line | BadRow]]:
    """Numbered lines that are not blank; one beyond the limit is skipped without being held."""
    for number in itertools.count(1):
        try:
            line: Line = stream.readline(limit + 1)
            too_long = len(line) > limit
            if too_long:
                _skip_line(stream, line, limit)
        except DAMAGE as error:
            yield number, cut_off(error)
            return
        except UnicodeDecodeError as error:  # a text stream that is not ours
            yield number, BadRow("not UTF-8", str(error), last=True)
            return
        if not line:
            return
        if too_long:
            yield number, BadRow("line too long", f"more than {limit:,} bytes")
            continue
        if number == 1:
            line = _without_mark(line)
        if line.strip():
            yield number, line


def _skip_line(stream: IO[Any], line: Line, limit: int) -> None:
    while line and line[-1:] not in (b"\n", "\n"):
        line = stream.readline(limit)


def _without_mark(line: Line) -> Line:
    """A line without the byte order mark."""
    if isinstance(line, str):
        return line.removeprefix("\ufeff")
    return line.removeprefix(b"\xef\xbb\xbf")


def _starts_object(line: Line | BadRow) -> bool:
    return not isinstance(line, BadRow) and line.lstrip()[:1] in (b"{", "{")


def _parse(line: Line, parse: Callable[[str], Row | BadRow]) -> Row | BadRow:
    """The row of a line, which is read as Windows-1252 where it is not UTF-8."""
    if isinstance(line, str):
        return parse(line)
    try:
        return parse(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        text = recode(line)
        if text is None:
            return BadRow("not UTF-8", f"byte {error.start + 1} of the line")
        row = parse(text)
        return row if isinstance(row, BadRow) else RecodedRow(row)


def _parse_headline(line: Line) -> Row | BadRow:
    return _parse(line, _headline)


def _headline(text: str) -> Row | BadRow:
    return BadRow("NUL character") if "\0" in text else {"headline": text.strip()}


def _parse_object(line: Line) -> Row | BadRow:
    return _parse(line, _object)


def _object(text: str) -> Row | BadRow:
    try:
        return _as_row(json.loads(text))
    except (ValueError, RecursionError) as error:
        return BadRow("broken JSON", str(error))


def _streamed_headline(line: Line) -> Row | BadRow:
    """A headline among headlines; an object was meant to be read as one."""
    if _starts_object(line) and not isinstance(_parse_object(line), BadRow):
        return BadRow(
            "a JSON object among plain headlines",
            "the first line decides, and it is a headline; give JSON objects alone, one a line",
        )
    return _parse_headline(line)


def _streamed_object(line: Line) -> Row | BadRow:
    """An object among objects; a plain line was meant to be read as a headline."""
    if not _starts_object(line):
        return BadRow(
            "a plain line among JSON objects",
            "the first line decides, and it is a JSON object; give headlines alone, one a line, or "
            'write {"headline": "..."}',
        )
    return _parse_object(line)


def _as_row(value: object) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow("not a JSON object", f"but a {type(value).__name__}")
    return {name: as_text(cell) for name, cell in value.items()}


# --- a JSON array -------------------------------------------------------------------------------


def open_json(path: Path, limit: int) -> Records:
    """An array of objects, or one under "data"; held in memory, and so at most `MAX_ARRAY_BYTES`
    once it is decompressed. Also JSON Lines named .json, of any size."""
    with open_binary(path) as stream:
        try:
            first = stream.readline(limit)
            if _holds_lines(first):
                return open_json_lines(path, limit)
            content = _read_array(path, first, stream)
        except DAMAGE as error:
            raise ReadError(path, f"the file is damaged or ends early: {error}") from error
    records = [Record(number, row) for number, row in enumerate(_array_rows(path, content), 1)]
    return Records(all_columns(path, records[:1000]), lambda _wanted: iter(records))


def _array_rows(path: Path, content: bytes) -> Iterator[Row | BadRow]:
    """The rows of an array, which is read as Windows-1252 where it is not UTF-8."""
    try:
        yield from _parse_array(path, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        text = recode(content)
        if text is None:
            raise ReadError(path, f"not UTF-8 at byte {error.start + 1}") from error
        for row in _parse_array(path, text):
            yield row if isinstance(row, BadRow) else RecodedRow(row)


def _read_array(path: Path, first: bytes, stream: IO[bytes]) -> bytes:
    content = first + stream.read(max(0, MAX_ARRAY_BYTES + 1 - len(first)))
    if len(content) > MAX_ARRAY_BYTES:
        raise ReadError(
            path,
            f"holds a JSON array of more than {MAX_ARRAY_BYTES >> 20} MiB, which would have to be "
            "held in memory; write it as JSON Lines, an object a line, which is read line by line "
            "(jq -c '.[]' FILE.json > FILE.jsonl)",
        )
    return content


def _holds_lines(line: bytes) -> bool:
    """Whether a first line is an object of its own that does not hold the array."""
    row = _parse_object(_without_mark(line)) if line.strip() else BadRow("")
    return not isinstance(row, BadRow) and "data" not in row


def _parse_array(path: Path, text: str) -> Iterator[Row | BadRow]:
    if not text.strip():
        return
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text.lstrip().startswith("["):
            raise ReadError(path, f"broken JSON: {error}") from error
        yield from _salvage_array(text)
        return
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        content = content["data"]
    if not isinstance(content, list):
        raise ReadError(
            path,
            'must hold an array of objects, [{...}, ...] or {"data": [...]}, or an object a line',
        )
    yield from map(_as_row, content)


def _salvage_array(text: str) -> Iterator[Row | BadRow]:
    """The objects of an array up to the first one that is broken."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    separator = re.compile(r"[\s,]*")
    while True:
        blank = separator.match(text, position)
        assert blank is not None  # it matches nothing, too
        try:
            value, position = decoder.raw_decode(text, blank.end())
        except (ValueError, RecursionError) as error:
            yield cut_off(error)
            return
        yield _as_row(value)
