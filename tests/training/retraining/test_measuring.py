from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.forgetting import compare
from benchmarks.forgetting import render as render_lost
from benchmarks.retrain import draw_rows, measure, render, tfidf
from newsie.bundles.bundle import read_bundle
from newsie.data.writers import open_writer
from tests.tiny import tiny_articles


def test_draws_take_as_many_of_each_label_as_there_are() -> None:
    labels = ["a"] * 30 + ["b"] * 3
    rows = draw_rows(labels, 5, seed=0)
    assert [labels[row] for row in rows].count("a") == 5
    assert rows[-3:] == [30, 31, 32]
    assert draw_rows(labels, 5, seed=0) == rows != draw_rows(labels, 5, seed=1)
    assert draw_rows(labels, 0, seed=3) == list(range(33))


def test_what_is_measured_is_measured_on_the_test_articles(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the corpora are Parquet files")
    for split, count, seed in (("train", 200, 0), ("test", 60, 1)):
        (tmp_path / "tiny").mkdir(exist_ok=True)
        with open_writer(tmp_path / "tiny" / f"{split}.parquet") as writer:
            for article in tiny_articles(count, seed, answered=1):
                writer.write({"headline": article.headline, "category": article.labels["section"]})
    rows = measure(tmp_path, "tiny", [8, 0], 2, {"TF-IDF": tfidf})
    assert [(row["labelled"], row["articles"]) for row in rows] == [(8, 24), (8, 24), (0, 200)]
    assert {row["test_articles"] for row in rows} == {60}
    assert rows[-1]["accuracy"] > max(0.7, rows[0]["accuracy"])


def test_the_table_gives_means_with_intervals() -> None:
    def row(draw: int, accuracy: float, labelled: int = 16) -> dict[str, Any]:
        return {
            "corpus": "uci",
            "labelled": labelled,
            "draw": draw,
            "system": "newsie",
            "articles": 64,
            "accuracy": accuracy,
            "macro_f1": accuracy,
            "seconds": 1.0 + draw,
        }

    text = render([row(0, 0.8), row(1, 0.82), row(2, 0.84), row(0, 0.9, labelled=0)])
    # Student's 97.5 % quantile for 3 draws is 4.303; 4.303 * 0.02 / sqrt(3) = 0.0497
    assert "| uci | 16 a label | newsie | 82.0 (77.0–87.0) | 82.0 (77.0–87.0) | 2.0 |" in text
    assert "| uci | all 64 | newsie | 90.0 | 90.0 | 1.0 |" in text


def test_what_is_lost_is_compared_on_the_same_articles(tiny_bundle: Path) -> None:
    base = read_bundle(tiny_bundle)
    found = compare(base, base, tiny_articles(50))
    assert set(found) == {"section", "mood"}
    assert all(report.change is not None and report.change.value == 0 for report in found.values())
    row = {"depth": "full", "task": "mood", "articles": 40, "before": 0.75, "after": 0.7}
    change = {"value": -0.05, "low": -0.12, "high": 0.02}
    text = render_lost([{**row, "change": change, "seconds": 61.0}])
    assert "| full | mood | 40 | 75.0 | 70.0 | -5.0 (-12.0 to +2.0) | 61 |" in text
