"""Rows out of Parquet and Arrow files and out of hub datasets, through optional packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from newsie.data.records import BadRow, Record, Records, Row, as_text
from newsie.errors import MissingExtraError, ReadError

__all__ = ["open_arrow", "open_hub", "open_parquet"]

BATCH_ROWS = 4096


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError(f"reading {path.suffix} files", "pyarrow", "parquet") from None
    return pyarrow


def open_parquet(path: Path) -> Records:
    """The rows of a Parquet file; only the wanted columns are read from the disk."""
    pyarrow = _pyarrow(path)
    import pyarrow.parquet as parquet

    def batches(wanted: Sequence[str]) -> Iterator[Any]:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=list(wanted))

    try:
        about = parquet.read_metadata(path)
        names = about.schema.to_arrow_schema().names
    except (pyarrow.ArrowException, OSError) as error:
        raise ReadError(path, f"not a Parquet file, or damaged: {error}") from error
    return _table(path, names, batches, (pyarrow.ArrowException, OSError), about.num_rows)


def open_arrow(path: Path) -> Records:
    """The rows of an Arrow file, in the file (Feather) or the stream format."""
    pyarrow = _pyarrow(path)

    def batches(wanted: Sequence[str]) -> Iterator[Any]:
        with pyarrow.memory_map(str(path)) as source:
            for batch in _arrow_batches(pyarrow, source):
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.select(list(wanted)).slice(start, BATCH_ROWS)

    try:
        with pyarrow.memory_map(str(path)) as source:
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
                for content in _batch_rows(batch):
                    number += 1
                    yield Record(number, content)
        except damage as error:
            raise ReadError(path, f"the file is damaged: {error}", row=number + 1) from error

    return Records(tuple(names), read, (lambda: number / rows) if rows else None)


def _batch_rows(batch: Any) -> Iterator[Row | BadRow]:
    names = batch.schema.names
    try:
        columns = [[as_text(v) for v in column.to_pylist()] for column in batch.columns]
    except UnicodeDecodeError:
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
    return content


def open_hub(source: str) -> Records:
    """The rows of `hub:owner/name[:split]`, streamed; the split is "train" unless it is named.

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
    except Exception as error:  # datasets has no common type for all that can go wrong here
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
        except Exception as error:  # the same, and the network may fail half-way
            raise ReadError(source, f"reading failed: {error}", row=number + 1) from error

    return Records(names, read)
