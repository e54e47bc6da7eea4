"""The whole command `newsie classify TEXT`, beside a script that calls a transformers pipeline.

    python -m benchmarks.command

Each run is a process from nothing to its answer. The sides take turns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.entry import run_command
from benchmarks.processes import run
from benchmarks.report import Spread, circumstances, ratios, table, write_report
from benchmarks.sides import (
    add_options,
    classify_command,
    describe_sides,
    find_checkpoint,
    peer_command,
    positive,
)

TEXT = (
    "Harbour ferry returns after two winters in dock\n"
    "The last paddle ferry on the northern coast carried passengers again on Saturday. Its boiler "
    "was rebuilt by volunteers, who raised the money with a calendar."
)
TARGET = 12.0
"""Times as fast as the pipeline."""

NEWSIE, PIPELINE = "newsie", "pipeline"
QUANTITIES = ("seconds", "cpu_seconds", "peak_bytes")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    report = circumstances("command", given)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = find_checkpoint(options, Path(scratch))
        commands = {
            NEWSIE: [*classify_command(options), TEXT],
            PIPELINE: peer_command("pipeline_command", checkpoint, TEXT),
        }
        measurements = measure(commands, options.runs)
    summary = summarise(measurements)
    report |= {"sides": describe_sides(options), "summary": summary, "measurements": measurements}
    write_report(options.results, report, render(summary))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.command", description=__doc__)
    parser.add_argument("--runs", type=positive, default=7, help="runs of each side [7]")
    add_options(parser)
    return parser.parse_args(arguments)


def measure(commands: Mapping[str, Sequence[str]], runs: int) -> list[dict[str, Any]]:
    """Run the sides in turn; run 0 of each is there to warm up."""
    measurements = []
    for number in range(runs + 1):
        for side, command in commands.items():
            done = run(command)
            if not done.output.strip():
                raise RuntimeError(f"{side} printed no answer")
            row = {name: getattr(done, name) for name in QUANTITIES}
            measurements.append({"side": side, "run": number, **row})
            print(f"run {number} of {runs}, {side}: {done.seconds:.2f} s", file=sys.stderr)
    return measurements


def summarise(measurements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spreads of each side, and ratios pipeline / newsie of neighbours, without the warm-up."""

    def values(side: str, name: str) -> list[float]:
        return [row[name] for row in measurements if row["side"] == side and row["run"] > 0]

    spreads = {
        side: {name: asdict(Spread.of(values(side, name))) for name in QUANTITIES}
        for side in (NEWSIE, PIPELINE)
    }
    quotients = {n: asdict(ratios(values(PIPELINE, n), values(NEWSIE, n))) for n in QUANTITIES}
    return {**spreads, "ratio": quotients, "target": TARGET}


def render(summary: Mapping[str, Any]) -> str:
    """Title, table and verdict."""

    def row(title: str, side: str, decimals: Sequence[int], units: Sequence[float]) -> list[str]:
        spreads = (Spread(**summary[side][name]) for name in QUANTITIES)
        return [title, *(s.text(d, u) for s, d, u in zip(spreads, decimals, units, strict=True))]

    rows = [
        row("`newsie classify TEXT`", NEWSIE, (3, 3, 0), (1, 1, 1e6)),
        row("transformers pipeline, DistilBERT fp32", PIPELINE, (3, 3, 0), (1, 1, 1e6)),
        row("ratio", "ratio", (1, 1, 1), (1, 1, 1)),
    ]
    verdict = "met" if summary["ratio"]["seconds"]["median"] >= TARGET else "missed"
    return (
        "# One article, the whole command\n\n"
        f"{table(('', 'seconds', 'CPU seconds', 'peak memory, MB'), rows)}\n"
        "Medians (least–greatest); ratios are those of pairs that ran one after the other.\n"
        f"Target, at least {TARGET:.0f} times as fast: {verdict}.\n"
    )


if __name__ == "__main__":
    run_command(main)
