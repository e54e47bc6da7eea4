"""What old tasks lose when the bundled student is retrained on a corpus that has none of their labels.

    python -m benchmarks.forgetting --data DIR [--corpus uci] [--depths student full] [--articles 2000]

The bundled student is retrained as `newsie retrain FILE` does, without old articles. Then the old one and
the new one answer test articles of the corpora that the old one learnt from, and are compared on the same
articles: accuracy before and after, and the difference with its paired 95 % interval. Interrupted, the same
command goes on; seconds are then left out for what was resumed. --runs may be deleted afterwards.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.entry import run_command
from benchmarks.notebook import Notebook, Rows
from benchmarks.report import RESULTS, circumstances, table, write_rows
from benchmarks.sides import positive
from newsie.bundles.bundle import Bundle, bundled_path, read_bundle
from newsie.data.articles import Article
from newsie.data.readers import ArticleReader
from newsie.inference.classifier import Classifier
from newsie.labels import LabelRule
from newsie.training.retraining.dataset import Sources
from newsie.training.retraining.promotion import Limits, TaskReport, compare_students
from newsie.training.retraining.retrain import retrain
from newsie.training.retraining.stages import Depth

__all__ = ["compare", "main", "old_articles", "render"]

DEPTHS: tuple[Depth, ...] = ("quick", "student", "full")
OLD = ("newsapi", "nyt", "clickbait")
PACKAGES = ("torch", "transformers", "onnxruntime")


def old_articles(data: Path, base: Bundle, count: int) -> list[Article]:
    """The first test articles of each corpus that answer an old task with a label that it has."""
    tasks = base.manifest.label_space.tasks
    known = {task.name: frozenset(task.labels) for task in tasks}
    rules = {task.name: task.rule or LabelRule(task.name) for task in tasks}

    def usable(article: Article) -> bool:
        return any(label in known[task] for task, label in article.labels.items())

    found: list[Article] = []
    for corpus in OLD:
        reader = ArticleReader(data / corpus / "test.parquet", rules=rules)
        found += islice(filter(usable, reader), count)
    return [_only_known(article, known) for article in found]


def _only_known(article: Article, known: Mapping[str, frozenset[str]]) -> Article:
    labels = {task: label for task, label in article.labels.items() if label in known[task]}
    return Article(article.headline, article.body, article.id, labels=labels)


def compare(base: Bundle, new: Bundle, articles: Sequence[Article]) -> dict[str, TaskReport]:
    """Both on the same articles, by task that has gold labels there."""
    labels = new.manifest.label_space
    old, after = (
        classifier.calibrate(classifier.logits(articles))
        for classifier in (Classifier(base), Classifier(new))
    )
    gold = labels.encode(articles)
    found = compare_students(
        old, after, gold, labels, taught=(), baseline={}, limits=Limits()
    ).tasks
    return {task: report for task, report in found.items() if report.change is not None}


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """Title and table."""
    lines = [
        [
            row["depth"],
            row["task"],
            f"{row['articles']:,}",
            f"{100 * row['before']:.1f}",
            f"{100 * row['after']:.1f}",
            "{:+.1f} ({:+.1f} to {:+.1f})".format(
                *(100 * row["change"][name] for name in ("value", "low", "high"))
            ),
            f"{row['seconds']:,.0f}" if row["seconds"] else "resumed",
        ]
        for row in rows
    ]
    header = ("depth", "task", "articles", "before, %", "after, %", "change, points", "seconds")
    return f"# What old tasks lose in retraining\n\n{table(header, lines)}"


def _measure(
    depth: Depth, sources: Sources, base: Bundle, articles: Sequence[Article], folder: Path
) -> Rows:
    runs = folder / base.fingerprint
    resumed, began = (runs / depth).exists(), time.perf_counter()
    found = retrain(
        sources, runs / "bundles" / depth, base=base, depth=depth, runs=runs, force=True
    )
    seconds = None if resumed else time.perf_counter() - began
    rows: Rows = []
    for task, report in compare(base, found.bundle, articles).items():
        assert report.before is not None
        assert report.change is not None
        change, support = asdict(report.change), report.before.support
        before, after = report.before.accuracy, report.before.accuracy + report.change.value
        row = {"depth": depth, "task": task, "articles": support, "before": before, "after": after}
        rows.append({**row, "change": change, "seconds": seconds})
        print(rows[-1], file=sys.stderr)
    for task, report in found.promotion.tasks.items():
        if report.taught and report.after is not None and report.baseline is not None:
            against = f"{100 * report.baseline:.1f}"
            print(f"{task}: {100 * report.after.accuracy:.1f}, TF-IDF {against}", file=sys.stderr)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the report."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpus", default="uci", help="whose train.parquet is learnt from")
    parser.add_argument("--depths", nargs="+", choices=DEPTHS, default=["student", "full"])
    parser.add_argument("--articles", type=positive, default=2_000, help="old ones of each corpus")
    parser.add_argument("--runs", type=Path, default=Path("runs/forgetting"), help="work folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(given)
    found = circumstances("forgetting", given)
    base = read_bundle(bundled_path())
    articles = old_articles(options.data, base, options.articles)
    folder = options.data / options.corpus
    sources = Sources(folder / "train.parquet", test=folder / "test.parquet")
    notebook = Notebook(options.results, found, base.fingerprint)
    rows = [
        row
        for depth in options.depths
        for row in notebook.keep(
            depth, partial(_measure, depth, sources, base, articles, options.runs)
        )
    ]
    write_rows(options.results, found, rows, render(rows), packages=PACKAGES)
    notebook.close()


if __name__ == "__main__":
    run_command(main)
