"""Logs: one JSON line for each request and each event, on stderr. Never the text of an article."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import orjson

__all__ = ["write_line"]


def write_line(fields: dict[str, Any]) -> None:
    """Write a line with the time, and these fields."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    sys.stderr.buffer.write(orjson.dumps({"time": time, **fields}, default=str) + b"\n")
    sys.stderr.flush()
