"""Detecting the dialect of a CSV or TSV file: its delimiter, quotation mark and header line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from newsie.data.columns import MAX_COLUMNS, count_known

__all__ = ["DELIMITERS", "SAMPLE_LINES", "Dialect", "find_dialect", "is_table"]

DELIMITERS = (",", "\t", ";", "|")
NO_DELIMITER = "\x1f"
"""The delimiter of a file with one column, whose text may contain all the usual ones."""

SAMPLE_LINES = 100
EVEN_ENOUGH = 0.8
"""The lowest share of even rows with which a delimiter can be right."""

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """The way that the cells of a file are written.

    Attributes:
        delimiter: the character between two cells.
        quote: the quotation mark.
        skipped: number of lines above the header.
    """

    delimiter: str
    quote: str = '"'
    skipped: int = 0


def find_dialect(lines: Sequence[str], expected: str) -> Dialect:
    """Find the dialect with which the first lines of a file are even rows.

    Blank lines above the header are skipped, and so is Excel's "sep=;", which names the delimiter.

    Args:
        lines: the first lines, with their line ends; the last one may be cut off.
        expected: the delimiter that the file name suggests, which is preferred if others fit as well.
    """
    skipped, fixed = 0, ""
    for line in lines:
        separator = _SEPARATOR_LINE.fullmatch(line[:20])
        if separator and not fixed:
            fixed = separator[1]
        elif _has_cells(line):
            break
        skipped += 1
    sample = lines[skipped:]
    if fixed:
        return Dialect(fixed, _find_quote(sample, fixed), skipped)
    order = sorted(DELIMITERS, key=lambda delimiter: delimiter != expected)
    scores = {delimiter: _score(sample, delimiter) for delimiter in order}
    best = max(order, key=lambda delimiter: scores[delimiter])
    if scores[best] == NOT_POSSIBLE:
        best = expected if _is_single(sample, expected) else NO_DELIMITER
    return Dialect(best, _find_quote(sample, best), skipped)


def _has_cells(line: str) -> bool:
    """Return True if a line contains more than blanks and delimiters."""
    return bool(line.strip(" \t,;|\r\n"))


def is_table(lines: Sequence[str], delimiter: str) -> bool:
    """Return True if lines are at least two even rows of more than one column."""
    return sum(map(_has_cells, lines)) > 1 and _score(lines, delimiter)[0]


Score = tuple[bool, float, int, float, int]
NOT_POSSIBLE: Score = (False, 0.0, 0, 0.0, 0)


def _score(lines: Sequence[str], delimiter: str) -> Score:
    """Return a score that is higher the better a delimiter fits: the evenness of the rows, the number of
    columns with a known name, and the number of columns."""
    tables = [_rows(lines, delimiter, _find_quote(lines, delimiter))]
    if delimiter == "\t":  # often written without any quoting
        tables.append([line.rstrip("\r\n").split("\t") for line in lines])
    return max(_evenness(rows) for rows in tables)


def _evenness(rows: Sequence[Sequence[str]]) -> Score:
    if not rows or len(rows[0]) < 2:
        return NOT_POSSIBLE
    header, *others = rows
    width = len(header)
    points = sum(1.0 if len(row) == width else 0.5 * _is_mendable(row, width) for row in others)
    share = points / len(others) if others else 1.0
    known = count_known(header) if width <= MAX_COLUMNS else 0
    return share >= EVEN_ENOUGH, round(share, 1), known, share, width


def _is_mendable(row: Sequence[str], width: int) -> bool:
    """Return True if adding or removing empty cells gives a row as many cells as the header."""
    return 1 < len(row) < width or (len(row) > width and not any(row[width:]))


def _rows(lines: Sequence[str], delimiter: str, quote: str) -> list[list[str]]:
    """Return the rows that are not blank. If there are others, the last one is left out, as it may be
    cut off."""
    reader = csv.reader(iter(lines), delimiter=delimiter, quotechar=quote)
    rows = list(filter(None, _until_error(reader)))
    return rows[:-1] if len(lines) >= SAMPLE_LINES and len(rows) > 1 else rows


def _until_error(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error:  # a field beyond the limit of the csv module
        return


def _is_single(lines: Sequence[str], delimiter: str) -> bool:
    return all(len(row) == 1 for row in _rows(lines, delimiter, '"'))


def _find_quote(lines: Sequence[str], delimiter: str) -> str:
    """Return a single quotation mark if the file quotes with it, else a double one."""
    single = _count_quoted(lines, delimiter, "'")
    if 2 * single < len(lines) or single <= _count_quoted(lines, delimiter, '"'):
        return '"'
    return "'"


def _count_quoted(lines: Sequence[str], delimiter: str, quote: str) -> int:
    """Return the number of lines with a cell in such quotation marks."""
    return sum(
        any(
            len(cell) > 1 and cell[0] == cell[-1] == quote
            for cell in line.rstrip("\r\n").split(delimiter)
        )
        for line in lines
    )
