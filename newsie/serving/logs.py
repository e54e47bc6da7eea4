"""Logs: one JSON line for each request and each event, on stderr. Never the text of an article."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

__all__ = ["FACTS", "EventHandler", "Log", "note", "place_of", "write_line"]

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
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = orjson.dumps({"time": time, **fields}, default=str) + b"\n"
    try:
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
    except OSError:  # the log is closed or its disk full: requests are answered all the same
        return


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
