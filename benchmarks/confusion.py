"""An analysis of confusion of a million articles: its time, and the memory of its process.

    python -m benchmarks.confusion

Probabilities are drawn, written to a file and mapped into memory, as float32. The analysis is everything
that `newsie confusion` does after classifying, but for drawing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.entry import run_command
from benchmarks.processes import run
from benchmarks.report import RESULTS, circumstances, table, write_report

__all__ = ["draw_answers", "main"]

SIZES = ((1_000_000, 50), (1_000_000, 500))
LIMIT_SECONDS, LIMIT_BYTES = 60, 2e9
"""What 1 million articles and 50 labels may take."""

_CHUNK = 5_000_000


def draw_answers(directory: Path, articles: int, labels: int, seed: int = 0) -> None:
    """Write p.npy (articles, labels) float32 and gold.npy: 80 % right, neighbours alike."""
    random = np.random.default_rng(seed)
    shape, step = (articles, labels), max(1, _CHUNK // labels)
    p = np.lib.format.open_memmap(directory / "p.npy", "w+", np.float32, shape)
    gold = np.empty(articles, np.int64)
    frequencies = random.dirichlet(np.full(labels, 1.0))
    for start in range(0, articles, step):
        size = min(step, articles - start)
        own = random.choice(labels, size, p=frequencies)
        logits = random.standard_normal((size, labels), dtype=np.float32)
        rows = np.arange(size)
        logits[rows, own] += 4 + np.log(labels / 10)
        logits[rows, own ^ 1 if labels % 2 == 0 else own] += 2
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        p[start : start + size] = logits
        # Gold labels drawn from the probabilities: the model is calibrated.
        cumulated = np.cumsum(logits, axis=1)
        drawn = (cumulated < random.random((size, 1))).sum(axis=1)
        gold[start : start + size] = np.minimum(drawn, labels - 1)
    p.flush()
    np.save(directory / "gold.npy", gold)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confusion", description=__doc__)
    parser.add_argument("--size", type=_size, nargs="+", default=SIZES, metavar="ARTICLESxLABELS")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--analyse", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.analyse:
        _analyse(options.analyse)
        return
    report = circumstances("confusion", given)
    measurements = [row for a, c in options.size for row in _measure(a, c, options.runs)]
    packages = {name: version(name) for name in ("numpy", "scipy", "cleanlab")}
    report |= {"sides": {"newsie": {"packages": packages}}, "summary": {}}
    write_report(options.results, report | {"measurements": measurements}, render(measurements))


def _size(text: str) -> tuple[int, int]:
    articles, _, labels = text.partition("x")
    return int(articles), int(labels)


def _measure(articles: int, labels: int, runs: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        draw_answers(Path(scratch), articles, labels)
        for number in range(runs):
            command = [sys.executable, "-m", "benchmarks.confusion", "--analyse", scratch]
            done = run(command)
            row = {"articles": articles, "labels": labels, "run": number}
            rows.append(row | {"peak_bytes": done.peak_bytes, **json.loads(done.output)})
            print(rows[-1], file=sys.stderr)
    return rows


def _analyse(directory: Path) -> None:
    """In a process of its own: analyse, and say how long it took."""
    from newsie.confusion.analysis import analyse

    p = np.load(directory / "p.npy", mmap_mode="r")
    gold = np.load(directory / "gold.npy")
    started = time.perf_counter()
    found = analyse([f"label {i}" for i in range(p.shape[1])], p, gold)
    seconds = time.perf_counter() - started
    size = len(json.dumps(found.to_json()))
    print(json.dumps({"seconds": seconds, "json_bytes": size}))


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """Title, table and verdict."""
    lines = [
        [
            f"{row['articles']:,} × {row['labels']}",
            f"{row['seconds']:.1f}",
            f"{row['peak_bytes'] / 1e6:,.0f}",
            f"{row['json_bytes'] / 1e6:.1f}",
        ]
        for row in rows
    ]
    main_size = [r for r in rows if (r["articles"], r["labels"]) == SIZES[0]]
    within = [r["seconds"] < LIMIT_SECONDS and r["peak_bytes"] < LIMIT_BYTES for r in main_size]
    verdict = ("met" if all(within) else "missed") if within else "not measured"
    header = ("articles × labels", "seconds", "peak memory, MB", "confusion.json, MB")
    return (
        f"# An analysis of confusion\n\n{table(header, lines)}\n"
        "Peak memory includes the pages of the mapped file that are in memory.\n"
        f"Target, a million articles and 50 labels in under {LIMIT_SECONDS} s and "
        f"{LIMIT_BYTES / 1e9:.0f} GB: {verdict}.\n"
    )


if __name__ == "__main__":
    run_command(main)
