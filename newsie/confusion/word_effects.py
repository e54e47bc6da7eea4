"""Word-by-word explanations for the articles of a report: the words that pull to one label or the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from newsie.confusion.report import Report
from newsie.inference.explanation import Explanation

__all__ = ["MAX_EXPLAINED", "articles_to_explain", "explanation_json"]

MAX_EXPLAINED = 12
"""The most articles of a task that are explained: each takes a model pass for each of its words."""


def articles_to_explain(
    report: Report, count: int = MAX_EXPLAINED
) -> dict[str, dict[int, set[str]]]:
    """Return task -> row -> labels to explain, from the fullest cells and worst pairs first.

    Explain these articles with `Classifier.explain(article, tasks=[task])`, and give the results to
    `explanation_json`.
    """
    wanted: dict[str, dict[int, set[str]]] = {}
    for task, analysis in report.analyses.items():
        rows: dict[int, set[str]] = {}
        shown = [
            (row, pair.labels) for pair in analysis.pairs for row in (a.row for a in pair.border)
        ]
        shown += [
            (row, (cell.row_label, cell.column_label))
            for cell in analysis.cells
            for row in cell.rows
        ]
        for row, labels in shown:
            if row in rows or len(rows) < count:
                rows.setdefault(row, set()).update(labels)
        wanted[task] = rows
    return wanted


def explanation_json(found: Explanation, task: str, labels: Iterable[str]) -> Mapping[str, Any]:
    """Return an explanation in the form the page reads: [part, start, end] of each word, label -> effects."""
    return {
        "words": [[word.part, word.start, word.end] for word in found.words],
        "effects": {
            label: [round(float(x), 4) for x in found.effects(task, label)]
            for label in sorted(labels)
        },
    }
