"""Records: rows of a source as text by column, or what is wrong with a row.

A row that cannot be read becomes a `BadRow` and the reading goes on behind it; only a source that
cannot be read at all raises ReadError.
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
    """A file that holds nothing at all, as a job that writes many leaves some."""


class RecodedRow(Row):
    """A row that is not UTF-8 and was read as Windows-1252 (cp1252), the usual other one."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
        reason: why, in a few fixed words to count by.
        detail: what is special about this row.
        column: the column at fault, or None for the whole row.
        last: nothing behind this row can be read.
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
    """What a source holds.

    Attributes:
        columns: the columns, known before anything is read. Where each row names its own columns
            (JSON), those of the first rows; later rows may bring more.
        read: the rows from the first one on, with at least the wanted columns.
        share: the share of the source that was read so far, from 0 to 1; None where that is not
            known.
        notes: number of rows, or of other things, by what is special about how they were read; filled
            while they are read.
    """

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Record]]
    share: Callable[[], float] | None = None
    notes: Counter[str] | None = None


def cut_off(error: Exception) -> BadRow:
    """The row where a damaged file ends."""
    reason = "the file is damaged or ends early here; nothing further is read"
    return BadRow(reason, str(error), last=True)


def recode(content: bytes) -> str | None:
    """Text of bytes that are not UTF-8, as Windows-1252; None where they are not that either."""
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return None


def as_text(value: object) -> str:
    """A cell as text: None and NaN are empty, dates ISO 8601, lists and objects `NestedText`.

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
    """The first records; more, up to the first one that can be read, if none of those can."""
    first: list[Record] = []
    readable = False
    for record in records:
        first.append(record)
        readable = readable or not isinstance(record.content, BadRow)
        if readable and len(first) >= rows:
            break
    return first


def all_columns(path: Path | str, first: Sequence[Record]) -> tuple[str, ...]:
    """The columns that occur in the first records.

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
