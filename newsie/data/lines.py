"""Readers of JSON Lines files, and of text files with one headline per line."""

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
    """Open rows with one JSON object per line. A row's number is its line number."""
    return _open_lines(source, _streamed_object if source.once else _parse_object, limit)


def open_headlines(source: Source, limit: int) -> Records:
    """Open rows with one headline per line. A row's number is its line number."""
    return _open_lines(source, _streamed_headline if source.once else _parse_headline, limit)


def first_lines(source: Source, limit: int, second: Callable[[bytes], bool]) -> tuple[bytes, bytes]:
    """Return the first line with text, or its start, and the next one if `second` is true of the first.
    A line that is missing is empty."""
    with source.peek() as stream:
        lines = _starts(stream, limit)
        first = next(lines, b"")
        return first, next(lines, b"") if second(first) else b""


def _starts(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """Yield the lines that are not blank, up to the start of the first one beyond the limit."""
    try:
        while line := stream.readline(limit):
            text = _without_mark(line)
            if text.strip():
                yield text
            if len(line) == limit:
                return
    except (UnicodeDecodeError, *DAMAGE):
        return  # reading the rows raises the error


def _open_lines(source: Source, parse: Parse, limit: int) -> Records:
    """Open the rows of a source. Only the lines up to the first row of a stream are read in advance."""
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
    """Yield numbered lines that are not blank. A line beyond the limit is skipped without holding it."""
    for number in itertools.count(1):
        try:
            line = stream.readline(limit + 1)
            too_long = len(line) > limit
            if too_long:
                _skip_line(stream, line, limit)
        except DAMAGE as error:
            yield number, cut_off(error)
            return
        except UnicodeDecodeError as error:  # raised by an open text stream
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
    """Return a line without its byte order mark."""
    return line.removeprefix(b"\xef\xbb\xbf")


def starts_object(line: bytes) -> bool:
    """Return True if a line begins like a JSON object."""
    return line.lstrip()[:1] == b"{"


def _parse(line: bytes, parse: Callable[[str], Row | BadRow]) -> Row | BadRow:
    """Return the row of a line, which is decoded as Windows-1252 if it is not UTF-8."""
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
    """Return the row of a line that contains a JSON object."""
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
    """Parse a headline in a stream of headlines. A JSON object is a bad row."""
    if starts_object(line) and not isinstance(_parse_object(line), BadRow):
        return BadRow(
            "a JSON object among plain headlines",
            "the first line decides, and it is a headline; give JSON objects alone, one a line",
        )
    return _parse_headline(line)


def _streamed_object(line: bytes) -> Row | BadRow:
    """Parse an object in a stream of JSON objects. A plain line is a bad row."""
    if not starts_object(line):
        return BadRow(
            "a plain line among JSON objects",
            "the first line decides, and it is a JSON object; give headlines alone, one a line, or "
            'write {"headline": "..."}',
        )
    return _parse_object(line)
