"""Readers of Parquet files, Arrow files and hub datasets, which use optional packages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from newsie.data.records import BadRow, Record, Records, Row, as_text
from newsie.errors import MissingExtraError, ReadError

__all__ = ["open_arrow", "open_hub", "open_parquet"]

BATCH_ROWS = 4096
BATCH_BYTES = 16 * 2**20
"""The most rows and bytes to convert at a time. A single row may be larger."""
BUFFER_BYTES = 2**20


class _Lost(NamedTuple):
    """Rows that cannot be read, with the reason."""

    rows: int
    why: str


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError(f"reading {path.suffix} files", "pyarrow", "parquet") from None
    return pyarrow


def open_parquet(path: Path, content: bytes | None = None) -> Records:
    """Open the rows of a Parquet file. Only the wanted columns are read from disk. In a damaged row group,
    the rows that cannot be read become bad rows, and the others are read.

    Args:
        path: the file, or the name of a stream.
        content: all bytes of the stream.
    """
    pyarrow = _pyarrow(path)
    import pyarrow.parquet as parquet

    def source() -> Any:
        return path if content is None else pyarrow.BufferReader(content)

    def batches(wanted: Sequence[str]) -> Iterator[Any]:
        # Use a buffer instead of pre_buffer, which makes Arrow keep all bytes that it has read.
        with parquet.ParquetFile(source(), pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
            for group in range(file.num_row_groups):
                yield from _row_group(pyarrow, file, group, wanted)

    try:
        about = parquet.read_metadata(source())
        names = about.schema.to_arrow_schema().names
    except (pyarrow.ArrowException, OSError) as error:
        raise ReadError(path, f"not a Parquet file, or damaged: {error}") from error
    return _table(path, names, batches, (pyarrow.ArrowException, OSError), about.num_rows)


def _row_group(pyarrow: Any, file: Any, group: int, wanted: Sequence[str]) -> Iterator[Any]:
    about = file.metadata.row_group(group)
    columns = (about.column(number) for number in range(about.num_columns))
    size = sum(c.total_uncompressed_size for c in columns if _belongs(c.path_in_schema, wanted))
    rows, left = _rows_at_once(about.num_rows, size), about.num_rows
    try:
        # Arrow's threads would not help, because predicting is slower, and would use more memory.
        for batch in file.iter_batches(
            rows, row_groups=[group], columns=list(wanted), use_threads=False
        ):
            left -= batch.num_rows
            yield batch
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise  # a fault of the machine, not of the file
        yield _Lost(left, str(error))


def _belongs(path: str, wanted: Sequence[str]) -> bool:
    """Return True if a column of the file is a wanted one, or nested in one: "tags.list.element"."""
    return any(path == name or path.startswith(f"{name}.") for name in wanted)


def _rows_at_once(rows: int, size: int) -> int:
    """Return the number of rows to convert at a time, if `rows` rows take `size` bytes."""
    return max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(size, 1)))


def open_arrow(path: Path, content: bytes | None = None) -> Records:
    """Open the rows of an Arrow file, in the file (Feather) or the stream format. The arguments are those
    of `open_parquet`."""
    pyarrow = _pyarrow(path)

    def open_source() -> Any:
        return pyarrow.memory_map(str(path)) if content is None else pyarrow.BufferReader(content)

    def batches(wanted: Sequence[str]) -> Iterator[Any]:
        with open_source() as source:
            for batch in _arrow_batches(pyarrow, source):
                chosen = batch.select(list(wanted))
                rows = _rows_at_once(chosen.num_rows, chosen.nbytes)
                for start in range(0, chosen.num_rows, rows):
                    yield chosen.slice(start, rows)

    try:
        with open_source() as source:
            names = _arrow_reader(pyarrow, source).schema.names
    except (pyarrow.ArrowException, OSError) as error:
        raise ReadError(path, f"not an Arrow file, or damaged: {error}") from error
    return _table(path, names, batches, (pyarrow.ArrowException, OSError))


def _arrow_reader(pyarrow: Any, source: Any) -> Any:
    try:
        return pyarrow.ipc.open_file(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        return pyarrow.ipc.open_stream(source)


def _arrow_batches(pyarrow: Any, source: Any) -> Iterator[Any]:
    reader = _arrow_reader(pyarrow, source)
    if isinstance(reader, pyarrow.ipc.RecordBatchFileReader):
        return (reader.get_batch(i) for i in range(reader.num_record_batches))
    return iter(reader)


def _table(
    path: Path,
    names: Sequence[str],
    batches: Callable[[Sequence[str]], Iterable[Any]],
    damage: tuple[type[Exception], ...],
    rows: int | None = None,
) -> Records:
    number = 0

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        nonlocal number
        number = 0
        try:
            for batch in batches(wanted):
                for content in (
                    _lost_rows(batch) if isinstance(batch, _Lost) else _batch_rows(batch)
                ):
                    number += 1
                    yield Record(number, content)
        except damage as error:
            raise ReadError(path, f"the file is damaged: {error}", row=number + 1) from error

    return Records(tuple(names), read, (lambda: number / rows) if rows else None)


def _lost_rows(lost: _Lost) -> Iterator[BadRow]:
    return itertools.repeat(BadRow("in a damaged row group", lost.why), lost.rows)


def _batch_rows(batch: Any) -> Iterator[Row | BadRow]:
    names = batch.schema.names
    try:
        columns = [[as_text(v) for v in column.to_pylist()] for column in batch.columns]
    except (ValueError, ArithmeticError):  # not UTF-8, or a date that Python cannot represent
        yield from (_single_row(batch, row) for row in range(batch.num_rows))
        return
    for cells in zip(*columns, strict=True):
        yield dict(zip(names, cells, strict=True))


def _single_row(batch: Any, row: int) -> Row | BadRow:
    content = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            content[name] = as_text(column[row].as_py())
        except UnicodeDecodeError:
            return BadRow("not UTF-8", column=name)
        except (ValueError, ArithmeticError) as error:
            return BadRow("a value that cannot be read", str(error), name)
    return content


def open_hub(source: str) -> Records:
    """Open the rows of `hub:owner/name[:split]`, streamed. The default split is "train".

    Class indices become the names of the classes.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("reading hub datasets", "datasets", "hub") from None
    name, _, split = source.removeprefix("hub:").partition(":")
    try:
        dataset = datasets.load_dataset(name, split=split or "train", streaming=True)
        names = tuple(dataset.column_names or next(iter(dataset), {}))
    except Exception as error:  # the errors of datasets have no common type
        raise ReadError(source, f"cannot be loaded: {error}") from error
    features = dataset.features or {}
    classes = {n: f for n, f in features.items() if isinstance(f, datasets.ClassLabel)}

    def cell(column: str, value: Any) -> str:
        if column in classes and isinstance(value, int):
            return str(classes[column].int2str(value)) if value >= 0 else ""
        return as_text(value)

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        number = 0
        try:
            for number, row in enumerate(dataset, 1):
                yield Record(number, {column: cell(column, row.get(column)) for column in wanted})
        except Exception as error:  # likewise, and the network may fail half-way
            raise ReadError(source, f"reading failed: {error}", row=number + 1) from error

    return Records(names, read)
