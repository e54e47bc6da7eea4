from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import confusion, overlap


def test_planting_keeps_probabilities_and_what_is_first() -> None:
    for null in overlap.NULLS.values():
        p = null(np.random.default_rng(0), 400, 8)
        planted = overlap.plant(p, [(0, 1), (4, 6)], 5)
        assert planted.sum(axis=1) == pytest.approx(np.ones(400))
        assert np.array_equal(planted.argmax(axis=1), p.argmax(axis=1))
        led = np.isin(p.argmax(axis=1), [0, 1, 4, 6])
        assert planted[~led] == pytest.approx(p[~led])
        first = p.argmax(axis=1) == 0
        assert planted[first, 1].sum() > p[first, 1].sum()


def test_the_table_of_false_alarms_and_power(tmp_path: Path) -> None:
    overlap.main(["--repeats", "2", "--articles", "2000", "--results", str(tmp_path)])
    rows = json.loads((tmp_path / "overlap.json").read_text("utf-8"))["measurements"]
    assert len(rows) == 3 * 2 * 4  # ways, least lifts, factors
    assert all((row["power"] is None) == (row["factor"] == 1) for row in rows)
    by_factor = {r["factor"]: r["power"] for r in rows[:4]}
    assert by_factor[5.0] >= by_factor[2.0]
    assert "planted pairs found" in (tmp_path / "overlap.md").read_text("utf-8")


@pytest.mark.slow
def test_time_and_memory_are_those_of_a_process(tmp_path: Path) -> None:
    confusion.main(["--size", "20000x8", "--runs", "1", "--results", str(tmp_path)])
    (row,) = json.loads((tmp_path / "confusion.json").read_text("utf-8"))["measurements"]
    assert (row["articles"], row["labels"]) == (20_000, 8)
    assert row["seconds"] > 0
    assert 50e6 < row["peak_bytes"] < 2e9
    assert row["json_bytes"] > 10_000
    text = (tmp_path / "confusion.md").read_text("utf-8")
    assert "| 20,000 × 8 |" in text
    assert "not measured" in text


def test_drawn_answers_are_calibrated(tmp_path: Path) -> None:
    confusion.draw_answers(tmp_path, 20_000, 10)
    p, gold = np.load(tmp_path / "p.npy"), np.load(tmp_path / "gold.npy")
    assert p.dtype == np.float32
    assert p.sum(axis=1) == pytest.approx(np.ones(20_000), abs=1e-5)
    right = (p.argmax(axis=1) == gold).mean()
    assert right == pytest.approx(p.max(axis=1).mean(), abs=0.015)


ROOT = Path(__file__).parents[2]


DOCS = (ROOT / "docs" / "confusion.md").read_text("utf-8")


def quoted(heading: str) -> str:
    """A part of docs/confusion.md."""
    return DOCS.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def result(name: str) -> str:
    return (ROOT / "benchmarks" / "results" / name).read_text("utf-8")


def test_the_docs_quote_the_table_of_overlap() -> None:
    measured = json.loads(result("overlap.json"))["measurements"]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in quoted("Overlap without gold labels").splitlines()
        if re.match(r"\| (quasi|Dirichlet|independent)", line)
    ]
    assert len(rows) == 12
    for null, articles, lift, alarms, discoveries, *powers in rows:
        at = (null, int(articles.replace(",", "")), float(lift))
        same = [m for m in measured if (m["null"], m["articles"], m["minimum_lift"]) == at]
        assert [m["factor"] for m in same] == [1, 2, 3, 5]
        worst = max(m["false_discoveries"] for m in same)
        found = [same[0]["p_below_5_percent"], worst]
        assert [alarms, discoveries] == [f"{100 * value:.1f} %" for value in found]
        assert powers == [f"{100 * m['power']:.0f} %" for m in same[1:]]


def test_the_docs_quote_what_explain_was_measured_to_find() -> None:
    figures = re.findall(r"\d+\.\d+(?: \[[\d., ]+\])?", quoted("Word by word"))
    assert len(figures) == 9
    for figure in figures:
        assert figure in result("explain.md")
    assert "not to be quoted" not in result("explain.md")


def test_the_docs_quote_the_time_of_a_million_articles() -> None:
    measured = json.loads(result("confusion.json"))["measurements"]
    for labels in (50, 500):
        runs = [m for m in measured if m["labels"] == labels]
        seconds = sorted(m["seconds"] for m in runs)[len(runs) // 2]
        memory = max(m["peak_bytes"] for m in runs) / 1e6
        figures = f"{seconds:.1f} s and {memory:,.0f} MB with {labels}"
        assert figures in " ".join(DOCS.split())
