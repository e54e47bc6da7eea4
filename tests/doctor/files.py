"""Small files to examine, made of tiny articles."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from newsie.data.label_columns import find_rules
from newsie.doctor.reading import NewsFile, read_file
from tests.tiny import tiny_articles

Row = dict[str, Any]


def tiny_rows(count: int, seed: int = 0) -> list[Row]:
    """Rows with all fields, each with a section."""
    return [
        {
            "id": article.id,
            "headline": article.headline,
            "body": article.body,
            "published": "2024-01-01",
            "section": article.labels["section"],
        }
        for article in tiny_articles(count, seed, answered=1)
    ]


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_lines(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def news_file(path: Path, task: str = "section") -> NewsFile:
    return read_file(path, find_rules(path, [task]))
