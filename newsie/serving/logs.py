"""Logs on stderr, with a line for each request and each event: plain words on a terminal, otherwise JSON.
They never hold the text of an article."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

from newsie.printable import CONTROL

__all__ = [
    "FACTS",
    "EventHandler",
    "Log",
    "note",
    "place_of",
    "plain_line",
    "sendable",
    "write_line",
]

Log = Callable[[dict[str, Any]], None]

FACTS: ContextVar[dict[str, Any] | None] = ContextVar("newsie_facts", default=None)
"""The fields of the current request's log line beside its id, route, code and time."""


def note(**facts: Any) -> None:
    """Add facts to the log line of the current request: numbers and reasons, never text of articles."""
    line = FACTS.get()
    if line is not None:
        line.update(facts)


def write_line(fields: dict[str, Any]) -> None:
    """Write a log line with the time and the given fields."""
    time = datetime.now(UTC)
    if sys.stderr.isatty():
        line = f"{time.astimezone():%H:%M:%S}  {plain_line(fields)}\n".encode()
    else:
        stamp = time.isoformat(timespec="milliseconds")
        line = _as_json({"time": stamp, **fields}) + b"\n"
    try:
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
    except OSError:  # the log is closed or its disk is full, but requests go on
        return


def _as_json(fields: Mapping[str, Any]) -> bytes:
    """Return JSON that is safe to show on a terminal. orjson itself escapes only C0."""
    try:
        line = orjson.dumps(fields, default=str)
    except TypeError:  # text that is not valid Unicode, such as half of a surrogate pair
        line = orjson.dumps({name: sendable(str(value)) for name, value in fields.items()})
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", line.decode()).encode()


def sendable(text: str) -> str:
    """Return a text with characters that cannot be encoded replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def plain_line(fields: Mapping[str, Any]) -> str:
    """Return a line such as "200  POST /v1/classify  12.3 ms  articles 3" or "error  model not loaded"."""
    rest = {name: value for name, value in fields.items() if name not in ("level", "request_id")}
    parts = [str(rest.pop(name)) for name in ("code", "event") if name in rest]
    parts.append(" ".join(str(rest.pop(name)) for name in ("method", "route") if name in rest))
    if "seconds" in rest:
        parts.append(f"{1000 * rest.pop('seconds'):.1f} ms")
    for name, value in rest.items():
        kind, times, _ = name.partition("_seconds")
        parts.append(f"{kind} {1000 * value:.1f} ms" if times else f"{name} {value}")
    if fields.get("level") not in (None, "info"):
        parts.insert(0, str(fields["level"]))
    # A route or a reason may come from a client, so no control sequence may reach the terminal.
    return "".join(c if c.isprintable() else "\ufffd" for c in "  ".join(filter(None, parts)))


def place_of(error: BaseException) -> str:
    """Return the type and the place of an error, without its message, which may hold text of an article."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames[-6:]))
    return f"{type(error).__name__} at {where}"


class EventHandler(logging.Handler):
    """A logging handler that writes records, such as uvicorn's, as log lines of the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        # Only the type of an exception, as its message may hold text of an article.
        kind = record.exc_info[0] if record.exc_info else None
        fault = {"fault": kind.__name__} if kind else {}
        write_line({"level": record.levelname.lower(), "event": record.getMessage(), **fault})
