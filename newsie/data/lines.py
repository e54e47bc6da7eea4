"""Rows of JSON Lines files and of plain headlines, one a line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

from newsie.data.binary import DAMAGE, Source, Watch
from newsie.data.records import (
    PEEK_ROWS,
    BadRow,
    EmptyFileError,
    RecodedRow,
    Record,
    Records,
    Row,
    all_columns,
    as_text,
    cut_off,
    peek,
    recode,
)

__all__ = ["first_lines", "open_headlines", "open_json_lines", "starts_object"]

Parse = Callable[[bytes], Row | BadRow]


def open_json_lines(source: Source, limit: int) -> Records:
    """An object a line; a row's number is its line."""
    return _open_lines(source, _streamed_object if source.once else _parse_object, limit)


def open_headlines(source: Source, limit: int) -> Records:
    """A headline a line; a row's number is its line."""
    return _open_lines(source, _streamed_headline if source.once else _parse_headline, limit)


def first_lines(source: Source, limit: int, second: Callable[[bytes], bool]) -> tuple[bytes, bytes]:
    """The first line with text, or the start of it, and the next one if the first asks for a `second`;
    empty where there is none."""
    with source.peek() as stream:
        lines = _starts(stream, limit)
        first = next(lines, b"")
        return first, next(lines, b"") if second(first) else b""


def _starts(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """The lines that are not blank, up to the first one beyond the limit, of which the start."""
    try:
        while line := stream.readline(limit):
            text = _without_mark(line)
            if text.strip():
                yield text
            if len(line) == limit:
                return
    except (UnicodeDecodeError, *DAMAGE):
        return  # reading the rows says so


def _open_lines(source: Source, parse: Parse, limit: int) -> Records:
    """Of a stream, only the lines up to the first row are read before they are asked for."""
    watch = Watch()

    def read(_wanted: Sequence[str] = ()) -> Iterator[Record]:
        with source.open(watch) as stream:
            yield from _parse_lines(_lines(stream, limit), parse)

    with source.peek() as stream:
        rows = _parse_lines(_lines(stream, limit), parse)
        first = peek(rows, 1 if source.once else PEEK_ROWS)
    if source.once and not first:
        raise EmptyFileError(source.name, "there is no line with text")
    share = None if source.once else watch.share
    return Records(all_columns(source.name, first), read, share)


def _parse_lines(lines: Iterable[tuple[int, bytes | BadRow]], parse: Parse) -> Iterator[Record]:
    for number, line in lines:
        yield Record(number, line if isinstance(line, BadRow) else parse(line))


def _lines(stream: IO[bytes], limit: int) -> Iterator[tuple[int, bytes | BadRow]]:
    """Numbered lines that are not blank; one beyond the limit is skipped without being held."""
    for number in itertools.count(1):
        try:
            line = stream.readline(limit + 1)
            too_long = len(line) > limit
            if too_long:
                _skip_line(stream, line, limit)
        except DAMAGE as error:
            yield number, cut_off(error)
            return
        except UnicodeDecodeError as error:  # of an open text stream
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


def _skip_line(stream: IO[bytes], line: bytes, limit: int) -> None:
    while line and line[-1:] != b"\n":
        line = stream.readline(limit)


def _without_mark(line: bytes) -> bytes:
    """A line without the byte order mark."""
    return line.removeprefix(b"\xef\xbb\xbf")


def starts_object(line: bytes) -> bool:
    """Whether a line begins as a JSON object does."""
    return line.lstrip()[:1] == b"{"


def _parse(line: bytes, parse: Callable[[str], Row | BadRow]) -> Row | BadRow:
    """The row of a line, which is read as Windows-1252 where it is not UTF-8."""
    try:
        return parse(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        text = recode(line)
        if text is None:
            return BadRow("not UTF-8", f"byte {error.start + 1} of the line")
        row = parse(text)
        return row if isinstance(row, BadRow) else RecodedRow(row)


def _parse_headline(line: bytes) -> Row | BadRow:
    return _parse(line, _headline)


def _headline(text: str) -> Row | BadRow:
    return BadRow("NUL character") if "\0" in text else {"headline": text.strip()}


def _parse_object(line: bytes) -> Row | BadRow:
    """The row of a line that holds a JSON object."""
    return _parse(line, _object)


def _object(text: str) -> Row | BadRow:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRow("broken JSON", str(error))
    if not isinstance(value, dict):
        return BadRow("not a JSON object", f"but a {type(value).__name__}")
    return {name: as_text(cell) for name, cell in value.items()}


def _streamed_headline(line: bytes) -> Row | BadRow:
    """A headline among headlines; an object was meant to be read as one."""
    if starts_object(line) and not isinstance(_parse_object(line), BadRow):
        return BadRow(
            "a JSON object among plain headlines",
            "the first line decides, and it is a headline; give JSON objects alone, one a line",
        )
    return _parse_headline(line)


def _streamed_object(line: bytes) -> Row | BadRow:
    """An object among objects; a plain line was meant to be read as a headline."""
    if not starts_object(line):
        return BadRow(
            "a plain line among JSON objects",
            "the first line decides, and it is a JSON object; give headlines alone, one a line, or "
            'write {"headline": "..."}',
        )
    return _parse_object(line)
