"""Records: the rows of a source as column -> text, or the problem with a row.

A row that cannot be read becomes a `BadRow`, and reading continues with the next one. Only a source
that cannot be read at all raises ReadError.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from newsie.data.nested import NestedText
from newsie.errors import ReadError

__all__ = [
    "BadRow",
    "EmptyFileError",
    "RecodedRow",
    "Record",
    "Records",
    "Row",
    "all_columns",
    "as_text",
    "cut_off",
    "peek",
    "recode",
]

PEEK_ROWS = 100

Row = dict[str, str]


class EmptyFileError(ReadError):
    """An error for an empty file, such as jobs that write many files sometimes leave."""


class RecodedRow(Row):
    """A row that is not UTF-8 and was decoded as Windows-1252 (cp1252), the usual alternative."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
        reason: the reason, in a few fixed words to count by.
        detail: the particulars of this row.
        column: the column at fault, or None for the whole row.
        last: True if nothing after this row can be read.
    """

    reason: str
    detail: str = ""
    column: str | None = None
    last: bool = False

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


class Record(NamedTuple):
    """A row with its 1-based number; a header is not counted."""

    number: int
    content: Row | BadRow


class Records(NamedTuple):
    """The contents of a source.

    Attributes:
        columns: the columns, known before anything is read. If each row names its own columns
            (JSON), those of the first rows; later rows may add more.
        read: a function that returns the rows from the first one on, with at least the given columns.
        share: a function that returns the share of the source read so far, from 0 to 1; None if
            unknown.
        notes: number of rows, or of other things, by the unusual way in which they were read; filled
            while reading.
    """

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Record]]
    share: Callable[[], float] | None = None
    notes: Counter[str] | None = None


def cut_off(error: Exception) -> BadRow:
    """Return the bad row at which a damaged file ends."""
    reason = "the file is damaged or ends early here; nothing further is read"
    return BadRow(reason, str(error), last=True)


def recode(content: bytes) -> str | None:
    """Decode bytes that are not UTF-8 as Windows-1252. Return None if they are not that either."""
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return None


def as_text(value: object) -> str:
    """Return a cell as text: None and NaN as "", dates as ISO 8601, lists and objects as `NestedText`.

    Raises:
        UnicodeDecodeError: bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list | dict):
        return NestedText.of(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def peek(records: Iterable[Record], rows: int = PEEK_ROWS) -> list[Record]:
    """Return the first records. If none of them can be read, go on up to the first one that can."""
    first: list[Record] = []
    readable = False
    for record in records:
        first.append(record)
        readable = readable or not isinstance(record.content, BadRow)
        if readable and len(first) >= rows:
            break
    return first


def all_columns(path: Path | str, first: Sequence[Record]) -> tuple[str, ...]:
    """Return the columns that occur in the first records.

    Raises:
        ReadError: no record can be read.
    """
    rows = (record.content for record in first if not isinstance(record.content, BadRow))
    columns = tuple(dict.fromkeys(itertools.chain.from_iterable(rows)))
    if not columns:
        if first:
            reason = f"none of the {len(first):,} rows can be read; the first: {first[0].content}"
            raise ReadError(path, reason, row=first[0].number)
        raise EmptyFileError(path, "the file is empty")
    return columns
