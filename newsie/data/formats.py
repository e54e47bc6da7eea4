"""Which format a source is in, and where the code that reads it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from newsie.data.delimited import open_delimited
from newsie.data.lines import open_headlines, open_json, open_json_lines, open_stream
from newsie.data.records import (
    COMPRESSIONS,
    BadRow,
    EmptyFileError,
    RecodedRow,
    Record,
    Records,
    Row,
    recode,
)
from newsie.errors import ReadError

__all__ = ["SUFFIXES", "open_records"]

TEXT_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt")
TABLE_SUFFIXES = (".parquet", ".arrow", ".feather")
SUFFIXES = TEXT_SUFFIXES + TABLE_SUFFIXES


def open_records(source: str | Path | IO[Any], *, max_field_chars: int) -> Records:
    """The rows of a file, of a folder of texts by label, of `hub:owner/name`, or of "-" (stdin).

    Raises:
        ReadError: the source is missing, empty, of an unknown format, or cannot be read at all.
        MissingExtraError: the format needs a package that is not installed.
    """
    limit = 8 * max_field_chars + 65_536  # of a line: several fields, escapes, bytes of UTF-8
    if not isinstance(source, str | Path):
        return open_stream(source, limit)
    if str(source) == "-":
        return open_stream(sys.stdin.buffer, limit)
    if str(source).startswith("hub:"):
        from newsie.data.tables import open_hub

        return open_hub(str(source))
    path = Path(source)
    try:
        if path.is_dir():
            return _open_folder(path, max_field_chars)
        if not path.exists():
            raise ReadError(path, "there is no such file")
        return _open_file(path, _find_format(path), limit)
    except OSError as error:  # a name that is too long, a folder that may not be entered, ...
        raise ReadError(path, f"cannot be opened: {error.strerror or error}") from error


def _find_format(path: Path) -> str:
    """The ending that tells the format."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    format_ = next(reversed(suffixes[:-1] if packed else suffixes), "")
    if format_ in (TEXT_SUFFIXES if packed else SUFFIXES):
        return format_
    given = "".join(suffixes[-2:] if packed else suffixes[-1:])
    raise ReadError(
        path,
        (f"files that end in {given!r} are not read" if given else "the name has no ending")
        + f"; allowed: {', '.join(SUFFIXES)}; all but {', '.join(TABLE_SUFFIXES)} also with "
        + " or ".join(COMPRESSIONS),
    )


def _open_file(path: Path, format_: str, limit: int) -> Records:
    if path.stat().st_size == 0:
        # A table says even of no rows which columns it has, and so was never written to the end.
        kind = ReadError if format_ in TABLE_SUFFIXES else EmptyFileError
        raise kind(path, "the file is empty")
    if format_ in TABLE_SUFFIXES:
        from newsie.data.tables import open_arrow, open_parquet

        return open_parquet(path) if format_ == ".parquet" else open_arrow(path)
    if format_ in (".csv", ".tsv"):
        return open_delimited(path, "\t" if format_ == ".tsv" else ",", limit)
    if format_ == ".json":
        return open_json(path, limit)
    return (open_headlines if format_ == ".txt" else open_json_lines)(path, limit)


def _open_folder(path: Path, limit: int) -> Records:
    """A folder for each label, with .txt files: first line the headline, the rest the body."""
    files = sorted(path.glob("*/*.txt"))
    if not files:
        raise ReadError(
            path,
            "is a folder without a folder for each label that holds .txt files (first line the "
            "headline, the rest the body); add them, or name one file",
        )

    def read(_wanted: object) -> Iterator[Record]:
        return (Record(number, _read_text(file, limit)) for number, file in enumerate(files, 1))

    return Records(("id", "headline", "body", "label"), read)


def _read_text(file: Path, limit: int) -> Row | BadRow:
    name = f"{file.parent.name}/{file.name}"
    try:
        with file.open(encoding="utf-8-sig") as stream:
            text = stream.read(limit + 1)
        kind: type[Row] = dict
    except UnicodeDecodeError as error:
        with file.open("rb") as raw:
            recoded = recode(raw.read(limit + 1))
        if recoded is None:
            return BadRow("not UTF-8", f"{name}, byte {error.start + 1}")
        text, kind = recoded, RecodedRow
    except OSError as error:
        return BadRow("cannot be opened", f"{name}: {error.strerror}")
    if "\0" in text:
        return BadRow("NUL character", name)
    if len(text) > limit:
        return BadRow("field too long", f"{name}: more than {limit:,} characters", "body")
    headline, _, body = text.lstrip().partition("\n")
    return kind(id=name, headline=headline.strip(), body=body.strip(), label=file.parent.name)
