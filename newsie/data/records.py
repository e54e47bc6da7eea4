"""Records: rows of a source as text by column, or what is wrong with a row.

A row that cannot be read becomes a `BadRow` and the reading goes on behind it; only a source that
cannot be read at all raises ReadError.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast

from newsie.errors import MissingExtraError, ReadError

__all__ = [
    "COMPRESSIONS",
    "DAMAGE",
    "BadRow",
    "Record",
    "Records",
    "Row",
    "all_columns",
    "as_text",
    "cut_off",
    "open_binary",
    "peek",
]

COMPRESSIONS = (".gz", ".zst")
DAMAGE = (EOFError, zlib.error, OSError)
"""What reading a compressed stream raises where it is damaged or ends early."""
PEEK_ROWS = 100

Row = dict[str, str]


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
    """

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Record]]


def open_binary(path: Path) -> IO[bytes]:
    """A file for reading, decompressed if it ends in .gz or .zst."""
    try:
        if path.suffix.lower() == ".gz":
            return cast(IO[bytes], gzip.open(path, "rb"))
        if path.suffix.lower() == ".zst":
            return _open_zstandard(path)
        return path.open("rb")
    except OSError as error:
        raise ReadError(path, f"cannot be opened: {error.strerror or error}") from error


def _open_zstandard(path: Path) -> IO[bytes]:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("reading .zst files", "pyarrow", "parquet") from None
    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


def cut_off(error: Exception) -> BadRow:
    """The row where a damaged file ends."""
    reason = "the file is damaged or ends early here; nothing further is read"
    return BadRow(reason, str(error), last=True)


def as_text(value: object) -> str:
    """A cell as text: None and NaN are empty, dates ISO 8601, lists and objects JSON.

    Raises:
        UnicodeDecodeError: bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
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
        raise ReadError(path, "the file is empty")
    return columns
