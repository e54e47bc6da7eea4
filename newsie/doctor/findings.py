"""What a check finds, and the report of all that was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from newsie.version import __version__

__all__ = ["MAX_EXAMPLES", "Example", "Finding", "Report", "Severity", "TaskSummary", "plural"]

FORMAT_VERSION = 1
MAX_EXAMPLES = 5


class Severity(StrEnum):
    """How much a finding matters; the order is the order of the report."""

    problem = "problem"  # training fails, or learns the wrong thing
    warning = "warning"  # worth a look before training
    note = "note"  # good to know


@dataclass(frozen=True)
class Example:
    """One case of a finding.

    Attributes:
        text: what to show: a headline, a label, a sentence.
        row: 1-based number of the row in the file, a header not counted; None for no single row.
        note: what is special about it, such as "given 'sports', reads like 'business'".
    """

    text: str
    row: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        code: its name, stable, for programs.
        severity: how much it matters.
        title: what it is, in one sentence with its numbers.
        advice: what to do about it.
        count: how many rows, labels or sentences it is about.
        task: the task it is about, or None.
        examples: the first or clearest cases.
        rows: numbers of all rows it is about, where it is about rows.
        details: further figures by name, as plain JSON values.
    """

    code: str
    severity: Severity
    title: str
    advice: str
    count: int
    task: str | None = None
    examples: tuple[Example, ...] = ()
    rows: tuple[int, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "task": self.task,
            "title": self.title,
            "advice": self.advice,
            "count": self.count,
            "examples": [{"row": e.row, "text": e.text, "note": e.note} for e in self.examples],
            "rows": list(self.rows),
            "details": dict(self.details),
        }


@dataclass(frozen=True)
class TaskSummary:
    """The labels of one task.

    Attributes:
        column: the column they are in.
        labels: label -> number of articles, most first.
        unlabelled: number of articles without a label.
    """

    column: str
    labels: Mapping[str, int]
    unlabelled: int


@dataclass(frozen=True)
class Report:
    """All that was found in a file.

    Attributes:
        source: the file.
        columns: field of the article -> column.
        rows: rows read.
        articles: those of them that can be used.
        tasks: task -> its labels.
        findings: the most serious first.
        left_out: what was not looked at or not looked at in full, and why, a sentence each.
        seconds: how long each check took, by name.
    """

    source: str
    columns: Mapping[str, str]
    rows: int
    articles: int
    tasks: Mapping[str, TaskSummary]
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "newsie_version": __version__,
            "source": self.source,
            "columns": dict(self.columns),
            "rows": self.rows,
            "articles": self.articles,
            "tasks": {
                name: {"column": t.column, "labels": dict(t.labels), "unlabelled": t.unlabelled}
                for name, t in self.tasks.items()
            },
            "findings": [finding.to_json() for finding in self.findings],
            "left_out": list(self.left_out),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def plural(count: int, one: str, many: str) -> str:
    """A number with its noun: "1 article", "2,000 articles"."""
    return f"{count:,} {one if count == 1 else many}"
