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
import os
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
    "EmptyFileError",
    "RecodedRow",
    "Record",
    "Records",
    "Row",
    "Watch",
    "all_columns",
    "as_text",
    "cut_off",
    "open_binary",
    "peek",
    "recode",
]

COMPRESSIONS = (".gz", ".zst")
DAMAGE = (EOFError, zlib.error, OSError)
"""What reading a compressed stream raises where it is damaged or ends early."""
PEEK_ROWS = 100

Row = dict[str, str]


class EmptyFileError(ReadError):
    """A file that holds nothing at all, as a job that writes many leaves some."""


class RecodedRow(Row):
    """A row that is not UTF-8 and was read as Windows-1252 (cp1252), the usual other one."""


class Watch:
    """How far the reading of a file is."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._bytes = 0

    def start(self, file: IO[bytes]) -> None:
        """Watch a file that was just opened."""
        self._file, self._bytes = file, os.fstat(file.fileno()).st_size

    def share(self) -> float:
        """The share of the file that was read, from 0 to 1."""
        if self._file is None or not self._bytes:
            return 0.0
        return 1.0 if self._file.closed else self._file.tell() / self._bytes


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
    """

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Record]]
    share: Callable[[], float] | None = None


def open_binary(path: Path, watch: Watch | None = None) -> IO[bytes]:
    """A file for reading, decompressed if it ends in .gz or .zst; `watch` is told of it."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ReadError(path, f"cannot be opened: {error.strerror or error}") from error
    if watch is not None:
        watch.start(file)
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], _Unzipped(file))
    return _open_zstandard(file) if path.suffix.lower() == ".zst" else file


class _Unzipped(gzip.GzipFile):
    """A gzip file that closes the file below it, too."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()


def _open_zstandard(file: IO[bytes]) -> IO[bytes]:
    try:
        import pyarrow
    except ImportError:
        file.close()
        raise MissingExtraError("reading .zst files", "pyarrow", "parquet") from None
    return io.BufferedReader(pyarrow.input_stream(file, compression="zstd"))


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
        raise EmptyFileError(path, "the file is empty")
    return columns
