"""How often overlap is found where there is none, and where there is: false alarms and power.

    python -m benchmarks.overlap

Probabilities are drawn in which no two labels share more than their frequencies give, in three ways; then
pairs are planted, that do. No gold labels, as in `newsie.confusion.overlap`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.entry import run_command
from benchmarks.report import RESULTS, circumstances, table, write_report
from newsie.confusion.overlap import MINIMUM_LIFT, find_overlap
from newsie.confusion.predictions import read_answers

__all__ = ["NULLS", "main", "plant", "tabulate"]

Floats = NDArray[np.float64]
Random = np.random.Generator

ARTICLES, LABELS = (1_000, 5_000, 20_000), 14
PLANTED = 3
FACTORS = (2.0, 3.0, 5.0)
"""How many times its part of the rest a planted partner gets."""


def quasi_independent(random: Random, articles: int, labels: int) -> Floats:
    """A first label, and a rest that the others share by their frequencies, whichever is first."""
    first = random.choice(labels, articles, p=random.dirichlet(np.full(labels, 2.0)))
    frequencies = random.dirichlet(np.full(labels, 2.0))
    parts = random.standard_gamma(np.tile(frequencies * labels / 3, (articles, 1))) + 1e-12
    return _with_first(parts, first, random.beta(1, 4, articles) / 2)


def dirichlet(random: Random, articles: int, labels: int) -> Floats:
    """Independent masses, and a large one for the article's own label; divided by their sum."""
    own = random.choice(labels, articles, p=random.dirichlet(np.full(labels, 2.0)))
    shapes = np.tile(random.dirichlet(np.full(labels, 2.0)), (articles, 1))
    shapes[np.arange(articles), own] += 6
    parts = random.standard_gamma(shapes) + 1e-12
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))


def independent_logits(random: Random, articles: int, labels: int) -> Floats:
    """A softmax of independent logits that differ in level by label, and one raised.

    Not what the test supposes: being surer of one label than of another bends every pair.
    """
    own = random.choice(labels, articles, p=random.dirichlet(np.full(labels, 2.0)))
    logits = random.normal(0, 1.5, (articles, labels)) + random.normal(0, 1, labels)
    logits[np.arange(articles), own] += 5
    parts = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))


NULLS: Mapping[str, Callable[[Random, int, int], Floats]] = {
    "quasi-independent": quasi_independent,
    "Dirichlet": dirichlet,
    "independent logits": independent_logits,
}


def plant(p: Floats, pairs: Sequence[tuple[int, int]], factor: float) -> Floats:
    """Give each label of a pair `factor` times its part of the rest of the other's articles."""
    planted, first = p.copy(), p.argmax(axis=1)
    for a, b in pairs:
        for one, other in ((a, b), (b, a)):
            rows = np.flatnonzero(first == one)
            rest = 1 - p[rows, one]
            planted[rows, other] *= factor
            planted[rows, one] = 0
            planted[rows] *= (rest / planted[rows].sum(axis=1))[:, None]
            planted[rows, one] = 1 - rest
    # Where the partner came to be the larger of the two, the first label stays first.
    rows = np.arange(len(p))
    best = planted.argmax(axis=1)
    mine, largest = planted[rows, first].copy(), planted[rows, best].copy()
    planted[rows, best], planted[rows, first] = mine, largest
    return planted


def _with_first(parts: Floats, first: NDArray[np.int64], rest: Floats) -> Floats:
    rows = np.arange(len(parts))
    parts[rows, first] = 0
    parts *= (rest / parts.sum(axis=1))[:, None]
    parts[rows, first] = 1 - rest
    return parts


def tabulate(repeats: int, articles: Sequence[int], labels: int = LABELS) -> list[dict[str, Any]]:
    """A row for each way, number of articles, least lift and planted factor (1: none)."""
    rows = []
    for name, draw in NULLS.items():
        for size in articles:
            for lift in (1.0, MINIMUM_LIFT):
                for factor in (1.0, *FACTORS):
                    row = _measure(draw, size, labels, lift, factor, repeats)
                    rows.append({"null": name, "articles": size, "minimum_lift": lift, **row})
                    print(rows[-1], file=sys.stderr)
    return rows


def _measure(
    draw: Callable[[Random, int, int], Floats],
    articles: int,
    labels: int,
    lift: float,
    factor: float,
    repeats: int,
) -> dict[str, Any]:
    """False alarms among pairs not planted, before and after correction, and pairs found."""
    pairs = [(2 * i, 2 * i + 1) for i in range(PLANTED)] if factor > 1 else []
    single = alarms = runs = found = 0
    false = 0.0
    for repeat in range(repeats):
        p = draw(np.random.default_rng(repeat), articles, labels)
        answers = read_answers([str(i) for i in range(labels)], plant(p, pairs, factor))
        overlap = find_overlap(answers, minimum_lift=lift)
        assert overlap is not None  # there are labels and articles enough
        mine = [set(map(str, pair)) for pair in pairs]
        others = [pair for pair in overlap.pairs if set(pair.labels) not in mine]
        single += sum(pair.p_value <= 0.05 for pair in others)
        wrong = sum(pair.overlapping for pair in others)
        right = overlap.overlapping - wrong
        runs += wrong > 0
        alarms += len(others)
        found += right
        false += wrong / max(1, wrong + right)
    return {
        "planted": len(pairs),
        "factor": factor,
        "p_below_5_percent": single / alarms,
        "runs_with_false_alarm": runs / repeats,
        "false_discoveries": false / repeats,
        "power": found / (repeats * len(pairs)) if pairs else None,
    }


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """Title and table."""
    header = (
        "no overlap by",
        "articles",
        "least lift",
        "planted factor",
        "other pairs with p < 5 %",
        "runs with a false alarm",
        "false discoveries",
        "planted pairs found",
    )
    lines = [
        [
            row["null"],
            f"{row['articles']:,}",
            f"{row['minimum_lift']:.1f}",
            f"{row['factor']:.0f}" if row["planted"] else "none",
            f"{100 * row['p_below_5_percent']:.1f} %",
            f"{100 * row['runs_with_false_alarm']:.0f} %",
            f"{100 * row['false_discoveries']:.1f} %",
            "" if row["power"] is None else f"{100 * row['power']:.0f} %",
        ]
        for row in rows
    ]
    return (
        f"# Overlap without gold labels: false alarms and power\n\n{table(header, lines)}\n"
        f"{LABELS} labels, {PLANTED} pairs planted. The nominal rates are 5 % of single pairs and "
        "5 % false discoveries.\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=__doc__)
    parser.add_argument("--repeats", type=int, default=100, help="draws of each row [100]")
    parser.add_argument("--articles", type=int, nargs="+", default=ARTICLES)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(given)
    report = circumstances("overlap", given, timed=False)
    report["machine"]["busy"] = False  # rates are counted, and do not depend on the machine
    rows = tabulate(options.repeats, options.articles)
    packages = {name: version(name) for name in ("numpy", "scipy")}
    report |= {"sides": {"newsie": {"packages": packages}}, "summary": {}, "measurements": rows}
    write_report(options.results, report, render(rows))


if __name__ == "__main__":
    run_command(main)
