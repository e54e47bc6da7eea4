"""The process that reads one file for `POST /v1/read`: `python -m newsie.serving.read_file`.

The parser of a file may block the interpreter for many seconds and use a multiple of the file's size in
memory. A separate process can be stopped at any time, and its memory can be limited. It imports only what
reading needs.

Standard input holds a `Task` as a line of JSON, then the file. Standard output holds an `Outcome` as a line
of JSON, then the articles if there are any.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from newsie.data.articles import Article
from newsie.data.readers import ArticleReader
from newsie.errors import MissingExtraError, ReadError
from newsie.serving.logs import place_of, sendable

__all__ = ["Outcome", "Task", "main"]

_TABLES = (b"PAR1", b"ARROW1")
_SHOWN_COLUMNS = 1_000


@dataclass(frozen=True)
class Task:
    """The work of the process, and its limits.

    Attributes:
        name: name of the file.
        columns: field of the article -> column.
        max_bytes: maximum size of the unpacked file.
        max_rows: maximum number of rows.
        max_characters: length to which an article is cut.
        max_memory_bytes: address space of the process.
        max_seconds: processor time of the process.
    """

    name: str
    columns: Mapping[str, str]
    max_bytes: int
    max_rows: int
    max_characters: int
    max_memory_bytes: int
    max_seconds: float


@dataclass(frozen=True)
class Outcome:
    """The result of the work: status 200, or a refusal with its reason.

    Attributes:
        status: HTTP status of the response.
        reason: reason of a refusal as one word, for programs.
        message: reason of a refusal in words.
        fault: place of an unexpected error, for the log.
    """

    status: int = 200
    reason: str = ""
    message: str = ""
    fault: str = ""


def main() -> None:
    """Read the file on standard input and write the outcome to standard output."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the server decides
        signal.signal(number, signal.SIG_IGN)
    task = Task(**orjson.loads(sys.stdin.buffer.readline()))
    _limit(task)
    outcome, answer = _attempt(lambda: _read(sys.stdin.buffer.read(), task))
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)) + b"\n" + answer)
    sys.stdout.buffer.flush()


def _limit(task: Task) -> None:
    """Limit memory and processor time if the system supports it. The server also limits the elapsed time."""
    if sys.platform == "win32":
        return
    import resource

    seconds = math.ceil(task.max_seconds) + 1
    for kind, limit in (
        (resource.RLIMIT_AS, task.max_memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS does not limit the address space
            resource.setrlimit(kind, (most, hard))  # SIGXCPU; the hard one sends SIGKILL
    if sys.platform == "linux":  # if memory runs out, this process is killed, not the server
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _attempt(read: Callable[[], bytes]) -> tuple[Outcome, bytes]:
    try:
        return Outcome(), read()
    except MemoryError:
        return _OUT_OF_MEMORY, b""
    except _TooManyRowsError as error:
        return Outcome(413, "rows", str(error)), b""
    except (ReadError, MissingExtraError) as error:
        if isinstance(error.__cause__ or error.__context__, MemoryError):
            return _OUT_OF_MEMORY, b""
        return Outcome(422, "file", sendable(str(error))), b""
    except Exception as error:  # the server must learn of it; its message may hold text of the file
        message = "the file cannot be read because of a fault of the server; report the request id"
        return Outcome(500, "internal", message, sendable(place_of(error))), b""


class _TooManyRowsError(Exception):
    """Raised if the file has more rows than the server accepts."""


_OUT_OF_MEMORY = Outcome(
    413,
    "memory",
    "reading this file takes more memory than the server allows; send a part of it, or use  "
    "newsie classify --file",
)


def _read(body: bytes, task: Task) -> bytes:
    """Read a file and return the response as JSON."""
    if body.startswith(_TABLES):
        raise ReadError(task.name, "this is Parquet or Arrow; use  newsie classify --file  for it")
    reader = ArticleReader(
        io.BytesIO(body),
        name=task.name,
        columns=task.columns,
        fields=("headline", "body", "id"),
        max_bytes=task.max_bytes,
    )
    articles, cut = [], 0
    for article in reader:
        _check_rows(reader, task)
        short = _shortened(article, task.max_characters)
        cut += short is not article
        fields = {"headline": short.headline, "body": short.body, "id": short.id}
        articles.append(_as_json({"row": reader.number} | fields))
    _check_rows(reader, task)
    rest = _as_json(_described(reader, cut, task.max_characters))
    return b'{"articles":[' + b",".join(articles) + b"]," + rest.removeprefix(b"{")


def _as_json(fields: Mapping[str, Any]) -> bytes:
    """Return JSON. orjson is not used, as it reports a lack of memory as invalid Unicode."""
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def _check_rows(reader: ArticleReader, task: Task) -> None:
    if reader.rows > task.max_rows:
        raise _TooManyRowsError(
            f"the file has more than {task.max_rows:,} rows; for more: newsie classify --file"
        )


def _shortened(article: Article, most: int) -> Article:
    """Return the article, cut to the length that the server accepts. The model reads only its beginning."""
    if len(article.headline) + len(article.body) <= most:
        return article
    headline = article.headline[:most]
    return Article(headline, article.body[: most - len(headline)], id=article.id)


def _described(reader: ArticleReader, cut: int, most: int) -> dict[str, Any]:
    problems = reader.problems
    notes = [f"{count:,} × {reason}" for reason, count in problems.notes.most_common()]
    if problems.recoded:
        notes.append(f"{problems.recoded:,} × not UTF-8, read as Windows-1252")
    if cut:
        notes.append(f"{cut:,} × cut to its first {most:,} characters")
    if reader.cut_off is not None:
        notes.append(f"nothing was read behind row {reader.cut_off.row:,}: {reader.cut_off.reason}")
    return {
        "rows": reader.rows,
        "columns": reader.columns.chosen(),
        "column_names": reader.column_names[:_SHOWN_COLUMNS],
        "skipped": dict(problems.counts),
        "examples": [{"row": p.row, "message": _message(p.error())} for p in problems.examples],
        "notes": notes,
    }


def _message(error: ReadError) -> str:
    return error.reason if error.column is None else f"column {error.column!r}: {error.reason}"


if __name__ == "__main__":
    main()
