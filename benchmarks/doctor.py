"""Wrong labels that `newsie doctor` finds, and the time and memory it takes.

    python -m benchmarks.doctor [--data DIR]

A tenth of the labels of a file is exchanged for others at random; then the doctor looks for labels that
are likely wrong, with the bundled student, and by words alone. Beside its rule stand two of cleanlab's, on
the same probabilities. What is wrong in the file to begin with counts as a false alarm, for nobody knows of
it. With --data the corpora are those of the data card, where the student learnt from one its test articles;
and the whole of the largest is examined, for time and memory. Without it, the sample. Interrupted, the same
command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import SAMPLE
from benchmarks.entry import run_command
from benchmarks.notebook import Keep, Notebook, Rows, measure_again
from benchmarks.processes import run
from benchmarks.report import RESULTS, Spread, circumstances, table, write_rows
from benchmarks.sides import positive
from newsie.data.label_columns import find_rules
from newsie.doctor.examination import read_beginnings
from newsie.doctor.label_issues import Suspects, find_suspects
from newsie.doctor.reading import read_file
from newsie.inference.classifier import Classifier

__all__ = ["Case", "exchange", "main", "measure_case", "render"]

SHARE = 0.1
WANTED_FOUND, WANTED_PRECISION = 0.6, 0.5
WORDS = "by words alone"
CLEANLAB = ("prune_by_noise_rate", "low_self_confidence")
PACKAGES = ("scikit-learn", "cleanlab", "numpy", "datasketch", "py3langid")
EXAMINE = """
import json, sys
from newsie import Classifier
from newsie.doctor.examination import examine
found = examine(sys.argv[1], tasks=[sys.argv[2]], classifier=Classifier.from_pretrained()).report
print(json.dumps({"articles": found.articles, "seconds": dict(found.seconds)}))
"""


class Case(NamedTuple):
    """A file and the column of its labels."""

    name: str
    path: Path
    column: str


def cases(data: Path | None) -> list[Case]:
    """The corpora in a data folder; without one, the sample."""
    if data is None:
        return [Case(f"sample {column}", SAMPLE, column) for column in ("section", "topic")]
    columns = (
        ("uci", "train", "category"),
        ("newsapi", "test", "topic"),
        ("newsapi", "test", "section"),
        ("huffpost", "train", "category"),
    )
    return [Case(f"{name} {c}", data / name / f"{part}.parquet", c) for name, part, c in columns]


def exchange(
    labels: Sequence[str | None], share: float, seed: int
) -> tuple[list[str | None], NDArray[np.bool_]]:
    """The labels, of which a share was exchanged for another one, each as likely; and (N,) which."""
    random = np.random.default_rng(seed)
    names = sorted({label for label in labels if label is not None})
    known = np.array([i for i, label in enumerate(labels) if label is not None], np.int64)
    chosen = random.permutation(known)[: round(share * len(known))]
    changed = list(labels)
    for i in chosen:
        others = [name for name in names if name != labels[i]]
        changed[i] = others[int(random.integers(len(others)))]
    return changed, np.isin(np.arange(len(labels)), chosen)


def measure_case(
    case: Case, seeds: Sequence[int], articles: int, keep: Keep = measure_again
) -> Rows:
    """Figures of each rule and seed."""
    file = read_file(case.path, find_rules(case.path, [case.column]))
    labels = file.labels(case.column.casefold())
    known = np.array([i for i, label in enumerate(labels) if label is not None], np.int64)
    kept = np.sort(np.random.default_rng(0).permutation(known)[:articles])
    texts, given = [file.texts[i] for i in kept], [labels[i] for i in kept]
    readings = cache(lambda: read_beginnings(Classifier.from_pretrained(), texts))

    def measure(seed: int) -> Rows:
        return _measure(case.name, texts, given, readings(), seed)

    return [row for seed in seeds for row in keep(f"{case.name} {seed}", partial(measure, seed))]


def _measure(
    name: str,
    texts: Sequence[str],
    labels: Sequence[str | None],
    readings: NDArray[np.float32],
    seed: int,
) -> Rows:
    changed, wrong = exchange(labels, SHARE, seed)
    found, by_words = find_suspects(texts, changed, readings), find_suspects(texts, changed)
    if found is None or by_words is None:
        raise RuntimeError(f"{name} has too few articles to look for wrong labels")
    rows: Rows = []
    for rule, chosen in _by_rule(found, by_words).items():
        right = int(wrong[found.looked_at][chosen].sum())
        probabilities = (by_words if rule == WORDS else found).wrongness.probabilities
        expected = probabilities[chosen]
        rows.append(
            {
                "corpus": name,
                "labels": len(found.labels),
                "articles": len(texts),
                "seed": seed,
                "rule": rule,
                "exchanged": int(wrong.sum()),
                "suspects": len(chosen),
                "found": right / int(wrong.sum()),
                "precision": right / max(1, len(chosen)),
                "expected_precision": float(expected.mean()) if len(chosen) else None,
            }
        )
        print(rows[-1], file=sys.stderr)
    return rows


def _by_rule(found: Suspects, by_words: Suspects) -> dict[str, NDArray[np.int64]]:
    """The suspects by the doctor and by cleanlab."""
    from cleanlab.filter import find_label_issues

    chosen = {"newsie doctor": found.chosen, WORDS: by_words.chosen}
    for rule in CLEANLAB:
        issues = find_label_issues(found.given, found.answers, filter_by=rule, n_jobs=1)
        chosen[f"cleanlab {rule}"] = np.flatnonzero(issues)
    return chosen


def measure_cost(path: Path, column: str) -> dict[str, Any]:
    """Time and memory of a whole examination, in a process of its own."""
    done = run([sys.executable, "-c", EXAMINE, str(path.absolute()), column])
    content = json.loads(done.output)
    return {
        "corpus": f"{path.parent.name} {column}",
        "seconds": done.seconds,
        "cpu_seconds": done.cpu_seconds,
        "peak_bytes": done.peak_bytes,
        "articles": content["articles"],
        "checks": content["seconds"],
    }


def render(rows: Sequence[dict[str, Any]], cost: dict[str, Any]) -> str:
    """Title, tables and remarks."""
    lines = []
    for corpus, rule in dict.fromkeys((row["corpus"], row["rule"]) for row in rows):
        mine = [row for row in rows if (row["corpus"], row["rule"]) == (corpus, rule)]
        found, precision = (Spread.of([row[key] for row in mine]) for key in ("found", "precision"))
        lines.append(
            [
                corpus,
                f"{mine[0]['articles']:,}",
                str(mine[0]["labels"]),
                rule,
                f"{found.text(1, 0.01)} %",
                f"{precision.text(1, 0.01)} %",
                "yes" if _is_enough(mine) else "no",
            ]
        )
    header = ("corpus", "articles", "labels", "rule", "found", "precision", "both, each seed")
    slow = sorted(cost["checks"].items(), key=lambda item: -item[1])[:4]
    return (
        f"# Wrong labels that the doctor finds\n\n{table(header, lines)}\n"
        f"{SHARE:.0%} of the labels exchanged at random; medians over "
        f"{len({row['seed'] for row in rows})} seeds, with the least and the greatest. Found: of the "
        f"exchanged labels those that are suspects; wanted are {WANTED_FOUND:.0%} or more. "
        f"Precision: of the suspects those that were exchanged; wanted are {WANTED_PRECISION:.0%} or "
        "more.\n\n## Time and memory\n\n"
        f"{cost['corpus']}, {cost['articles']:,} articles, all checks: {cost['seconds']:.0f} s "
        f"({cost['cpu_seconds']:.0f} s of CPU), {cost['peak_bytes'] / 2**20:,.0f} MiB at most. "
        f"Most of it: {', '.join(f'{name} {seconds:.0f} s' for name, seconds in slow)}.\n"
    )


def _is_enough(rows: Sequence[dict[str, Any]]) -> bool:
    return all(
        row["found"] >= WANTED_FOUND and row["precision"] >= WANTED_PRECISION for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the results and print the tables."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of the corpora [the sample]")
    parser.add_argument("--seeds", type=positive, default=5, help="how many times each [5]")
    parser.add_argument(
        "--articles", type=positive, default=30_000, help="at most, of each [30000]"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(given)
    report = circumstances("doctor", given)
    notebook = Notebook(options.results, report)
    rows = [
        row
        for case in cases(options.data)
        for row in measure_case(case, range(options.seeds), options.articles, notebook.keep)
    ]
    cost = (
        measure_cost(SAMPLE, "section")
        if options.data is None
        else measure_cost(options.data / "newsapi" / "train.parquet", "section")
    )
    text, summary = render(rows, cost), {"cost": cost}
    write_rows(options.results, report, rows, text, packages=PACKAGES, summary=summary)
    notebook.close()


if __name__ == "__main__":
    run_command(main)
