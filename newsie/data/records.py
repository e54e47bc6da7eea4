"""Rows out of files, whatever the format: a stream of column -> text, or what is wrong with a row.

A row that cannot be read becomes a `BadRow` and the reading goes on behind it; only a file that
cannot be read at all raises ReadError. Nothing but JSON arrays is held in memory as a whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from newsie.errors import MissingExtraError, ReadError

__all__ = ["SUFFIXES", "BadRow", "Record", "Records", "open_records"]

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".parquet", ".arrow", ".feather")
COMPRESSIONS = (".gz", ".zst")
PEEK_ROWS = 100
"""Rows of a JSON Lines file that are looked at for the names of columns."""

_DAMAGED = (EOFError, zlib.error, OSError)  # what a compressed stream with a bad end raises
_UNDECODED = re.compile(
    "[\udc80-\udcff]"
)  # bytes that are not UTF-8, as "surrogateescape" leaves them


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: why, in a few fixed words, and the details of this one."""

    reason: str
    detail: str = ""
    column: str | None = None


class Record(NamedTuple):
    """A row: its 1-based number, and column -> text or what is wrong."""

    number: int
    content: dict[str, str] | BadRow


class Records(NamedTuple):
    """What a source holds.

    Attributes:
        columns: the columns, known before the first row is read. JSON Lines: those of the first
            rows.
        read: the rows, from the first, given the columns that are wanted.
    """

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Record]]


def open_records(source: str | Path | IO[Any], *, max_field_chars: int) -> Records:
    """The rows of a file, of a folder of texts by label, of `hub:owner/name`, or of "-" (stdin).

    Raises:
        ReadError: the source is missing, empty, of an unknown format, or cannot be read at all.
        MissingExtraError: the format needs a package that is not installed.
    """
    if not isinstance(source, str | Path):
        return _open_stream(source, max_field_chars)
    if str(source) == "-":
        return _open_stream(sys.stdin.buffer, max_field_chars)
    if str(source).startswith("hub:"):
        from newsie.data.tables import open_hub

        return open_hub(str(source))
    return _open_path(Path(source), max_field_chars)


def _open_path(path: Path, limit: int) -> Records:
    if path.is_dir():
        return _open_folder(path, limit)
    if not path.exists():
        raise ReadError(path, "there is no such file")
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    format_ = next((s for s in reversed(suffixes) if s not in COMPRESSIONS), "")
    if format_ not in SUFFIXES:
        raise ReadError(
            path,
            f"files that end in {format_ or path.suffix or 'nothing'!r} are not read; allowed: "
            f"{', '.join(SUFFIXES)}, all but the last three also with {' or '.join(COMPRESSIONS)}",
        )
    if path.stat().st_size == 0:
        raise ReadError(path, "the file is empty")
    if format_ in (".parquet", ".arrow", ".feather"):
        from newsie.data.tables import open_arrow, open_parquet

        return open_parquet(path) if format_ == ".parquet" else open_arrow(path)
    if format_ in (".csv", ".tsv"):
        return _open_csv(path, "\t" if format_ == ".tsv" else ",", limit)
    if format_ == ".json":
        return _open_json(path)
    return _open_lines(path, _parse_json if format_ != ".txt" else _parse_headline, limit)


def _open_binary(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix.lower() == ".zst":
        try:
            import pyarrow
        except ImportError:
            raise MissingExtraError("reading .zst files", "pyarrow", "parquet") from None
        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return path.open("rb")


# --- CSV --------------------------------------------------------------------------------------


def _open_csv(path: Path, delimiter: str, limit: int) -> Records:
    with _open_text(path) as stream:
        try:
            header = next(csv.reader(stream, delimiter=delimiter, strict=True), [])
        except (csv.Error, *_DAMAGED) as error:
            raise ReadError(path, f"the header cannot be read: {error}") from error
    if not header:
        raise ReadError(path, "the first line is empty; it must name the columns")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ReadError(path, f"the header names {', '.join(twice)} more than once")
    if any(_UNDECODED.search(name) for name in header):
        raise ReadError(path, "the header is not UTF-8; save the file as UTF-8")
    return Records(tuple(header), lambda _wanted: _read_csv(path, delimiter, header, limit))


def _open_text(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        _open_binary(path), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )


def _read_csv(path: Path, delimiter: str, header: list[str], limit: int) -> Iterator[Record]:
    # The limit of the csv module is one for the whole process; ours is never below its default.
    csv.field_size_limit(max(limit, csv.field_size_limit()))
    with _open_text(path) as stream:
        rows = csv.reader(stream, delimiter=delimiter, strict=True)
        next(rows)
        for number in itertools.count(1):
            try:
                row = next(row for row in rows if row)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(number, BadRow("broken CSV row", str(error)))
                continue
            except _DAMAGED as error:
                yield Record(number, _damaged(error))
                return
            yield Record(number, _check_row(row, header))


def _check_row(row: list[str], header: list[str]) -> dict[str, str] | BadRow:
    if len(row) != len(header):
        found = f"{len(row)} instead of {len(header)}"
        return BadRow("too many fields" if len(row) > len(header) else "too few fields", found)
    for column, value in zip(header, row, strict=True):
        if not value.isascii() and _UNDECODED.search(value):
            return BadRow("not UTF-8", column=column)
        if "\0" in value:
            return BadRow("NUL character", column=column)
    return dict(zip(header, row, strict=True))


def _damaged(error: Exception) -> BadRow:
    return BadRow("the file is damaged or ends early; nothing behind this row is read", str(error))


# --- JSON Lines and plain lines -----------------------------------------------------------------

Line = bytes | str
Parser = Callable[[Line], dict[str, str] | BadRow]


def _open_lines(path: Path, parse: Parser, limit: int) -> Records:
    def read(_wanted: Sequence[str] = ()) -> Iterator[Record]:
        with _open_binary(path) as stream:
            yield from _read_lines(stream, parse, limit)

    first = list(itertools.islice(read(), PEEK_ROWS))
    return Records(_all_columns(path, first), read)


def _open_stream(stream: IO[Any], limit: int) -> Records:
    """One article a line: JSON objects if the first line starts with "{", headlines otherwise."""
    lines = _lines(stream, limit)
    number, start = 0, None
    for number, start in lines:
        if _has_content(start):
            break
    if start is None or not _has_content(start):
        raise ReadError("stdin", "there is no line with text")
    parse = _parse_json if start.lstrip()[:1] in (b"{", "{") else _parse_headline
    first = _parse_line(number, start, parse)
    rows = itertools.chain([first], _parse_lines(lines, parse))
    return Records(_all_columns("stdin", [first]), lambda _wanted: rows)


def _all_columns(path: Path | str, records: Iterable[Record]) -> tuple[str, ...]:
    bad, columns = None, dict[str, None]()
    for record in records:
        if isinstance(record.content, BadRow):
            bad = bad or record
        else:
            columns |= dict.fromkeys(record.content)
    if not columns:
        if bad is None:
            raise ReadError(path, "there is no row with content")
        assert isinstance(bad.content, BadRow)
        reason = f"no row can be read; the first: {bad.content.reason} {bad.content.detail}"
        raise ReadError(path, reason.strip(), row=bad.number)
    return tuple(columns)


def _read_lines(stream: IO[Any], parse: Parser, limit: int) -> Iterator[Record]:
    return _parse_lines(_lines(stream, limit), parse)


def _parse_lines(lines: Iterable[tuple[int, Line | BadRow]], parse: Parser) -> Iterator[Record]:
    for number, line in lines:
        if _has_content(line):
            yield _parse_line(number, line, parse)


def _parse_line(number: int, line: Line | BadRow, parse: Parser) -> Record:
    return Record(number, line if isinstance(line, BadRow) else parse(line))


def _has_content(line: Line | BadRow) -> bool:
    return isinstance(line, BadRow) or bool(line.strip())


def _lines(stream: IO[Any], limit: int) -> Iterator[tuple[int, Line | BadRow]]:
    """Numbered lines; a line beyond the limit is skipped without holding it in memory."""
    for number in itertools.count(1):
        try:
            line: Line = stream.readline(limit + 1)
            if not line:
                return
            if len(line) > limit:
                _skip_line(stream, line, limit)
                yield number, BadRow("line too long", f"more than {limit:,} bytes")
                continue
        except _DAMAGED as error:
            yield number, _damaged(error)
            return
        if number == 1:
            line = (
                line.removeprefix(b"\xef\xbb\xbf")
                if isinstance(line, bytes)
                else line.removeprefix("\ufeff")
            )
        yield number, line


def _skip_line(stream: IO[Any], line: Line, limit: int) -> None:
    while line and line[-1:] not in (b"\n", "\n"):
        line = stream.readline(limit)


def _parse_headline(line: Line) -> dict[str, str] | BadRow:
    text = _decode(line)
    if isinstance(text, BadRow):
        return text
    return BadRow("NUL character") if "\0" in text else {"headline": text.strip()}


def _parse_json(line: Line) -> dict[str, str] | BadRow:
    text = _decode(line)
    if isinstance(text, BadRow):
        return text
    try:
        return _as_row(json.loads(text))
    except (ValueError, RecursionError) as error:
        return BadRow("broken JSON", str(error))


def _decode(line: Line) -> str | BadRow:
    try:
        return line if isinstance(line, str) else line.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow("not UTF-8", f"byte {error.start + 1} of the line")


def _as_row(value: object) -> dict[str, str] | BadRow:
    if not isinstance(value, dict):
        return BadRow("not a JSON object", type(value).__name__)
    return {str(name): as_text(cell) for name, cell in value.items()}


def as_text(value: object) -> str:
    """A cell as text: nothing (None, NaN) is empty, lists and objects are JSON."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


# --- a JSON array -------------------------------------------------------------------------------


def _open_json(path: Path) -> Records:
    with _open_binary(path) as stream:
        try:
            text = stream.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ReadError(path, f"not UTF-8 at byte {error.start + 1}") from error
        except _DAMAGED as error:
            raise ReadError(path, f"the file is damaged or ends early ({error})") from error
    records = [Record(number, row) for number, row in enumerate(_parse_array(path, text), 1)]
    return Records(_all_columns(path, records), lambda _wanted: iter(records))


def _parse_array(path: Path, text: str) -> Iterator[dict[str, str] | BadRow]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text.lstrip().startswith("["):
            raise ReadError(path, f"broken JSON: {error}") from error
        yield from _salvage_array(text)
        return
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        content = content["data"]
    if not isinstance(content, list):
        raise ReadError(
            path,
            'must hold an array of objects, [{...}, ...] or {"data": [...]}; for one object a '
            "line, name the file .jsonl",
        )
    yield from map(_as_row, content)


def _salvage_array(text: str) -> Iterator[dict[str, str] | BadRow]:
    """The objects of an array up to the first one that is broken."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    separator = re.compile(r"[\s,]*")
    while True:
        blank = separator.match(text, position)
        assert blank is not None
        try:
            value, position = decoder.raw_decode(text, blank.end())
        except (ValueError, RecursionError) as error:
            yield BadRow("broken JSON; nothing behind this row is read", str(error))
            return
        yield _as_row(value)


# --- a folder of texts by label -----------------------------------------------------------------


def _open_folder(path: Path, limit: int) -> Records:
    files = sorted(path.glob("*/*.txt"))
    if not files:
        raise ReadError(
            path,
            "a folder must hold one folder for each label with .txt files in it (first line the "
            "headline, the rest the body); there is no such file. To read a single file, name it",
        )
    return Records(
        ("id", "headline", "body", "label"),
        lambda _wanted: (Record(n, _read_text(f, limit)) for n, f in enumerate(files, 1)),
    )


def _read_text(file: Path, limit: int) -> dict[str, str] | BadRow:
    name = f"{file.parent.name}/{file.name}"
    try:
        with file.open(encoding="utf-8-sig") as stream:
            text = stream.read(limit + 1)
    except (UnicodeDecodeError, OSError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "cannot be opened"
        return BadRow(reason, f"{name}: {error}")
    if "\0" in text:
        return BadRow("NUL character", name)
    if len(text) > limit:
        return BadRow("text too long", f"{name}: more than {limit:,} characters")
    headline, _, body = text.partition("\n")
    return {
        "id": name,
        "headline": headline.strip(),
        "body": body.strip(),
        "label": file.parent.name,
    }
