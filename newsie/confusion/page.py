"""The report as a page: a single self-contained HTML file, made from confusion.json.

Its size does not depend on the number of articles: `newsie.confusion.report` bounds the articles that
are shown, and tables are written without their zeros.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from newsie.atomic import write_text

__all__ = ["page_html", "write_page"]

_TEMPLATE = Path(__file__).with_name("report.html")
_PLACE = "__REPORT__"

LEAST = 0.0005
"""The smallest mean probability that is shown."""


def page_html(document: Mapping[str, Any]) -> str:
    """Return the HTML page of a report.

    Args:
        document: the content of confusion.json (`docs/confusion.md`), optionally with "explanations" from
            `newsie.confusion.word_effects`.
    """
    content = {**document, "tasks": [_compact_task(task) for task in document["tasks"]]}
    content["comparisons"] = [
        {name: value for name, value in comparison.items() if name != "counts"}
        for comparison in document["comparisons"]
    ]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    before, after = _TEMPLATE.read_text(encoding="utf-8").split(_PLACE)
    # Within a script only "<" could end it or start a comment, and in JSON it occurs only in
    # strings.
    return before + text.replace("<", "\\u003c") + after


def write_page(document: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a report atomically; see `page_html`."""
    write_text(path, page_html(document))
    return path


def _compact_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task with sparse tables and without what the page does not show."""
    soft, hard = task["soft"], task["hard"]
    shown = dict(task)
    shown["soft"] = {
        "rows": soft["rows"],
        "support": soft["support"],
        "mean": _sparse(soft["mean"], LEAST),
    }
    shown["hard"] = hard and {**hard, "counts": _sparse(hard["counts"], 1)}
    return shown


def _sparse(table: Sequence[Sequence[float | None]], least: float) -> list[list[float]]:
    """Return each row as column, value, column, value ... of the values of at least `least`."""
    return [
        [
            part
            for column, value in enumerate(row)
            if value is not None and value >= least
            for part in (column, value if isinstance(value, int) else round(value, 4))
        ]
        for row in table
    ]
