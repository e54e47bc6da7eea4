"""`newsie classify --file` on many articles, and its memory, beside a transformers pipeline.

    python -m benchmarks.bulk --data DIR

Newsie is a whole process, from nothing to the file of answers, on all articles and on a tenth of
them. The pipeline classifies a random sample of the same articles, one by one and in batches;
loading its model does not count. The sides take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.corpus import article_files, take_articles, write_articles, write_texts
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
from newsie.data.articles import Article

TARGET = 30.0
"""Times the throughput of the pipeline, one by one."""

BATCH_SIZE = 32
ALL, TENTH, SINGLE, BATCHED = "newsie", "newsie, a tenth", "pipeline", "pipeline, batches"
SIDES = (SINGLE, TENTH, BATCHED, ALL)
"""In the order of running: Newsie and the pipeline take turns."""

Measurement = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    report = circumstances("bulk", given)
    articles = take_articles(article_files(options.data), options.articles)
    sample = random.Random(0).sample(articles, min(options.sample, len(articles)))
    report["articles"] = _describe(options, articles, sample)
    with tempfile.TemporaryDirectory() as scratch:
        blocks = _prepare(options, articles, sample, Path(scratch))
        measurements = measure(blocks, options.rounds)
    summary = summarise(measurements)
    report |= {"sides": describe_sides(options), "summary": summary, "measurements": measurements}
    write_report(options.results, report, render(summary, report["articles"]))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    data = os.environ.get("NEWSIE_DATA")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--articles", type=positive, default=100_000, help="[100000]")
    parser.add_argument(
        "--sample", type=positive, default=250, help="articles of the pipeline [250]"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each side [3]")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(data) if data else None,
        help="folder with newsapi/*.parquet [NEWSIE_DATA, or else the project's sample, repeated]",
    )
    parser.add_argument(
        "--format", choices=("csv", "jsonl", "parquet"), default="csv", help="in and out [csv]"
    )
    add_options(parser)
    return parser.parse_args(arguments)


def _describe(
    options: argparse.Namespace, articles: Sequence[Article], sample: Sequence[Article]
) -> dict[str, Any]:
    """What is classified; the sample's texts should be as long as those of all."""

    def characters(chosen: Sequence[Article]) -> float:
        return round(mean(len(article.headline) + len(article.body) for article in chosen), 1)

    return {
        "source": "newsapi" if options.data else "data/sample, repeated",
        "format": options.format,
        "count": len(articles),
        "mean_characters": characters(articles),
        "sample_count": len(sample),
        "sample_mean_characters": characters(sample),
    }


def _prepare(
    options: argparse.Namespace,
    articles: Sequence[Article],
    sample: Sequence[Article],
    folder: Path,
) -> dict[str, Callable[[], Measurement]]:
    """Write what the sides read; side -> what runs it once."""
    chosen = {ALL: articles, TENTH: articles[: -(-len(articles) // 10)]}
    output = folder / f"answers.{options.format}"
    blocks: dict[str, Callable[[], Measurement]] = {}
    for number, (side, some) in enumerate(chosen.items()):
        file = write_articles(some, folder / f"articles-{number}.{options.format}")
        command = [*classify_command(options), "--file", str(file), "-o", str(output)]
        blocks[side] = partial(_classify_file, command, output, len(some))
    texts = str(write_texts(sample, folder / "sample.json"))
    checkpoint = find_checkpoint(options, folder)
    for side, size in ((SINGLE, 1), (BATCHED, BATCH_SIZE)):
        command = peer_command("pipeline_bulk", checkpoint, texts, str(size))
        blocks[side] = partial(_run_pipeline, command)
    return {side: blocks[side] for side in SIDES}


def _classify_file(command: Sequence[str], output: Path, count: int) -> Measurement:
    output.unlink(missing_ok=True)
    done = run(command)
    if not output.exists():
        raise RuntimeError(f"newsie wrote no answers to {output}")
    return {
        "articles": count,
        "seconds": done.seconds,
        "cpu_seconds": done.cpu_seconds,
        "peak_bytes": done.peak_bytes,
        "output_bytes": output.stat().st_size,
    }


def _run_pipeline(command: Sequence[str]) -> Measurement:
    done = run(command)
    found = json.loads(done.output.splitlines()[-1])
    return {**found, "process_seconds": done.seconds, "peak_bytes": done.peak_bytes}


def measure(blocks: Mapping[str, Callable[[], Measurement]], rounds: int) -> list[Measurement]:
    """Run the sides in turn; adds their throughput."""
    measurements = []
    for number in range(1, rounds + 1):
        for side, block in blocks.items():
            found = block()
            rate = found["articles"] / found["seconds"]
            measurements.append(
                {"side": side, "round": number, "articles_per_second": rate, **found}
            )
            print(f"round {number} of {rounds}, {side}: {rate:,.1f} articles/s", file=sys.stderr)
    return measurements


def summarise(measurements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spreads of each side; ratios of what ran in the same round."""

    def values(side: str, name: str) -> list[float]:
        return [row[name] for row in measurements if row["side"] == side]

    rate, peak = "articles_per_second", "peak_bytes"
    return {
        "sides": {
            side: {name: asdict(Spread.of(values(side, name))) for name in (rate, peak)}
            for side in SIDES
        },
        "ratio": {
            "to_single": asdict(ratios(values(ALL, rate), values(SINGLE, rate))),
            "to_batched": asdict(ratios(values(ALL, rate), values(BATCHED, rate))),
            "memory_all_to_tenth": asdict(ratios(values(ALL, peak), values(TENTH, peak))),
        },
        "target": TARGET,
    }


def render(summary: Mapping[str, Any], articles: Mapping[str, Any]) -> str:
    """Title, table and verdict."""
    many, some, few = articles["count"], -(-articles["count"] // 10), articles["sample_count"]
    titles = {
        ALL: f"`newsie classify --file`, {many:,} articles",
        TENTH: f"`newsie classify --file`, {some:,} articles",
        SINGLE: f"transformers pipeline, DistilBERT fp32, one by one, {few:,} articles",
        BATCHED: f"the same in batches of {BATCH_SIZE}",
    }
    rows = []
    for side, title in titles.items():
        rate, peak = (Spread(**found) for found in summary["sides"][side].values())
        rows.append([title, rate.text(1), peak.text(0, 1e6)])
    single, batched, memory = (Spread(**found).text(2) for found in summary["ratio"].values())
    verdict = "met" if summary["ratio"]["to_single"]["median"] >= TARGET else "missed"
    return (
        "# A file of articles\n\n"
        f"{table(('', 'articles/s', 'peak memory, MB'), rows)}\n"
        f"Newsie has {single} times the throughput of the pipeline one by one, {batched} times that "
        f"in batches,\nand on {many:,} articles {memory} times the memory it takes on {some:,}.\n"
        "Medians (least–greatest); ratios are those of the same round.\n"
        f"Articles: {articles['source']}, {articles['format']} in and out, "
        f"{articles['mean_characters']:.0f} characters on average "
        f"(the pipeline's {articles['sample_mean_characters']:.0f}).\n"
        f"Target, at least {TARGET:.0f} times the pipeline one by one: {verdict}.\n"
    )


if __name__ == "__main__":
    run_command(main)
