"""What a long benchmark has measured, kept until all is done, so that it can be interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Keep", "Notebook", "Rows", "measure_again"]

Rows = list[dict[str, Any]]
Keep = Callable[[str, Callable[[], Rows]], Rows]
"""(name of a part, what measures it) -> its rows."""


def measure_again(_name: str, measure: Callable[[], Rows]) -> Rows:
    """A `Keep` that keeps nothing."""
    return measure()


class Notebook:
    """Parts of a benchmark that are done, a line of JSON each, in NAME.unfinished.jsonl.

    Another command, or another bundled student, begins a new one.

    Args:
        directory: of the results.
        report: the circumstances; if a part was measured on a busy machine, they say so, too.
        student: fingerprint of the student that is measured, if any.
    """

    def __init__(self, directory: Path, report: dict[str, Any], student: str = "") -> None:
        self._path = directory / f"{report['benchmark']}.unfinished.jsonl"
        self._head = {"command": report["command"], "student": student}
        self._busy = bool(report["machine"]["busy"])
        self._done: dict[str, Rows] = {}
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        parts = [
            json.loads(line) for line in lines if line.endswith("}")
        ]  # the last may be cut off
        if parts[:1] == [self._head]:
            self._done = {part["name"]: part["rows"] for part in parts[1:]}
            report["machine"]["busy"] |= any(part["busy"] for part in parts[1:])
        else:
            directory.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._head) + "\n", encoding="utf-8")

    def keep(self, name: str, measure: Callable[[], Rows]) -> Rows:
        """The rows of a part: measured now, unless they are here."""
        if name not in self._done:
            self._done[name] = measure()
            part = {"name": name, "busy": self._busy, "rows": self._done[name]}
            with self._path.open("a", encoding="utf-8") as file:
                # The line before may be cut off.
                file.write("\n" + json.dumps(part) + "\n")
        return self._done[name]

    def close(self) -> None:
        """Throw the notebook away: all of it is in the report."""
        self._path.unlink()
