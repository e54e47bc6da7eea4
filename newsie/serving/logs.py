"""Logs: a line for each request and each event, on stderr: JSON for programs, plain words on a terminal.
Never the text of an article."""

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
"""What the line of the current request will say beside its id, route, code and time."""


def note(**facts: Any) -> None:
    """Add facts to the line of the current request: numbers and reasons, never text of articles."""
    line = FACTS.get()
    if line is not None:
        line.update(facts)


def write_line(fields: dict[str, Any]) -> None:
    """Write a line with the time, and these fields."""
    time = datetime.now(UTC)
    if sys.stderr.isatty():
        line = f"{time.astimezone():%H:%M:%S}  {plain_line(fields)}\n".encode()
    else:
        stamp = time.isoformat(timespec="milliseconds")
        line = _as_json({"time": stamp, **fields}) + b"\n"
    try:
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
    except OSError:  # the log is closed or its disk full: requests are answered all the same
        return


def _as_json(fields: Mapping[str, Any]) -> bytes:
    """Return JSON that a terminal can show safely: orjson itself escapes no more than C0."""
    try:
        line = orjson.dumps(fields, default=str)
    except TypeError:  # text that is no Unicode, such as half of a surrogate pair
        line = orjson.dumps({name: sendable(str(value)) for name, value in fields.items()})
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", line.decode()).encode()


def sendable(text: str) -> str:
    """A text without the characters that cannot be encoded."""
    return text.encode("utf-8", "replace").decode("utf-8")


def plain_line(fields: Mapping[str, Any]) -> str:
    """For people: "200  POST /v1/classify  12.3 ms  articles 3", or "error  model not loaded  why ..."."""
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
    # A route or a reason may come from outside: no control sequence reaches the terminal.
    return "".join(c if c.isprintable() else "\ufffd" for c in "  ".join(filter(None, parts)))


def place_of(error: BaseException) -> str:
    """The kind of an error and where it was raised; its message could hold text of an article."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames[-6:]))
    return f"{type(error).__name__} at {where}"


class EventHandler(logging.Handler):
    """Lines of the standard library's loggers, such as uvicorn's, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        # Only what the program says of itself: an exception's message could hold text of an article.
        kind = record.exc_info[0] if record.exc_info else None
        fault = {"fault": kind.__name__} if kind else {}
        write_line({"level": record.levelname.lower(), "event": record.getMessage(), **fault})
