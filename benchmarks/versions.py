"""Two bundles on the same test articles: what a new student has won or lost, task by task and in the mean.

    python -m benchmarks.versions BEFORE AFTER --data DIR

Both answer the test splits of the corpora that the bundled student learnt from. Changes are paired, with 95 %
intervals over articles, from a bootstrap of all tasks together where their macro-F1 is averaged. None of them
covers another seed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.entry import run_command
from benchmarks.forgetting import old_articles
from benchmarks.report import RESULTS, circumstances, table, write_rows
from benchmarks.sides import positive
from newsie.bundles.bundle import Bundle, read_bundle
from newsie.errors import InputError
from newsie.inference.classifier import Classifier
from newsie.labels import IGNORE
from newsie.metrics.evaluation import accuracy, macro_f1, paired_difference

__all__ = ["compare", "main", "mean_macro_f1_change", "render"]

Indices = NDArray[np.int64]
RESAMPLES = 2_000
PACKAGES = ("onnxruntime", "numpy")


Rows = list[dict[str, Any]]


def compare(
    before: Bundle, after: Bundle, data: Path, articles: int
) -> tuple[Rows, dict[str, Any]]:
    """Scores of both by task, and those of the mean of the tasks' macro-F1, with their changes.

    Raises:
        InputError: the bundles do not answer the same tasks with the same labels.
    """
    labels = before.manifest.label_space
    if after.manifest.label_space.fingerprint() != labels.fingerprint():
        raise InputError(
            f"{before.path} and {after.path} have different labels; give two that have the same"
        )
    test = old_articles(data, before, articles)
    gold = labels.encode(test)
    first, second = (
        {task: logits.argmax(axis=1) for task, logits in Classifier(bundle).logits(test).items()}
        for bundle in (before, after)
    )
    rows = [
        {"task": task, **_change(first[task], second[task], column)}
        for task, column in gold.items()
    ]
    return rows, mean_macro_f1_change(first, second, gold)


def _change(before: Indices, after: Indices, gold: Indices) -> dict[str, Any]:
    known = gold != IGNORE
    p, q, y = before[known], after[known], gold[known]
    found: dict[str, Any] = {"articles": len(y)}
    for name, metric in (("accuracy", accuracy), ("macro_f1", macro_f1)):
        interval = paired_difference(name, q, p, y)  # type: ignore[arg-type]
        found[name] = {
            "before": metric(p, y),
            "after": metric(q, y),
            "interval": [interval.low, interval.high],
        }
    return found


def mean_macro_f1_change(
    before: Mapping[str, Indices],
    after: Mapping[str, Indices],
    gold: Mapping[str, Indices],
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The mean of the tasks' macro-F1, before and after, with the percentile interval of its change.

    Args:
        before: task -> (N,) class indices, of the same N articles for all tasks.
        after: likewise.
        gold: task -> (N,) class indices; IGNORE where there is none.
        resamples: how often N articles are drawn with replacement.
    """

    def mean(answers: Mapping[str, Indices], rows: Indices) -> float:
        scores = []
        for task, column in gold.items():
            chosen = rows[column[rows] != IGNORE]
            scores.append(macro_f1(answers[task][chosen], column[chosen]))
        return float(np.mean(scores))

    count = len(next(iter(gold.values())))
    random = np.random.default_rng(0)
    changes = []
    for _ in range(resamples):
        rows = random.integers(0, count, count)
        changes.append(mean(after, rows) - mean(before, rows))
    everything = np.arange(count)
    return {
        "before": mean(before, everything),
        "after": mean(after, everything),
        "interval": np.percentile(changes, [2.5, 97.5]).tolist(),
    }


def render(rows: Rows, mean: Mapping[str, Any]) -> str:
    """Title and table."""
    lines = [
        [row["task"], f"{row['articles']:,}", *_cells(row["accuracy"]), *_cells(row["macro_f1"])]
        for row in rows
    ]
    header = ("", "articles", *("accuracy", "change"), *("macro-F1", "change"))
    return (
        "# Two versions of a student\n\n"
        f"{table(header, [*lines, ['**mean**', '', '', '', *_cells(mean)]])}\n"
        "In per cent, before → after; changes are paired, with 95 % bootstrap intervals over articles.\n"
    )


def _cells(scores: Mapping[str, Any]) -> list[str]:
    before, after = 100 * scores["before"], 100 * scores["after"]
    low, high = (100 * value for value in scores["interval"])
    return [f"{before:.1f} → {after:.1f}", f"{after - before:+.2f} [{low:+.2f}, {high:+.2f}]"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, write the results and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    data = os.environ.get("NEWSIE_DATA")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__)
    parser.add_argument("before", type=Path, help="a bundle")
    parser.add_argument("after", type=Path, help="another one, of the same tasks and labels")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(data) if data else None,
        required=data is None,
        help="folder of the corpora [NEWSIE_DATA]",
    )
    parser.add_argument("--articles", type=positive, default=20_000, help="of each corpus [20000]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(given)
    report = circumstances("versions", given, timed=False)
    before, after = read_bundle(options.before), read_bundle(options.after)
    report["bundles"] = {"before": before.fingerprint, "after": after.fingerprint}
    rows, mean = compare(before, after, options.data, options.articles)
    text = render(rows, mean)
    write_rows(options.results, report, rows, text, packages=PACKAGES, summary={"macro_f1": mean})


if __name__ == "__main__":
    run_command(main)
