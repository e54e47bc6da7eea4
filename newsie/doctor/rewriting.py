"""Writing a file again with some rows changed or left out, and everything else unchanged."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from newsie.atomic import check_writable, new_file
from newsie.data.binary import COMPRESSIONS, FileSource, open_binary
from newsie.data.delimited import read_dialect
from newsie.data.documents import find_rows, holds_lines, rows_of
from newsie.data.formats import open_records
from newsie.data.readers import MAX_FIELD_CHARS
from newsie.data.records import BadRow, recode
from newsie.data.spreadsheet import BYTE_ORDER_MARK, protect
from newsie.errors import InputError

__all__ = ["Edit", "Left", "check_target", "rewrite"]

UNUSABLE = "no text, or a field that is too long"


@dataclass(frozen=True)
class Edit:
    """A change to a row.

    Attributes:
        drop: True if the row is left out.
        cells: column -> new value; "" empties it.
    """

    drop: bool = False
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Left:
    """A row that was changed or left out.

    Attributes:
        number: number of the row.
        dropped: True if the row was left out.
        content: the content of a row that was left out; as text if it could not be read.
        reason: the reason, for a row that could not be read.
        changed: column -> (before, after).
    """

    number: int
    dropped: bool = False
    content: Any = None
    reason: str = ""
    changed: Mapping[str, tuple[Any, str]] = field(default_factory=dict)


Rows = Iterator[Left | None]
"""The outcome for each row. None stands for a row that was written unchanged."""

Decide = Callable[[int], Edit]


def check_target(source: Path, output: Path) -> None:
    """Check that a file can be written again under another name.

    Raises:
        InputError: the name is of the same file or another format, or the format cannot be written.
    """
    given, wanted = _format(source), _format(output)
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the file that is examined, which stays; name another one")
    if source.is_dir() or given not in _FORMATS:
        raise InputError(
            f"{source} cannot be written again; files that can: {', '.join(_FORMATS)}, all but "
            ".parquet also with .gz. Save it as one of these first"
        )
    if not output.parent.is_dir():
        raise InputError(f"{output} cannot be written: there is no folder {output.parent}")
    check_writable(output)
    if wanted != given:
        raise InputError(
            f"{output}: the cleaned file has the format of {source.name}; give it a name that "
            f"ends in {given}"
        )
    if output.suffix.lower() == ".zst":
        raise InputError(f"{output}: files are not written with .zst; end the name in {given}")


def rewrite(source: Path, output: Path, edits: Mapping[int, Edit], numbers: frozenset[int]) -> Rows:
    """Write the rows of a file to another, one after the other, and yield the outcome for each.

    Args:
        source: the file.
        output: the new file, which appears when all rows are written.
        edits: row number -> change to the row.
        numbers: the rows that can be used; all others are left out.
    """

    def decide(number: int) -> Edit:
        return edits.get(number, Edit(drop=number not in numbers))

    write = _FORMATS[_format(source)]
    with new_file(output) as aside:
        yield from write(source, aside, decide, output.suffix.lower() == ".gz")


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def _create(path: Path, packed: bool) -> Iterator[IO[bytes]]:
    with cast(IO[bytes], gzip.open(path, "wb") if packed else path.open("wb")) as stream:
        yield stream


def _apply(number: int, row: dict[str, Any], edit: Edit) -> Left | None:
    """Change a row in place."""
    changed = {
        column: (row.get(column), value)
        for column, value in edit.cells.items()
        if row.get(column) != value
    }
    row.update(edit.cells)
    return Left(number, changed=changed) if changed else None


def _rewrite_delimited(source: Path, target: Path, decide: Decide, packed: bool) -> Rows:
    records = open_records(source, max_field_chars=MAX_FIELD_CHARS)
    columns = list(records.columns)
    usual = "\t" if _format(source) == ".tsv" else ","
    dialect = read_dialect(FileSource(source), usual, MAX_FIELD_CHARS)
    with FileSource(source).peek() as start:
        marked = start.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK
    write_cell = protect if marked else str  # protected cells stay protected
    with _create(target, packed) as stream:
        # Lines end in "\n". Setting this in the csv module would leave "\r" unquoted.
        def put(line: str) -> None:
            stream.write(line.removesuffix("\r\n").encode("utf-8") + b"\n")

        writer = csv.writer(_Lines(put), delimiter=dialect.delimiter)
        if marked:
            stream.write(BYTE_ORDER_MARK)
        writer.writerow(map(write_cell, columns))
        for number, row in records.read(columns):
            edit = decide(number)
            if isinstance(row, BadRow):
                yield Left(number, True, reason=str(row))
            elif edit.drop:
                yield Left(number, True, row, UNUSABLE)
            else:
                change = _apply(number, row, edit)
                writer.writerow([write_cell(row[column]) for column in columns])
                yield change


class _Lines:
    """A text stream for the csv module, which passes its lines to a function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write


def _rewrite_lines(source: Path, target: Path, decide: Decide, packed: bool) -> Rows:
    with open_binary(source) as lines, _create(target, packed) as stream:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            edit = decide(number)
            if edit.drop:
                yield Left(number, True, *_content(line))
                continue
            change = None
            if edit.cells:
                row = json.loads(_decode(line))
                change = _apply(number, row, edit)
                line = json.dumps(row, ensure_ascii=False).encode("utf-8")
            stream.write(_as_utf8(line).rstrip(b"\r\n") + b"\n")
            yield change


def _decode(content: bytes) -> str:
    """Decode bytes as the reader does: as UTF-8, or else as Windows-1252."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return recode(content) or content.decode("utf-8-sig", "replace")


def _as_utf8(line: bytes) -> bytes:
    """Return a line in UTF-8. A line that is UTF-8 already is unchanged."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return _decode(line).encode("utf-8")
    return line


def _content(line: bytes) -> tuple[Any, str]:
    """Return the content of a line, and the reason to give if it cannot be used."""
    text = line.decode("utf-8-sig", "backslashreplace").strip()
    try:
        return json.loads(text), UNUSABLE
    except (ValueError, RecursionError) as error:
        return text, f"broken JSON: {error}"


def _rewrite_document(source: Path, target: Path, decide: Decide, packed: bool) -> Rows:
    if holds_lines(FileSource(source), MAX_FIELD_CHARS):
        yield from _rewrite_lines(source, target, decide, packed)
        return
    with open_binary(source) as stream:
        text = _decode(stream.read())
    try:
        content = json.loads(text)
    except ValueError as error:
        kind = "a broken JSON array" if text.lstrip().startswith("[") else "no single JSON document"
        raise InputError(
            f"{source} is {kind}, which cannot be written again: {error}; save what is whole as JSON "
            "Lines, an object a line"
        ) from error
    rows = rows_of(str(source), content)
    kept = []
    for number, row in enumerate(rows, 1):
        edit = decide(number)
        if edit.drop:
            yield Left(
                number, True, row, UNUSABLE if isinstance(row, dict) else "not a JSON object"
            )
        else:
            yield _apply(number, row, edit)
            kept.append(row)
    if rows is find_rows(content):
        rows[:] = kept
    else:  # the columns of a table, or a single object
        content = kept
    with _create(target, packed) as stream:
        stream.write(json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8"))


def _rewrite_parquet(source: Path, target: Path, decide: Decide, packed: bool) -> Rows:
    import pyarrow
    import pyarrow.parquet as parquet

    del packed  # Parquet is compressed internally
    number = 0
    with (
        parquet.ParquetFile(source) as file,
        parquet.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer,
    ):
        for batch in file.iter_batches():
            edits = [decide(number + i) for i in range(1, batch.num_rows + 1)]
            yield from _left(batch, edits, number)
            number += batch.num_rows
            writer.write_batch(_edit_batch(pyarrow, batch, edits))


def _left(batch: Any, edits: list[Edit], start: int) -> Rows:
    for i, edit in enumerate(edits):
        if edit.drop:
            row = batch.slice(i, 1).to_pylist()[0]
            yield Left(start + i + 1, True, row, UNUSABLE)
        elif edit.cells:
            row = {column: batch.column(column)[i].as_py() for column in edit.cells}
            yield _apply(start + i + 1, row, edit)
        else:
            yield None


def _edit_batch(pyarrow: Any, batch: Any, edits: list[Edit]) -> Any:
    for column in {column for edit in edits for column in edit.cells}:
        values = batch.column(column).to_pylist()
        for i, edit in enumerate(edits):
            if column in edit.cells:
                values[i] = edit.cells[column] or None
        place = batch.schema.get_field_index(column)
        array = pyarrow.array(values, type=batch.schema.field(place).type)
        batch = batch.set_column(place, batch.schema.field(place), array)
    return batch.filter(pyarrow.array([not edit.drop for edit in edits]))


_FORMATS: Mapping[str, Callable[[Path, Path, Decide, bool], Rows]] = {
    ".csv": _rewrite_delimited,
    ".tsv": _rewrite_delimited,
    ".jsonl": _rewrite_lines,
    ".ndjson": _rewrite_lines,
    ".json": _rewrite_document,
    ".parquet": _rewrite_parquet,
}
