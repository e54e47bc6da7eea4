"""What many articles take: machines, hours and money, from the rates that were measured.

    python -m benchmarks.scale --results benchmarks/results/ladder.json

Reads what `python -m benchmarks.ladder` wrote; nothing is assumed but the price and how much of the measured
rate a cluster keeps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.entry import run_command
from benchmarks.report import RESULTS, table
from benchmarks.sides import positive

__all__ = ["plan"]

ARTICLES = 1_000_000_000
KEPT = 0.8
"""Share of one machine's rate that is left to each of many: they read, write and wait for the last one."""

PRICE = 0.05
"""Of a core for an hour, in dollars: about that of general machines on demand at the large clouds in 2026."""

HOURS = 24
SECONDS_AN_HOUR = 3_600


def plan(rate: float, cores: int, *, articles: int, kept: float, price: float) -> dict[str, float]:
    """What so many articles take.

    Args:
        rate: articles a second of one machine, measured.
        cores: of that machine.
        articles: how many there are.
        kept: share of the rate that is kept in a cluster.
        price: of a core for an hour.

    Returns:
        core_hours; machines of that size that are done within a day; the cost.
    """
    core_hours = articles / (rate * kept) * cores / SECONDS_AN_HOUR
    return {
        "core_hours": core_hours,
        "machines_for_a_day": -(-core_hours // (cores * HOURS)),
        "cost": core_hours * price,
    }


def render(
    results: Mapping[str, Any],
    *,
    articles: int = ARTICLES,
    kept: float = KEPT,
    price: float = PRICE,
) -> str:
    """A table for each length of text."""
    cores = results["machine"]["cores"]
    parts = [f"# {articles:,} articles\n"]
    for length in results["lengths"]:
        rows = []
        for name, found in results["summary"].items():
            rate = found[length]["articles_per_second"]["median"]
            need = plan(rate, cores, articles=articles, kept=kept, price=price)
            rows.append(
                [
                    name,
                    f"{rate:,.0f}",
                    f"{need['core_hours']:,.0f}",
                    f"{need['machines_for_a_day']:,.0f}",
                    f"{need['cost']:,.0f}",
                ]
            )
        header = ("", "articles/s, measured", "core hours", "machines for a day", "dollars")
        parts.append(f"## Texts of {length}\n\n{table(header, rows)}")
    busy = " **while it was busy: not to be quoted**" if results["machine"]["busy"] else ""
    parts.append(
        f"Rates: {results['date'][:10]}, {results['machine']['processor']}, {cores} cores{busy}. "
        f"Of each, {100 * kept:.0f} % are taken to be kept; a core costs {price} dollars an hour.\n"
    )
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS / "ladder.json")
    parser.add_argument("--articles", type=positive, default=ARTICLES)
    parser.add_argument("--kept", type=float, default=KEPT, help=f"share of the rate [{KEPT}]")
    parser.add_argument("--price", type=float, default=PRICE, help=f"of a core hour [{PRICE}]")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    results = json.loads(options.results.read_text(encoding="utf-8"))
    print(
        render(results, articles=options.articles, kept=options.kept, price=options.price), end=""
    )


if __name__ == "__main__":
    run_command(main)
