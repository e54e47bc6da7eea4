"""Millions of articles in one command: whether the last tenth is as fast as the first, and memory stays flat.

    python -m benchmarks.endurance --data DIR --model BUNDLE --articles 1000000

A folder of ten Parquet files, the same articles in each with fresh ids, is answered by one
`newsie classify --file 'articles/*.parquet' -o answers/`. A file is timed from the answers of the one before
to its own, which appear when all of it is on the disk; memory is looked at twenty times a second.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.corpus import article_files, endless_articles
from benchmarks.entry import run_command
from benchmarks.report import RESULTS, circumstances, table, write_report
from benchmarks.sides import positive
from newsie.bundles.bundle import bundled_path, read_bundle

PARTS = 10
INTERVAL = 0.05
MOST_APART = 0.05
"""Of the last tenth's speed from the first one's, and of its memory."""

Measurement = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    report = circumstances("endurance", given)
    if options.name:
        report["benchmark"] = f"endurance-{options.name}"
    files = article_files(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        articles = write_parts(files, options.articles, Path(scratch) / "articles")
        measurements = list(measure(options.model, articles, options.task or []))
    summary = summarise(measurements)
    sides = {"newsie": {"bundle": read_bundle(options.model).fingerprint, "packages": {}}}
    report |= {"sides": sides, "summary": summary, "measurements": measurements}
    write_report(options.results, report, render(summary, measurements))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    data = os.environ.get("NEWSIE_DATA")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.endurance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=bundled_path(), help="bundle [bundled]")
    parser.add_argument("--name", help="of the results: endurance-NAME [endurance]")
    parser.add_argument("--articles", type=positive, default=1_000_000, help="[1000000]")
    parser.add_argument("--task", action="append", help="a task to answer; repeatable [all]")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(data) if data else None,
        help="folder with newsapi/*.parquet [NEWSIE_DATA, or else the project's sample, repeated]",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(arguments)


def write_parts(files: Sequence[Path], articles: int, folder: Path) -> Path:
    """So many articles in a folder of Parquet files."""
    folder.mkdir()
    size = -(-articles // PARTS)
    some = list(islice(endless_articles(files), size))
    texts = [pa.array([article.headline for article in some])]
    texts += [pa.array([article.body for article in some])]
    for number in range(PARTS):
        ids = pa.array([f"a{number * size + i}" for i in range(size)])
        part = pa.Table.from_arrays([ids, *texts], ["id", "headline", "body"])
        pq.write_table(part, folder / f"part-{number}.parquet")
    return folder


def measure(model: Path, articles: Path, tasks: Sequence[str]) -> Iterator[Measurement]:
    """One file after the other; the peak of memory is that of all so far.

    Raises:
        RuntimeError: the command fails.
    """
    answers = articles.with_name("answers")
    command = [sys.executable, "-m", "newsie", "classify", "--model", str(model)]
    command += ["--file", str(articles / "*.parquet"), "-o", f"{answers}{os.sep}"]
    command += [word for task in tasks for word in ("--task", task)]
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        for path in sorted(articles.iterdir()):
            while not (answers / path.name).exists():
                if process.poll() is not None and not (answers / path.name).exists():
                    raise RuntimeError(f"{shlex.join(command)} failed: {process.communicate()[1]}")
                peak = max(peak, watched.memory_info().rss)
                time.sleep(INTERVAL)
            seconds, started = time.perf_counter() - started, time.perf_counter()
            rows = pq.read_metadata(answers / path.name).num_rows
            print(f"{path.name}: {rows / seconds:,.0f} articles/s", file=sys.stderr)
            yield {
                "articles": rows,
                "seconds": seconds,
                "articles_per_second": rows / seconds,
                "peak_bytes": peak,
            }


def summarise(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """The whole, and the last tenth by the first."""
    first, last = measurements[0], measurements[-1]
    total = sum(row["articles"] for row in measurements)
    return {
        "articles": total,
        "articles_per_second": total / sum(row["seconds"] for row in measurements),
        "peak_bytes": last["peak_bytes"],
        "speed_last_to_first": last["articles_per_second"] / first["articles_per_second"],
        "memory_last_to_first": last["peak_bytes"] / first["peak_bytes"],
    }


def render(summary: Mapping[str, Any], measurements: Sequence[Measurement]) -> str:
    """Title, table and verdict."""
    rows = [
        [
            f"{number}",
            f"{row['articles']:,}",
            f"{row['articles_per_second']:,.0f}",
            f"{row['peak_bytes'] / 1e6:,.0f}",
        ]
        for number, row in enumerate(measurements, 1)
    ]
    speed, memory = summary["speed_last_to_first"], summary["memory_last_to_first"]
    flat = speed >= 1 - MOST_APART and memory <= 1 + MOST_APART
    return (
        f"# {summary['articles']:,} articles in one command\n\n"
        f"{table(('tenth', 'articles', 'articles/s', 'peak memory so far, MB'), rows)}\n"
        f"{summary['articles_per_second']:,.0f} articles/s in all, start, reading and writing included; the "
        f"last tenth has {speed:.3f} of the first one's speed and {memory:.3f} of its memory.\n"
        f"Target, at least {1 - MOST_APART:.2f} of the speed and at most {1 + MOST_APART:.2f} of the memory: "
        f"{'met' if flat else 'missed'}.\n"
    )


if __name__ == "__main__":
    run_command(main)
