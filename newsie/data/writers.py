"""Writing rows to files. A file appears under its name only when it is complete."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from newsie.atomic import new_file
from newsie.data.spreadsheet import BYTE_ORDER_MARK, protect
from newsie.errors import InputError, MissingExtraError

__all__ = ["RowWriter", "check_target", "json_line", "open_stdout", "open_writer"]

Value = str | int | float | bool | None
GROUP_ROWS = 10_000

# JSON allows these in strings unescaped, but a terminal obeys them, and a lone surrogate is not UTF-8.
_ESCAPED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")


class RowWriter(ABC):
    """A writer of rows, one after the other.

    Attributes:
        rows: number of rows written.
    """

    def __init__(self) -> None:
        self.rows = 0

    def write(self, row: Mapping[str, Value]) -> None:
        """Write a row of flat values: column -> value.

        Raises:
            InputError: the format cannot store a value, or it needs the same columns in each row and
                the earlier rows did not have one of these.
        """
        self._write({column: _storable(column, value) for column, value in row.items()})
        self.rows += 1

    @abstractmethod
    def _write(self, row: dict[str, Value]) -> None: ...

    def name_columns(self, row: Mapping[str, Value]) -> None:  # noqa: B027  # JSON Lines name none
        """Write the columns of this row as the header of a file without rows."""

    def finish(self) -> None:  # noqa: B027  # most writers hold nothing back
        """Write the rows that are still buffered."""

    def close(self) -> None:  # noqa: B027
        """Release the stream, even after an error."""


@contextmanager
def open_writer(path: Path | str, *, raw: bool = False) -> Iterator[RowWriter]:
    """Open a writer of .jsonl, .csv or .parquet, or of JSON Lines to stdout for "-".

    The rows are written to a temporary file in the same folder, which is renamed when all of them are
    on disk. After an error it is removed, and an existing file of that name is unchanged.

    Args:
        path: the file.
        raw: in CSV, write text as it is: without a byte order mark, and without an apostrophe before
            cells that a spreadsheet would run as formulas.

    Raises:
        InputError: the suffix is another one, or the folder is not writable.
        MissingExtraError: the file is Parquet, and pyarrow is not installed.
    """
    if str(path) == "-":
        yield _JsonWriter(open_stdout(), flush=True)
        return
    path = Path(path)
    open_format = check_target(path)
    with ExitStack() as opened:
        stream = _create(path, opened)
        writer = _CsvWriter(stream, raw) if open_format is _CsvWriter else open_format(stream)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


def check_target(path: Path) -> Callable[[io.BufferedIOBase], RowWriter]:
    """Return a function that opens a writer for a file of that name, after checking the name.

    Raises:
        InputError: the suffix is another one, the path is a folder, or its folder does not exist.
    """
    open_format = _find_format(path)
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file")
        if not path.parent.is_dir():
            raise InputError(f"{path} cannot be written: there is no folder {path.parent}")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    return open_format


def _create(path: Path, opened: ExitStack) -> io.BufferedWriter:
    try:
        return opened.enter_context(opened.enter_context(new_file(path)).open("wb"))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _find_format(path: Path) -> Callable[[io.BufferedIOBase], RowWriter]:
    formats: dict[str, Callable[[Any], RowWriter]] = {
        ".jsonl": _JsonWriter,
        ".ndjson": _JsonWriter,
        ".csv": _CsvWriter,
        ".parquet": _ParquetWriter,
    }
    try:
        return formats[path.suffix.lower()]
    except KeyError:
        given = f"files that end in {path.suffix!r}" if path.suffix else "files without an ending"
        raise InputError(
            f"{path}: {given} are not written; allowed: {', '.join(formats)}, or - for JSON Lines "
            "to the terminal or a pipe"
        ) from None


def _storable(column: str, value: Value) -> Value:
    """Return a value that can be stored: text without lone surrogates (they are escaped), finite numbers."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"column {column!r} holds {value}, which is not a number to write")
    return value


def open_stdout() -> Any:
    """Return stdout as a stream of bytes, because a terminal's encoding may not have all characters."""
    sys.stdout.flush()
    return getattr(sys.stdout, "buffer", None) or _TextStream()


class _TextStream:
    """A byte stream for a stdout that takes text only, as in notebooks."""

    def write(self, data: bytes) -> None:
        sys.stdout.write(data.decode("utf-8"))

    def flush(self) -> None:
        sys.stdout.flush()


def json_line(value: Any) -> bytes:
    r"""Return a value as a line of JSON in UTF-8. Control characters are escaped, such as `\u009b`."""
    text = json.dumps(value, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode("utf-8") + b"\n"


class _JsonWriter(RowWriter):
    def __init__(self, stream: Any, *, flush: bool = False) -> None:
        super().__init__()
        self._stream, self._flush = stream, flush

    def _write(self, row: dict[str, Value]) -> None:
        try:
            line = json_line(row)
        except TypeError as error:
            raise InputError(f"row {self.rows + 1} cannot be written as JSON: {error}") from error
        self._stream.write(line)
        if self._flush:
            self._stream.flush()


class _CsvWriter(RowWriter):
    def __init__(self, stream: Any, raw: bool = False) -> None:
        super().__init__()
        self._stream, self._raw = stream, raw
        self._writer = csv.writer(_Lines(stream))
        self._columns: list[str] = []

    def _write(self, row: dict[str, Value]) -> None:
        if not self.rows:
            self.name_columns(row)
        _check_columns(row, self._columns)
        self._writer.writerow([self._cell(row.get(column)) for column in self._columns])

    def name_columns(self, row: Mapping[str, Value]) -> None:
        self._columns = list(row)
        if not row:
            return
        if not self._raw:
            self._stream.write(BYTE_ORDER_MARK)
        self._writer.writerow(map(self._cell, row))

    def _cell(self, value: Value) -> Value:
        if value is None:
            return ""
        return protect(value) if isinstance(value, str) and not self._raw else value


class _Lines:
    """A text stream for the csv module, which writes its lines to a binary stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        # Lines end in "\n". Setting this in the csv module would leave "\r" in a cell unquoted.
        self._stream.write(line.removesuffix("\r\n").encode("utf-8") + b"\n")


class _ParquetWriter(RowWriter):
    def __init__(self, stream: Any) -> None:
        super().__init__()
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise MissingExtraError("writing Parquet files", "pyarrow", "parquet") from None
        self._arrow, self._stream = pyarrow, stream
        self._group: list[dict[str, Value]] = []
        self._file: Any = None

    def _write(self, row: dict[str, Value]) -> None:
        if self._file is not None:
            _check_columns(row, self._file.schema.names)
        self._group.append(row)
        if len(self._group) >= GROUP_ROWS:
            self._write_group()

    def name_columns(self, row: Mapping[str, Value]) -> None:
        self._group = [dict(row)]
        self._open_file()
        self._group = []

    def _open_file(self) -> None:
        schema = self._first_schema()
        self._file = self._arrow.parquet.ParquetWriter(self._stream, schema, compression="zstd")

    def _write_group(self) -> None:
        arrow = self._arrow
        try:
            if self._file is None:
                self._open_file()
            table = arrow.Table.from_pylist(self._group, schema=self._file.schema)
        except (arrow.ArrowException, TypeError) as error:
            raise InputError(f"the rows' values are not of the same types: {error}") from error
        self._file.write_table(table)
        self._group = []

    def _first_schema(self) -> Any:
        """Return the types in the first group. A column without values there is a text column."""
        arrow = self._arrow
        names = dict.fromkeys(name for row in self._group for name in row)
        found = {n: arrow.array([row.get(n) for row in self._group]).type for n in names}
        text = arrow.string()
        return arrow.schema([(n, text if arrow.types.is_null(t) else t) for n, t in found.items()])

    def finish(self) -> None:
        if self._group or self._file is None:
            self._write_group()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _check_columns(row: Mapping[str, Value], columns: list[str]) -> None:
    new = [column for column in row if column not in columns]
    if new:
        raise InputError(
            f"a row has the column {new[0]!r}, the rows before it have: {', '.join(columns)}; give "
            "the same columns in each row"
        )
