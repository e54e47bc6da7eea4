"""Rows of CSV and TSV files."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from newsie.data.records import (
    DAMAGE,
    BadRow,
    EmptyFileError,
    RecodedRow,
    Record,
    Records,
    Row,
    Watch,
    cut_off,
    open_binary,
    recode,
)
from newsie.data.spreadsheet import BYTE_ORDER_MARK, unprotect
from newsie.errors import ReadError

__all__ = ["open_delimited"]

DELIMITERS = (",", "\t", ";", "|")
MAX_RETRIED_LINES = 1_000_000

# Bytes that are not UTF-8, as the error handler "surrogateescape" leaves them.
_UNDECODED = re.compile("[\udc80-\udcff]")


def open_delimited(path: Path, delimiter: str, limit: int) -> Records:
    """The rows of a CSV or TSV file whose first line names the columns.

    Args:
        path: the file, perhaps compressed.
        delimiter: the delimiter; where it does not occur in the first line, another that does.
        limit: longest line in characters.

    Raises:
        ReadError: the first line cannot be read or names a column twice.
    """
    with _open_text(path) as stream:
        try:
            first = stream.readline(limit)
            delimiter = _find_delimiter(first, delimiter)
            header = next(
                csv.reader(itertools.chain([first], stream), delimiter=delimiter, strict=True), []
            )
        except (csv.Error, *DAMAGE) as error:
            raise ReadError(path, f"the first line cannot be read: {error}") from error
    if not first:
        raise EmptyFileError(path, "the file is empty")
    if not any(name.strip() for name in header):
        raise ReadError(path, "the first line is blank; it must name the columns")
    names = [_text_of(name) for name in header]
    if None in names or any("\0" in name for name in header):
        raise ReadError(path, "the first line is not UTF-8 text; save the file as UTF-8")
    header = [name for name in names if name is not None]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ReadError(path, f"the first line names {', '.join(twice)} more than once")
    watch = Watch()

    def read(_wanted: object) -> Iterator[Record]:
        return _read(path, delimiter, header, limit, watch)

    records = Records(tuple(header), read, watch.share)
    with open_binary(path) as binary:
        marked = binary.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK
    return _unprotected(records) if marked else records


def _unprotected(records: Records) -> Records:
    """The same records, without the apostrophes that keep a spreadsheet from running cells."""

    def read(columns: Sequence[str]) -> Iterator[Record]:
        for number, row in records.read(columns):
            if not isinstance(row, BadRow):
                row = type(row)({unprotect(name): unprotect(cell) for name, cell in row.items()})
            yield Record(number, row)

    return records._replace(columns=tuple(map(unprotect, records.columns)), read=read)


def _open_text(path: Path, watch: Watch | None = None) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        open_binary(path, watch), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )


def _text_of(cell: str) -> str | None:
    """A cell, read anew as Windows-1252 where it is not UTF-8; None if it is not that either."""
    if cell.isascii() or not _UNDECODED.search(cell):
        return cell
    return recode(cell.encode("utf-8", "surrogateescape"))


def _find_delimiter(line: str, expected: str) -> str:
    return expected if expected in line else max(DELIMITERS, key=line.count)


def _read(
    path: Path, delimiter: str, header: list[str], limit: int, watch: Watch
) -> Iterator[Record]:
    # The limit of the csv module is one for the whole process, so it is only ever raised.
    csv.field_size_limit(max(limit, csv.field_size_limit()))
    with _open_text(path, watch) as stream:
        lines = _Lines(stream, limit)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        next(rows)
        for number in itertools.count(1):
            content = _next_row(rows, lines, header, delimiter)
            if content is None:
                return
            yield Record(number, content)
            if isinstance(content, BadRow) and content.last:
                return


class _Lines:
    """The lines of a stream; those of the current record can be read again."""

    def __init__(self, stream: IO[str], limit: int) -> None:
        self.number = 0  # of lines read
        self.record: list[str] = []
        self._stream, self._limit = stream, limit
        self._again: deque[str] = deque()
        self._retries_left = MAX_RETRIED_LINES

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read_line()
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        if len(line) >= self._limit:
            raise csv.Error(f"line longer than {self._limit:,} characters")
        return line

    def _read_line(self) -> str:
        """The next line; of one beyond the limit, the start."""
        line = rest = self._stream.readline(self._limit)
        while len(rest) >= self._limit and rest[-1] not in "\r\n":
            rest = self._stream.readline(self._limit)
        return line

    def start_record(self) -> None:
        """What is read from now on is a new record."""
        self.record = []

    def retry(self) -> bool:
        """Give all lines of the record but the first once more; whether that was allowed.

        A quotation mark that is never closed swallows good rows up to the next one. The number of
        lines given twice is bounded, so that a hostile file does not take for ever.
        """
        lines = self.record[1:]
        if len(lines) > self._retries_left:
            return False
        self._retries_left -= len(lines)
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)
        return True


def _next_row(
    rows: Iterator[list[str]], lines: _Lines, header: list[str], delimiter: str
) -> Row | BadRow | None:
    """The next row that is not blank, or None at the end."""
    try:
        row: list[str] = []
        while not row:
            lines.start_record()
            row = next(rows)
        problem = _check_size(row, header)
    except StopIteration:
        return None
    except csv.Error as error:
        problem = BadRow("broken CSV row", str(error))
    except DAMAGE as error:
        return cut_off(error)
    if problem is None:
        return _check_cells(row, header)
    if delimiter == "\t":  # often written without any quoting: a quotation mark is just text
        row = lines.record[0].rstrip("\r\n").split("\t")
        if len(row) == len(header) and lines.retry():
            return _check_cells(row, header)
    place = f"line {lines.number - len(lines.record) + 1}"
    if not lines.retry():
        place = f"lines {place.split()[1]} to {lines.number}, all of them skipped"
    return BadRow(problem.reason, f"{place}: {problem.detail}")


def _check_size(row: list[str], header: list[str]) -> BadRow | None:
    if len(row) == len(header):
        return None
    reason = "too many fields" if len(row) > len(header) else "too few fields"
    return BadRow(reason, f"{len(row)} instead of {len(header)}")


def _check_cells(row: list[str], header: list[str]) -> Row | BadRow:
    texts: list[str] = []
    for column, value in zip(header, row, strict=True):
        text = _text_of(value)
        if text is None:
            return BadRow("not UTF-8", column=column)
        if "\0" in value:
            return BadRow("NUL character", column=column)
        texts.append(text)
    kind = dict if texts == row else RecodedRow
    return kind(zip(header, texts, strict=True))
