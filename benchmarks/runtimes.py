"""A student's graph in ONNX Runtime and in OpenVINO, on one thread: which is faster on this processor.

    python -m benchmarks.runtimes --model BUNDLE

They take turns. The extra `openvino` brings OpenVINO; NEWSIE_RUNTIME chooses (newsie/inference/openvino.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.entry import run_command
from benchmarks.report import RESULTS, Spread, circumstances, ratios, table, write_report
from benchmarks.sides import positive
from newsie.bundles.bundle import bundled_path, read_bundle
from newsie.graph.graph import Graph

SHAPES = ((1, 64), (32, 64), (8, 256))
"""Articles and tokens of a batch."""

FIRST_IDS = 2_000
"""Token ids below this are drawn: every vocabulary has them."""

RUNTIMES = ("onnxruntime", "openvino")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.runtimes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=bundled_path(), help="bundle [bundled]")
    parser.add_argument("--rounds", type=positive, default=15, help="[15]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(given)
    report = circumstances("runtimes", given)
    bundle = read_bundle(options.model)
    sessions = _sessions(Graph.read(bundle.model_path))
    measurements = [
        {"articles": articles, "tokens": tokens, "runtime": name, "round": number, "rate": rate}
        for articles, tokens in SHAPES
        for number in range(options.rounds + 1)  # round 0 is there to warm up
        for name, rate in _rates(sessions, articles, tokens).items()
    ]
    summary = [summarise(measurements, *shape) for shape in SHAPES]
    packages = {name: version(name) for name in RUNTIMES}
    sides = {"all": {"bundle": bundle.fingerprint, "packages": packages}}
    report |= {"sides": sides, "summary": summary, "measurements": measurements}
    write_report(options.results, report, render(summary))


def _sessions(graph: Graph) -> dict[str, Callable[..., Any]]:
    from newsie.inference.openvino import OpenVinoSession
    from newsie.inference.student import open_onnxruntime

    return {
        "onnxruntime": open_onnxruntime(graph).run,
        "openvino": OpenVinoSession(graph, threads=1).run,
    }


def _rates(
    sessions: Mapping[str, Callable[..., Any]], articles: int, tokens: int
) -> dict[str, float]:
    """Articles a second of each, one after the other."""
    ids = np.random.default_rng(0).integers(0, FIRST_IDS, (articles, tokens))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    found = {}
    for name, run in sessions.items():
        started = time.perf_counter()
        run([], inputs)
        found[name] = articles / (time.perf_counter() - started)
    return found


def summarise(rows: Sequence[Mapping[str, Any]], articles: int, tokens: int) -> dict[str, Any]:
    """Spreads of a shape, and the ratio OpenVINO / ONNX Runtime of neighbours, without the warm-up."""
    rates = {
        name: [
            row["rate"]
            for row in rows
            if (row["articles"], row["tokens"], row["runtime"]) == (articles, tokens, name)
            and row["round"] > 0
        ]
        for name in RUNTIMES
    }
    return {
        "articles": articles,
        "tokens": tokens,
        **{name: asdict(Spread.of(values)) for name, values in rates.items()},
        "ratio": asdict(ratios(rates["openvino"], rates["onnxruntime"])),
    }


def render(summary: Sequence[Mapping[str, Any]]) -> str:
    """Title and table."""
    rows = [
        [
            f"{found['articles']} x {found['tokens']}",
            *(Spread(**found[name]).text(0) for name in RUNTIMES),
            Spread(**found["ratio"]).text(2),
        ]
        for found in summary
    ]
    header = ("articles x tokens", "ONNX Runtime, articles/s", "OpenVINO, articles/s", "ratio")
    return (
        f"# One graph, two runtimes, one thread\n\n{table(header, rows)}\n"
        "Medians (least–greatest); ratios are those of neighbours.\n"
    )


if __name__ == "__main__":
    run_command(main)
