"""Readers of CSV and TSV files, which read rows as a spreadsheet does."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import IO

from newsie.data.binary import DAMAGE, Source, Watch
from newsie.data.columns import MAX_COLUMNS, check_width
from newsie.data.dialects import SAMPLE_LINES, Dialect, find_dialect, is_table
from newsie.data.records import (
    BadRow,
    EmptyFileError,
    RecodedRow,
    Record,
    Records,
    Row,
    cut_off,
    recode,
)
from newsie.data.spreadsheet import BYTE_ORDER_MARK, unprotect
from newsie.errors import ReadError

__all__ = ["holds_table", "open_delimited", "read_dialect"]

SAMPLE_CHARS = 2**18
MAX_RETRIED_LINES = 1_000_000
MAX_RETRIED_CHARS, RETRIED_CHARS_A_CHAR = 2**23, 4
"""The limits on the characters of a file that may be parsed again: at the start, and per character read."""

SHORT_ROW = "row shorter than the header: the missing cells are empty"
LONG_ROW = "row with empty cells beyond the header"
ESCAPED_ROW = "row with \\ before quotation marks inside quotation marks"
BLANK_LINES = "line above the header, skipped"
SAME_NAME = "column with the name of another one: the first of them that is not empty is read"

# Bytes that are not UTF-8, as the error handler "surrogateescape" decodes them.
_UNDECODED = re.compile("[\udc80-\udcff]")


def open_delimited(source: Source, delimiter: str, limit: int) -> Records:
    """Open the rows of a CSV or TSV file whose first line with text names the columns.

    Args:
        source: the file or stream.
        delimiter: the usual delimiter of such files; another is used if it makes the rows more even.
        limit: longest line in characters.

    Raises:
        ReadError: the first line cannot be read.
    """
    dialect, header = _read_header(source, delimiter, limit)
    names = [_text_of(name) for name in header]
    if None in names or any("\0" in name for name in header):
        raise ReadError(source.name, "the first line is not UTF-8 text; save the file as UTF-8")
    columns = [name for name in names if name is not None]
    watch, notes = Watch(), Counter[str]()

    def read(_wanted: object) -> Iterator[Record]:
        return _read(source, dialect, columns, limit, watch, notes)

    share = None if source.once else watch.share
    records = Records(tuple(dict.fromkeys(columns)), read, share, notes)
    with source.peek() as stream:
        marked = stream.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK
    return _unprotected(records) if marked else records


def _unprotected(records: Records) -> Records:
    """Remove the apostrophes that keep a spreadsheet from running cells as formulas."""

    renamed = any(name[:1] == "'" for name in records.columns)

    def read(columns: Sequence[str]) -> Iterator[Record]:
        for number, row in records.read(columns):
            if not isinstance(row, BadRow):
                # Few cells begin with one, and a new row each time would take a quarter of the reading time.
                for name in [name for name, cell in row.items() if cell[:1] == "'"]:
                    row[name] = unprotect(row[name])
                if renamed:
                    row = type(row)({unprotect(name): cell for name, cell in row.items()})
            yield Record(number, row)

    return records._replace(columns=tuple(map(unprotect, records.columns)), read=read)


def read_dialect(source: Source, delimiter: str, limit: int) -> Dialect:
    """Return the dialect of a CSV or TSV file. The arguments are those of `open_delimited`."""
    return _read_header(source, delimiter, limit)[0]


def holds_table(source: Source, delimiter: str, limit: int) -> bool:
    """Return True if the first lines are even rows with this delimiter."""
    with _as_text(source.peek()) as stream:
        return is_table(_first_lines(stream, limit), delimiter)


def _read_header(source: Source, delimiter: str, limit: int) -> tuple[Dialect, list[str]]:
    csv.field_size_limit(max(limit, csv.field_size_limit()))
    with _as_text(source.peek()) as stream:
        try:
            lines = _first_lines(stream, limit)
            dialect = find_dialect(lines, delimiter)
            header = next(_parse(lines[dialect.skipped :], dialect), [])
        except (csv.Error, *DAMAGE) as error:
            raise ReadError(source.name, f"the first line cannot be read: {error}") from error
    if not lines:
        raise EmptyFileError(source.name, "the file is empty")
    if len(lines) == 1 and len(lines[0]) == min(limit, SAMPLE_CHARS):
        raise ReadError(
            source.name,
            f"the first line is longer than {len(lines[0]):,} characters; it must name the columns: "
            f"write a first line such as headline,body, or leave out columns beyond {MAX_COLUMNS:,}",
        )
    check_width(header, source.name)
    if not any(name.strip() for name in header):
        raise ReadError(source.name, "no line of it has text; the first one must name the columns")
    return dialect, header


def _first_lines(stream: IO[str], limit: int) -> list[str]:
    """Return the first lines. The last one may be cut off."""
    lines: list[str] = []
    size, longest = 0, min(limit, SAMPLE_CHARS)
    try:
        while (
            len(lines) < SAMPLE_LINES and size < SAMPLE_CHARS and (line := stream.readline(longest))
        ):
            if lines and len(line) == longest:  # cut off, so it cannot be an even row
                break
            lines.append(line)
            size += len(line)
    except DAMAGE:
        if not lines:
            raise
    return lines


def _parse(lines: Sequence[str] | Iterator[str], dialect: Dialect) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)


def _as_text(stream: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _text_of(cell: str) -> str | None:
    """Decode a cell that is not UTF-8 as Windows-1252. Return None if it is not that either."""
    if cell.isascii() or not _UNDECODED.search(cell):
        return cell
    return recode(cell.encode("utf-8", "surrogateescape"))


def _read(
    source: Source,
    dialect: Dialect,
    header: list[str],
    limit: int,
    watch: Watch,
    notes: Counter[str],
) -> Iterator[Record]:
    if blank := dialect.skipped:
        notes[BLANK_LINES] += blank
    if same := len(header) - len(set(header)):
        notes[SAME_NAME] += same
    # The csv module has one limit for the whole process, so it is only ever raised.
    csv.field_size_limit(max(limit, csv.field_size_limit()))
    with _as_text(source.open(watch)) as stream:
        lines = _Lines(stream, limit)
        for _ in range(dialect.skipped):
            next(lines)
        reader = _RowReader(lines, dialect, header, notes)
        for number in itertools.count(1):
            content = reader.next_row()
            if content is None:
                return
            yield Record(number, content)
            if isinstance(content, BadRow) and content.last:
                return


class _Lines:
    """The lines of a stream. Those of the current record can be read again."""

    def __init__(self, stream: IO[str], limit: int) -> None:
        self.number = 0  # number of lines read
        self.record: list[str] = []
        self._stream, self._limit = stream, limit
        self._again: deque[str] = deque()
        self._lines_left, self._chars_left = MAX_RETRIED_LINES, MAX_RETRIED_CHARS

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
        """Return the next line, or its start if it is longer than the limit."""
        line = rest = self._stream.readline(self._limit)
        self._chars_left += RETRIED_CHARS_A_CHAR * len(line)
        while len(rest) >= self._limit and rest[-1] not in "\r\n":
            rest = self._stream.readline(self._limit)
        return line

    def start_record(self) -> None:
        """Start a new record with the next line."""
        self.record = []

    def retry(self, keep: int = 1) -> bool:
        """Read the lines of the record again, except the first `keep`. Return False if that would exceed
        the limits.

        A quotation mark that is never closed swallows good rows up to the next one. The number of lines
        and characters that are read again is bounded, so that any file is read in linear time.
        """
        lines = self.record[keep:]
        chars = sum(map(len, lines))
        if len(lines) > self._lines_left or chars > self._chars_left:
            return False
        self._lines_left -= len(lines)
        self._chars_left -= chars
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)
        return True

    def restore(self, record: list[str]) -> bool:
        """Return to an earlier record that began with the same line. Return False if that would exceed
        the limits."""
        if not self.retry(keep=0):
            return False
        self.record = [self._again.popleft() for _ in record]
        self.number += len(record)
        return True

    def refund(self, lines: Sequence[str]) -> None:
        """Raise the limits by these lines, because reading them again helped."""
        self._lines_left += len(lines)
        self._chars_left += sum(map(len, lines))


class _RowReader:
    """A reader of the rows of a file, each as column -> cell."""

    def __init__(
        self, lines: _Lines, dialect: Dialect, header: list[str], notes: Counter[str]
    ) -> None:
        self._lines, self._dialect, self._notes = lines, dialect, notes
        self._header, self._width = header, len(header)
        self._same_names = len(set(header)) < len(header)
        self._lost = False  # True if lines could not be read again
        self._rows = _parse(lines, dialect)
        self._escaped_rows = csv.reader(
            lines,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            escapechar="\\",
            strict=True,
        )
        next(self._rows)

    def next_row(self) -> Row | BadRow | None:
        """Return the next row that is not blank, or None at the end."""
        row: list[str] = []
        problem = None
        try:
            while not row:
                self._lines.start_record()
                row = next(self._rows)
        except StopIteration:
            return None
        except csv.Error as error:
            row, problem = [], BadRow("broken CSV row", str(error))
        except DAMAGE as error:
            return cut_off(error)
        if len(row) != self._width:
            mended = self._mend(row)
            if mended is None:
                return self._give_up(problem or _wrong_size(row, self._width))
            row = mended
        return self._by_column(row)

    def _mend(self, row: list[str]) -> list[str] | None:
        """Repair a row whose number of cells differs from the header's, if it is clear what was meant.
        A row that cannot be parsed is empty."""
        lines, width = self._lines, self._width
        if self._dialect.delimiter == "\t":  # often written without quoting, so " is just text
            cells = lines.record[0].rstrip("\r\n").split("\t")
            if len(cells) == width and lines.retry():
                return cells
        if cells := self._unescape():
            self._notes[ESCAPED_ROW] += 1
            return cells
        if self._lost:
            return None
        if 0 < len(row) < width and not self._has_swallowed():
            self._notes[SHORT_ROW] += 1
            return row + [""] * (width - len(row))
        if len(row) > width and not any(cell.strip() for cell in row[width:]):
            self._notes[LONG_ROW] += 1
            return row[:width]
        return None

    def _unescape(self) -> list[str]:
        r"""Return the cells of a record that escapes quotation marks as \", or nothing if it does not."""
        lines, mark = self._lines, "\\" + self._dialect.quote
        if not any(mark in line for line in lines.record):
            return []
        failed = lines.record
        if not lines.retry(keep=0):
            return []
        lines.start_record()
        try:
            cells = next(self._escaped_rows, [])
        except (csv.Error, *DAMAGE):
            cells = []
        if len(cells) == self._width:
            if len(failed) <= SAMPLE_LINES:
                lines.refund(failed)
            return cells
        self._lost = not lines.restore(failed)
        return []

    def _has_swallowed(self) -> bool:
        """Return True if a later line of the record is a row itself: a quotation mark is missing."""
        delimiters = self._width - 1
        return any(
            line.count(self._dialect.delimiter) == delimiters for line in self._lines.record[1:]
        )

    def _give_up(self, problem: BadRow) -> BadRow:
        lines = self._lines
        place = f"line {lines.number - len(lines.record) + 1}"
        if not lines.retry():
            place = f"lines {place.split()[1]} to {lines.number}, all of them skipped"
        return BadRow(problem.reason, f"{place}: {problem.detail}")

    def _by_column(self, row: list[str]) -> Row | BadRow:
        text = "".join(row)
        if "\0" not in text and (text.isascii() or not _UNDECODED.search(text)):
            return (
                self._merge(row) if self._same_names else dict(zip(self._header, row, strict=True))
            )
        texts: list[str] = []
        for column, value in zip(self._header, row, strict=True):
            cell = _text_of(value)
            if cell is None:
                return BadRow("not UTF-8", column=column)
            if "\0" in value:
                return BadRow("NUL character", column=column)
            texts.append(cell)
        merged = self._merge(texts)
        return merged if texts == row else RecodedRow(merged)

    def _merge(self, row: list[str]) -> Row:
        """Return the cells by column. For columns with the same name, the first non-empty cell is used."""
        cells: Row = {}
        for column, cell in zip(self._header, row, strict=True):
            if not cells.get(column, "").strip():
                cells[column] = cell
        return cells


def _wrong_size(row: list[str], width: int) -> BadRow:
    reason = "too many fields" if len(row) > width else "too few fields"
    return BadRow(reason, f"{len(row)} instead of {width}")
