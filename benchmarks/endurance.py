"""Millions of articles in one go: whether the last tenth is as fast as the first, and memory stays flat.

    python -m benchmarks.endurance --data DIR --model BUNDLE --articles 1000000

Every tenth reads the same articles again, with fresh ids, and writes its answers to a Parquet file of
its own, as `newsie classify --file` does; so tenths can be compared, and disks hold them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.corpus import article_files, endless_articles
from benchmarks.peers.contender import peak_bytes
from benchmarks.report import RESULTS, circumstances, table, write_report
from benchmarks.sides import positive
from newsie.bundle import bundled_path
from newsie.classifier import Classifier
from newsie.cli.rows import Answer, flat_row
from newsie.data.articles import Article
from newsie.data.writers import open_writer

PARTS = 10
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
    classifier = Classifier.from_pretrained(options.model)
    files = article_files(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        measurements = list(
            measure(classifier, files, options.articles, options.task, Path(scratch))
        )
    passed_on = classifier.passed_on.share if classifier.passed_on else None
    summary = summarise(measurements) | {"passed_on": passed_on}
    sides = {"newsie": {"bundle": classifier.bundle.fingerprint, "packages": {}}}
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


def measure(
    classifier: Classifier,
    files: Sequence[Path],
    articles: int,
    tasks: Sequence[str] | None,
    folder: Path,
) -> Iterator[Measurement]:
    """One tenth after the other; the peak of memory is that of all so far."""
    ids = count()
    for number in range(1, PARTS + 1):
        some = _fresh(files, -(-articles // PARTS), ids)
        path = folder / "answers.parquet"
        started = time.perf_counter()
        with open_writer(path) as writer:
            for article, prediction in classifier.classify_stream(some, tasks=tasks):
                answer = Answer(article, prediction, 0, {"id": article.id})
                writer.write(flat_row(answer, 1))
        seconds = time.perf_counter() - started
        path.unlink()
        rate = writer.rows / seconds
        print(f"{number} of {PARTS}: {rate:,.0f} articles/s", file=sys.stderr)
        yield {
            "part": number,
            "articles": writer.rows,
            "seconds": seconds,
            "articles_per_second": rate,
            "peak_bytes": peak_bytes(),
        }


def _fresh(files: Sequence[Path], number: int, ids: Iterator[int]) -> Iterator[Article]:
    for article in islice(endless_articles(files), number):
        yield replace(article, id=f"a{next(ids)}")


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
            f"{row['part']}",
            f"{row['articles']:,}",
            f"{row['articles_per_second']:,.0f}",
            f"{row['peak_bytes'] / 1e6:,.0f}",
        ]
        for row in measurements
    ]
    speed, memory = summary["speed_last_to_first"], summary["memory_last_to_first"]
    flat = speed >= 1 - MOST_APART and memory <= 1 + MOST_APART
    passed = summary["passed_on"]
    return (
        f"# {summary['articles']:,} articles in one go\n\n"
        f"{table(('tenth', 'articles', 'articles/s', 'peak memory so far, MB'), rows)}\n"
        f"{summary['articles_per_second']:,.0f} articles/s in all, reading and writing included; the last "
        f"tenth has {speed:.3f} of the first one's speed and {memory:.3f} of its memory.\n"
        f"{'' if passed is None else f'The cascade passed {100 * passed:.1f} % on.' + chr(10)}"
        f"Target, at least {1 - MOST_APART:.2f} of the speed and at most {1 + MOST_APART:.2f} of the memory: "
        f"{'met' if flat else 'missed'}.\n"
    )


if __name__ == "__main__":
    main()
