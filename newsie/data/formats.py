"""Detecting the format of a source by its name or content, and opening it with the right reader."""

from __future__ import annotations

import csv
import re
import stat
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any

from newsie.data.binary import COMPRESSIONS, FileSource, Source, StreamSource, read_whole
from newsie.data.columns import count_known, find_column, has_text_column
from newsie.data.delimited import holds_table, open_delimited
from newsie.data.dialects import DELIMITERS
from newsie.data.documents import holds_lines, open_json
from newsie.data.folders import open_folder
from newsie.data.lines import first_lines, open_headlines, open_json_lines, starts_object
from newsie.data.records import EmptyFileError, Records, recode
from newsie.errors import ReadError

__all__ = ["SUFFIXES", "is_stream", "open_records"]

TEXT_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt")
TABLE_SUFFIXES = (".parquet", ".arrow", ".feather")
SUFFIXES = TEXT_SUFFIXES + TABLE_SUFFIXES

MAX_HELD_BYTES = 256 * 2**20
"""The largest table that is read from a stream, which is held in memory."""

_FOREIGN = {
    re.compile(rb"PK\x03\x04"): "an Excel sheet or another zip file: save it as CSV, or unpack it",
    re.compile(rb"\xd0\xcf\x11\xe0"): "an old Excel or Word file: save it as CSV",
    re.compile(rb"%PDF-"): "a PDF file",
    re.compile(rb"WARC/"): "a web archive (WARC)",
    re.compile(rb"\A\s*<(\?xml|rss|feed|nitf|newsml|sgml|urlset)\b", re.I): "XML or a feed",
    re.compile(rb"\A\s*<(!doctype|html|head|body)\b", re.I): "a web page or SGML",
    re.compile(
        rb"\x89PNG|\xff\xd8\xff|GIF8|\x7fELF|SQLite format 3|\x80[\x02-\x05]"
    ): "an image, a program, a database or a pickle",
    re.compile(rb"[\x01\x16]"): "a wire format with control characters",
}
"""The first bytes of files without rows of text, whatever their name."""

_TABLES = {b"PAR1": ".parquet", b"ARROW1": ".arrow"}


def open_records(
    source: str | Path | IO[Any],
    *,
    max_field_chars: int,
    name: str | None = None,
    known: Collection[str] = (),
    max_bytes: int | None = None,
) -> Records:
    """Open the rows of a file, a folder of texts by label, `hub:owner/name`, "-" (stdin), or an open
    stream.

    The suffix of a regular file names its format. The format of a stream or pipe without such a name is
    detected from its content.

    Args:
        source: the source of the rows.
        max_field_chars: the longest field that the caller uses.
        name: the name of a stream, e.g. "upload.csv".
        known: required columns, which may have unusual names.
        max_bytes: the most bytes that a stream may hold once decompressed; None means no limit.

    Raises:
        ReadError: the source is missing, empty, of an unknown format, or cannot be read at all.
        MissingExtraError: the format needs a package that is not installed.
    """
    limit = 8 * max_field_chars + 65_536  # per line: several fields, escapes, UTF-8 bytes
    if not isinstance(source, str | Path):
        return _open_stream(StreamSource(source, name or "stdin", max_bytes), name, limit, known)
    if str(source) == "-":
        return _open_stream(StreamSource(sys.stdin.buffer, "stdin"), None, limit, known)
    if str(source).startswith("hub:"):
        from newsie.data.tables import open_hub

        return open_hub(str(source))
    path = Path(source)
    try:
        if path.is_dir():
            return open_folder(path, max_field_chars)
        if not path.exists():
            raise ReadError(path, "there is no such file")
        if is_stream(path):
            pipe = StreamSource(path.open("rb"), str(path), owned=True)
            return _open_stream(pipe, path.name, limit, known)
        return _open_file(path, _find_format(path), limit, known)
    except OSError as error:  # the name is too long, a folder may not be entered, ...
        raise ReadError(path, f"cannot be opened: {error.strerror or error}") from error


_STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


def is_stream(source: str | Path) -> bool:
    """Return True if a source can be read only once: "-", a named pipe, /dev/stdin, a shell's <(...)."""
    if str(source) == "-":
        return True
    if str(source).startswith("hub:"):
        return False
    try:
        mode = Path(source).stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL character, which no file name has
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or str(source).startswith(_STREAMS)


def _ending(path: Path) -> tuple[str, bool]:
    """Return the suffix that names the format, and True if a compression suffix follows it."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    return next(reversed(suffixes[:-1] if packed else suffixes), ""), packed


def _find_format(path: Path) -> str:
    format_, packed = _ending(path)
    if format_ in (TEXT_SUFFIXES if packed else SUFFIXES):
        return format_
    given = "".join(path.suffixes[-2:] if packed else path.suffixes[-1:]).lower()
    raise ReadError(
        path,
        (f"files that end in {given!r} are not read" if given else "the name has no ending")
        + f"; allowed: {', '.join(SUFFIXES)}; all but {', '.join(TABLE_SUFFIXES)} also with "
        + " or ".join(COMPRESSIONS),
    )


def _open_file(path: Path, format_: str, limit: int, known: Collection[str]) -> Records:
    if path.stat().st_size == 0:
        # A table file has a schema even without rows, so an empty one was not written completely.
        kind = ReadError if format_ in TABLE_SUFFIXES else EmptyFileError
        raise kind(path, "the file is empty")
    if format_ in TABLE_SUFFIXES:
        from newsie.data.tables import open_arrow, open_parquet

        return open_parquet(path) if format_ == ".parquet" else open_arrow(path)
    source = FileSource(path)
    with source.peek() as stream:
        _refuse_foreign(source, stream.peek(100)[:100])  # type: ignore[attr-defined]
    return _open_text(source, format_, limit, known)


def _open_text(source: Source, format_: str, limit: int, known: Collection[str]) -> Records:
    if format_ == ".txt" and (delimiter := _table_delimiter(source, limit, known)):
        return open_delimited(source, delimiter, limit)
    if format_ in (".csv", ".tsv"):
        return open_delimited(source, "\t" if format_ == ".tsv" else ",", limit)
    if format_ == ".json":
        return open_json(source, limit)
    return (open_headlines if format_ == ".txt" else open_json_lines)(source, limit)


def _open_stream(
    source: StreamSource, name: str | None, limit: int, known: Collection[str]
) -> Records:
    with source.peek() as stream:
        head = stream.peek(100)[:100]  # type: ignore[attr-defined]
    _refuse_foreign(source, head)
    named = _ending(Path(name))[0] if name else ""
    marked = next((ending for mark, ending in _TABLES.items() if head.startswith(mark)), named)
    if marked in TABLE_SUFFIXES:
        from newsie.data.tables import open_arrow, open_parquet

        content = read_whole(source, MAX_HELD_BYTES, "save it and name the file")
        read = open_parquet if marked == ".parquet" else open_arrow
        return read(Path(source.name), content)
    format_ = named if named in TEXT_SUFFIXES else _guess(source, limit, known)
    return _open_text(source, format_, limit, known)


def _refuse_foreign(source: Source, head: bytes) -> None:
    """Raise an error if a file is not what its name says, or of a format that Newsie does not read."""
    for start, what in _FOREIGN.items():
        if start.match(head.removeprefix(b"\xef\xbb\xbf")):
            raise ReadError(
                source.name, f"holds {what}; formats that are read: {', '.join(SUFFIXES)}"
            )


def _guess(source: Source, limit: int, known: Collection[str]) -> str:
    """Return the suffix of the format that the first lines look like."""
    first, _ = first_lines(source, limit, lambda _: False)
    if _CONTROL.search(first):
        raise ReadError(
            source.name,
            f"holds binary data and no text; formats that are read: {', '.join(SUFFIXES)}",
        )
    if starts_object(first):
        return ".jsonl" if holds_lines(source, limit) else ".json"
    line = _decode(first)
    if _JSON_ARRAY.match(line):
        return ".json"
    return ".csv" if _is_header(line, known) else ".txt"


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return recode(line) or ""


def _table_delimiter(source: Source, limit: int, known: Collection[str]) -> str:
    """Return the delimiter of a table saved as .txt ("Unicode Text" of spreadsheets), or "" for one headline
    per line. More than the first line of a stream is read only if that line names columns."""
    line = _decode(first_lines(source, limit, lambda _: False)[0])
    named = (delimiter for delimiter in DELIMITERS if _are_known(_cells(line, delimiter), known))
    return next((delimiter for delimiter in named if holds_table(source, delimiter, limit)), "")


_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_JSON_ARRAY = re.compile(r'\s*\[\s*(?:[\[{"\]]|\Z)')
_SEPARATOR_LINE = re.compile(r'"?sep=."?\s*\Z', re.IGNORECASE)
_COLUMN_NAME = re.compile(r"[^\W\d]\w{0,40}\Z")


def _is_header(line: str, known: Collection[str]) -> bool:
    """Return True if a line names the columns of a CSV or TSV file, rather than being a headline."""
    if _SEPARATOR_LINE.match(line):
        return True
    if line.strip().strip('"').casefold() in ("headline", "title"):
        return True
    return any(_names_columns(line, delimiter, known) for delimiter in DELIMITERS)


def _names_columns(line: str, delimiter: str, known: Collection[str]) -> bool:
    """Return True if the cells of a line are column names, or are more than two single words."""
    names = _cells(line, delimiter)
    words = _are_words(names) and len(names) > 2
    return _are_known(names, known) or (words and not has_text_column(names))


def _are_known(names: Sequence[str], known: Collection[str]) -> bool:
    """Return True if one name is a required column, or two are usual ones, or one is a usual name of a text
    column and all of them are single words."""
    if any(find_column(names, name) is not None for name in known):
        return True
    usual = _are_words(names) or count_known(names) > 1
    return len(names) > 1 and has_text_column(names) and usual


def _are_words(names: Sequence[str]) -> bool:
    return all(_COLUMN_NAME.match(name) for name in names)


def _cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line that are not blank, or none if it has only one or is not a table row."""
    start = line[:10_000].strip("\r\n")
    if delimiter not in start or "\r" in start or "\n" in start:
        return []
    return [c for c in next(csv.reader([start], delimiter=delimiter), []) if c.strip()]
