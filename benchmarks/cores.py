"""A folder of files, answered by one process and by several that share the cores, in turns.

    python -m benchmarks.cores --data DIR --model BUNDLE --name nano --articles 400000 --task section

Times are those of the whole command `newsie classify --file 'articles/*.parquet' -o answers/`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.corpus import article_files
from benchmarks.endurance import write_parts
from benchmarks.entry import run_command
from benchmarks.processes import run
from benchmarks.report import RESULTS, Spread, circumstances, ratios, table, write_report
from benchmarks.sides import positive
from newsie.bundles.bundle import bundled_path, read_bundle
from newsie.inference.student import count_threads

Measurement = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    report = circumstances("cores", given)
    report["benchmark"] = f"cores-{options.name}"
    with tempfile.TemporaryDirectory() as scratch:
        articles = write_parts(
            article_files(options.data), options.articles, Path(scratch) / "articles"
        )
        tasks = [word for task in options.task or [] for word in ("--task", task)]
        measurements = [
            measurement
            for number in range(1, options.rounds + 1)
            for measurement in measure(options.model, articles, tasks, options.processes, number)
        ]
    summary = summarise(measurements, options.processes)
    sides = {"newsie": {"bundle": read_bundle(options.model).fingerprint, "packages": {}}}
    report |= {"sides": sides, "summary": summary, "measurements": measurements}
    write_report(options.results, report, render(summary, options.name, options.processes))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    data = os.environ.get("NEWSIE_DATA")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cores",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=bundled_path(), help="bundle [bundled]")
    parser.add_argument("--name", default="default", help="of the student and results [default]")
    parser.add_argument("--articles", type=positive, default=100_000, help="[100000]")
    parser.add_argument("--task", action="append", help="a task to answer; repeatable [all]")
    parser.add_argument(
        "--processes",
        type=positive,
        default=max(count_threads(None), 2),
        help="[one for each core, two at least]",
    )
    parser.add_argument("--rounds", type=positive, default=3, help="[3]")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(data) if data else None,
        help="folder with newsapi/*.parquet [NEWSIE_DATA, or else the project's sample, repeated]",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(arguments)


def measure(
    model: Path, articles: Path, tasks: Sequence[str], processes: int, number: int
) -> Iterator[Measurement]:
    """One round: all files by one process, then by several."""
    count = sum(_rows(path) for path in articles.iterdir())
    answers = articles.with_name("answers")
    for several in (1, processes):
        command = [sys.executable, "-m", "newsie", "classify", "--model", str(model), *tasks]
        command += ["--file", str(articles / "*.parquet"), "-o", f"{answers}{os.sep}"]
        done = run([*command, "--processes", str(several)])
        shutil.rmtree(answers)
        rate = count / done.seconds
        print(f"round {number}, {several} process(es): {rate:,.0f} articles/s", file=sys.stderr)
        yield {
            "round": number,
            "processes": several,
            "articles": count,
            "seconds": done.seconds,
            "cpu_seconds": done.cpu_seconds,
            "articles_per_second": rate,
        }


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def summarise(measurements: Sequence[Measurement], processes: int) -> dict[str, Any]:
    """Spreads of both sides, and the ratio of neighbours."""
    rates = {
        several: [row["articles_per_second"] for row in measurements if row["processes"] == several]
        for several in (1, processes)
    }
    return {
        "one": asdict(Spread.of(rates[1])),
        "several": asdict(Spread.of(rates[processes])),
        "ratio": asdict(ratios(rates[processes], rates[1])),
    }


def render(summary: Mapping[str, Any], name: str, processes: int) -> str:
    """Title and table."""
    rows = [
        ["1", Spread(**summary["one"]).text(0), ""],
        [f"{processes}", Spread(**summary["several"]).text(0), Spread(**summary["ratio"]).text(2)],
    ]
    return (
        f"# Files into files by {name}, in one process and in {processes}\n\n"
        f"{table(('processes', 'articles/s', 'ratio'), rows)}\n"
        "Medians (least–greatest); the ratio is that of neighbours. Start, reading and writing count.\n"
    )


if __name__ == "__main__":
    run_command(main)
