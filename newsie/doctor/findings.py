"""The findings of the checks, and the report of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from newsie.version import __version__

__all__ = ["MAX_EXAMPLES", "Example", "Finding", "Report", "Severity", "TaskSummary"]

FORMAT_VERSION = 1
MAX_EXAMPLES = 5


class Severity(StrEnum):
    """The severity of a finding. The order is that of the report."""

    problem = "problem"  # training fails, or learns the wrong thing
    warning = "warning"  # worth a look before training
    note = "note"  # good to know


@dataclass(frozen=True)
class Example:
    """One example of a finding.

    Attributes:
        text: the text to show: a headline, a label, a sentence.
        row: 1-based number of the row in the file, a header not counted; None for no single row.
        note: a remark on it, such as "given 'sports', reads like 'business'".
    """

    text: str
    row: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One finding of a check.

    Attributes:
        code: stable name for programs.
        severity: the severity.
        title: the finding in one sentence, with its numbers.
        advice: the advice on it.
        count: number of rows, labels or sentences concerned.
        task: the task concerned, or None.
        examples: the first or clearest examples.
        rows: numbers of all rows concerned, if it concerns rows.
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
        """Return the attributes as plain JSON values."""
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
        column: the label column.
        labels: label -> number of articles, most frequent first.
        unlabelled: number of articles without a label.
    """

    column: str
    labels: Mapping[str, int]
    unlabelled: int


@dataclass(frozen=True)
class Report:
    """All findings in a file.

    Attributes:
        source: the file.
        columns: field of the article -> column.
        rows: number of rows read.
        articles: number of rows that can be used.
        tasks: task -> its labels.
        findings: the findings, most serious first.
        left_out: the checks that were skipped or limited, and the reason, one sentence each.
        seconds: duration of each check, by name.
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
        """Return the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON values."""
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
