"""Newsie's ladder of students and its peers: speed beside accuracy, in one run.

    python -m benchmarks.ladder --data DIR --rung default=BUNDLE --rung nano=BUNDLE --rung cascade=BUNDLE

Every peer is fitted on newsapi's training articles, Newsie's bundles by their recipe. Each is measured in a
process of its own: texts of 50 and of 250 tokens in bulk, one text at a time, start, memory, size, and
accuracy on newsapi's test split for one task, section or topic. The contenders take turns. The extra `bench`
installs the peers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.chart import draw_chart
from benchmarks.contenders import PEERS, fit_peer
from benchmarks.entry import run_command
from benchmarks.limits import measure_limits
from benchmarks.operations import count_int8_operations
from benchmarks.processes import run
from benchmarks.report import RESULTS, Spread, circumstances, ratios, table, write_report
from benchmarks.sides import positive
from newsie.bundles.bundle import bundled_path, read_bundle
from newsie.data.articles import Article
from newsie.data.encoding import Encoder, view_text
from newsie.data.readers import ArticleReader
from newsie.inference.openvino import ONNXRUNTIME
from newsie.labels import LabelRule

SCRIPT = Path(__file__).parent / "peers" / "contender.py"
WORDS = {"50 tokens": 38, "250 tokens": 190}
"""Lengths in bulk; English news has about 1.3 pieces a word."""

REFERENCE = "pipeline"
TASKS = ("section", "topic")
TOKENS_OF = 1_000
"""Texts whose tokens are counted; all have the same number of words."""

TITLES = {
    "pipeline": "transformers pipeline, DistilBERT fp32",
    "minilm": "sentence-transformers, MiniLM-L6 + head",
    "model2vec": "model2vec from MiniLM + head",
    "tfidf": "TF-IDF + logistic regression",
    "fasttext": "fastText",
}

Measurement = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """What is measured.

    Attributes:
        name: for people; a rung's, or one of PEERS.
        kind: function of peers/contender.py.
        folder: what it loads.
    """

    name: str
    kind: str
    folder: Path

    @property
    def own(self) -> bool:
        """Whether it is Newsie's."""
        return self.kind == "newsie"

    @property
    def title(self) -> str:
        return f"**newsie {self.name}**" if self.own else TITLES[self.name]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the peers, measure all, write the results and the chart, and print the table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    report = circumstances("ladder", given)
    report["benchmark"] = _name(options.task)
    train, test = _labelled(options, "train"), _labelled(options, "test")
    with tempfile.TemporaryDirectory() as scratch:
        contenders = [*_rungs(options.rung), *_peers(options, train, Path(scratch))]
        texts = {name: _texts(test, words, options.articles) for name, words in WORDS.items()}
        files = {
            name: _write(some, Path(scratch) / f"{name}.jsonl") for name, some in texts.items()
        }
        runner = Runner(options.task, Path(scratch), options.singles, options.seconds)
        limits: list[dict[str, Any]] = []
        measurements: list[Measurement] = []
        for number in range(1, options.rounds + 1):
            for name, file in files.items():
                limits.append({"length": name, "round": number, **measure_limits()})
                measurements += [runner.measure(c, name, file, number) for c in contenders]
        answers = {c.name: runner.answer_test(c, test) for c in contenders}
        sizes = {c.name: _size(c.folder) for c in contenders}
    summary = summarise(measurements, answers, sizes)
    for contender in filter(is_student, contenders):
        for length, some in texts.items():
            operations = operations_of(contender, some) / 1e9
            rates = _values(measurements, contender.name, length, "articles_per_second")
            peaks = [row["int8_gops"] / operations for row in limits if row["length"] == length]
            summary[contender.name][length]["int8_share"] = asdict(ratios(rates, peaks))
    report |= {
        "sides": {"all": {"packages": _versions()}},
        "task": options.task,
        "lengths": list(WORDS),
        "limits": limits,
        "articles": {"train": len(train), "test": len(test), "bulk": options.articles},
        "summary": summary,
        "measurements": measurements,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    for length in WORDS:
        picture = options.results / f"{report['benchmark']}-{length.split()[0]}.svg"
        chart(summary, contenders, f"{options.task} of newsapi, texts of {length}", length, picture)
    write_report(options.results, report, render(summary, contenders, limits, options.task))


def _name(task: str) -> str:
    """Of the files of results; each task and each runtime has its own."""
    runtime = os.environ["NEWSIE_RUNTIME"]
    parts = [task] * (task != TASKS[0]) + [runtime] * (runtime != ONNXRUNTIME)
    return "-".join(["ladder", *parts])


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    data = os.environ.get("NEWSIE_DATA")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ladder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rung",
        action="append",
        type=_rung,
        default=[],
        metavar="NAME=BUNDLE",
        help="a student or cascade to measure; repeatable [default=the bundled one]",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(data) if data else None,
        required=data is None,
        help="folder with newsapi/*.parquet [NEWSIE_DATA]",
    )
    parser.add_argument("--task", choices=TASKS, default=TASKS[0], help=f"[{TASKS[0]}]")
    parser.add_argument("--peer", action="append", choices=PEERS, help="only these [all]")
    parser.add_argument("--fitted", type=Path, help="folder that keeps fitted peers [none]")
    parser.add_argument("--articles", type=positive, default=100_000, help="in bulk [100000]")
    parser.add_argument(
        "--seconds", type=positive, default=10, help="or as many as take about this long [10]"
    )
    parser.add_argument("--training", type=positive, help="training articles of the peers [all]")
    parser.add_argument("--test", type=positive, help="test articles [all]")
    parser.add_argument("--singles", type=positive, default=100, help="one by one [100]")
    parser.add_argument("--rounds", type=positive, default=5, help="[5]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(arguments)


def _rung(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=BUNDLE")
    return name, Path(path).absolute()


def _rungs(given: Sequence[tuple[str, Path]]) -> list[Contender]:
    rungs = given or [("default", bundled_path())]
    return [Contender(name, "newsie", path) for name, path in rungs]


def _peers(options: argparse.Namespace, train: Sequence[Article], scratch: Path) -> list[Contender]:
    texts = [view_text(article, "full") for article in train]
    labels = [article.labels[options.task] for article in train]
    folder = (options.fitted or scratch) / options.task
    return [
        Contender(name, name, fit_peer(name, folder, texts, labels))
        for name in options.peer or PEERS
    ]


def _labelled(options: argparse.Namespace, split: str) -> list[Article]:
    """The articles of newsapi that have a label of the task, in an order of chance."""
    task = options.task
    reader = ArticleReader(
        options.data / "newsapi" / f"{split}.parquet", rules={task: LabelRule(task)}
    )
    found = [article for article in reader if task in article.labels]
    random.Random(0).shuffle(found)
    return found[: options.training if split == "train" else options.test]


def _texts(articles: Sequence[Article], words: int, count: int) -> list[str]:
    """Texts of exactly so many words, each of one article: cut, or said again from the start.

    Never of two, which no student can be sure of: a cascade would pass on more than it does of articles.
    """
    texts = []
    for article in islice(cycle(articles), count):
        own = f"{article.headline} {article.body}".split()
        texts.append(" ".join(islice(cycle(own), words)))
    return texts


def _write(texts: Sequence[str], path: Path) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
    return path


@dataclass(frozen=True)
class Runner:
    """Runs contenders, each in a process of its own.

    Attributes:
        task: what they answer.
        scratch: folder for the test articles.
        singles: texts that are classified one by one.
        seconds: that bulk may take, about.
    """

    task: str
    scratch: Path
    singles: int
    seconds: float

    def measure(self, contender: Contender, length: str, file: Path, number: int) -> Measurement:
        """Start, one by one, bulk."""
        found = self._run(contender, file, self.singles, self.seconds)
        del found["labels"]
        rate = found["articles"] / found["seconds"]
        print(
            f"round {number}, {contender.name}, {length}: {rate:,.1f} articles/s", file=sys.stderr
        )
        return {
            "contender": contender.name,
            "length": length,
            "round": number,
            "articles_per_second": rate,
            "p50_ms": float(np.percentile(found["latencies_ms"], 50)),
            "p99_ms": float(np.percentile(found["latencies_ms"], 99)),
            **found,
        }

    def answer_test(self, contender: Contender, test: Sequence[Article]) -> Measurement:
        """Share of the test articles that get their gold label, and that a cascade passes on; nothing where
        answers mean nothing."""
        if contender.kind == REFERENCE:
            return {}
        texts = [view_text(article, "full") for article in test]
        found = self._run(contender, _write(texts, self.scratch / "test.jsonl"), 0, math.inf)
        right = [a == b.labels[self.task] for a, b in zip(found["labels"], test, strict=True)]
        shares = {name: found[name] for name in ("passed_on",) if name in found}
        return {"accuracy": float(np.mean(right)), **shares}

    def _run(self, contender: Contender, file: Path, singles: int, seconds: float) -> Measurement:
        numbers = [str(singles), str(seconds)]
        command = [contender.kind, str(contender.folder), str(file), *numbers, self.task]
        done = run([sys.executable, str(SCRIPT), *command])
        found: Measurement = json.loads(done.output.splitlines()[-1])
        return {**found, "peak_bytes": done.peak_bytes}


def is_student(contender: Contender) -> bool:
    """Whether it is a single graph of Newsie's, and so computes the same for every article."""
    return contender.own and read_bundle(contender.folder).manifest.cascade is None


def operations_of(contender: Contender, texts: Sequence[str]) -> int:
    """int8 operations for one of these texts, which are of about the same length."""
    bundle = read_bundle(contender.folder)
    encoder = Encoder.from_file(bundle.tokenizer_path, bundle.manifest.encoding)
    ids = encoder.encode([Article.from_text(text) for text in texts[:TOKENS_OF]]).ids
    return count_int8_operations(
        bundle.model_path, round(float(np.mean([len(row) for row in ids])))
    )


def _size(folder: Path) -> int:
    """Bytes that a contender loads from disk."""
    pointer = folder / "encoder.txt"
    files = [path for path in folder.rglob("*") if path.is_file()]
    if pointer.exists():
        encoder = Path(pointer.read_text(encoding="utf-8"))
        files += [encoder / "model.safetensors", encoder / "tokenizer.json"]
    return sum(path.stat().st_size for path in files)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in (
        *("newsie-classifier", "onnxruntime", "tokenizers", "numpy", "torch", "transformers"),
        *("sentence-transformers", "model2vec", "fasttext-numpy2", "scikit-learn"),
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def summarise(
    measurements: Sequence[Measurement],
    answers: Mapping[str, Mapping[str, float]],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """Spreads by contender and length, and ratios to the pipeline in the same round."""
    quantities = (
        *("articles_per_second", "p50_ms", "p99_ms", "cold_seconds"),
        *("single_bytes", "peak_bytes"),
    )

    values = partial(_values, measurements)
    summary: dict[str, Any] = {}
    for name, found in answers.items():
        summary[name] = {"accuracy": None, **found, "disk_bytes": sizes[name]}
        for length in WORDS:
            own: dict[str, Any] = {
                q: asdict(Spread.of(values(name, length, q))) for q in quantities
            }
            if REFERENCE in answers:
                own["times_pipeline"] = {
                    q: asdict(_times(values(name, length, q), values(REFERENCE, length, q), more))
                    for q, more in COMPARED.items()
                }
            summary[name][length] = own
    return summary


COMPARED = {
    "articles_per_second": True,
    **dict.fromkeys(("p50_ms", "cold_seconds", "single_bytes", "peak_bytes"), False),
}
"""What is compared with the pipeline -> whether more of it is better."""


def _times(own: Sequence[float], pipeline: Sequence[float], more: bool) -> Spread:
    """How many times better, by round."""
    return ratios(own, pipeline) if more else ratios(pipeline, own)


def _values(
    measurements: Sequence[Measurement], name: str, length: str, quantity: str
) -> list[float]:
    """Of one contender, a value for each round."""
    return [
        row[quantity]
        for row in measurements
        if row["contender"] == name and row["length"] == length
    ]


def chart(
    summary: Mapping[str, Any],
    contenders: Sequence[Contender],
    title: str,
    length: str,
    path: Path,
) -> None:
    """Accuracy against articles a second; those without an accuracy are left out."""
    points = {
        contender.name: (
            summary[contender.name][length]["articles_per_second"]["median"],
            summary[contender.name]["accuracy"],
            contender.own,
        )
        for contender in contenders
        if summary[contender.name]["accuracy"] is not None
    }
    draw_chart(points, title, path)


def render(
    summary: Mapping[str, Any],
    contenders: Sequence[Contender],
    limits: Sequence[Mapping[str, Any]],
    task: str,
) -> str:
    """Title and tables."""
    parts = [f"# The ladder and its peers: {task}\n"]
    for length in WORDS:
        rows = [_row(contender, summary[contender.name], length) for contender in contenders]
        header = (
            *("", "accuracy", "articles/s", "x pipeline", "of int8 peak", "p50 / p99, ms"),
            *("start, s", "memory, MB: one by one / bulk", "disk, MB"),
        )
        parts.append(f"## Texts of {length}\n\n{table(header, rows)}")
    if REFERENCE in summary:
        parts.append(f"## Times better than the pipeline\n\n{_comparison(summary, contenders)}")
    parts += [
        f"{name} passes {100 * found['passed_on']:.1f} % of the test articles on.\n"
        for name, found in summary.items()
        if "passed_on" in found
    ]
    int8, fp32, copying = (
        median(row[name] for row in limits)
        for name in ("int8_gops", "fp32_gops", "copy_gb_per_second")
    )
    parts.append(
        f"Medians (least–greatest); ratios are those of the same round. Accuracy: {task} of newsapi's test "
        "split. Start: from importing to the first answer.\n"
        f"This machine, measured in each round: int8 products {int8:,.0f} GOPS, fp32 {fp32:,.0f}, copying "
        f"{copying:.1f} GB/s. Of int8 peak: the products of a student's int8 weights alone, as a share of "
        "that.\n"
    )
    return "\n".join(parts)


def _comparison(summary: Mapping[str, Any], contenders: Sequence[Contender]) -> str:
    """A table of how many times better Newsie's are than the pipeline."""
    rows = []
    for contender in contenders:
        for length in WORDS if contender.own else ():
            times = summary[contender.name][length]["times_pipeline"]
            found = [Spread(**times[quantity]).text(1) for quantity in COMPARED]
            rows.append([contender.title, length, *found])
    header = (
        "",
        "texts of",
        "articles/s",
        "one text, p50",
        "start",
        "memory, one by one",
        "in bulk",
    )
    return table(header, rows)


def _row(contender: Contender, found: Mapping[str, Any], length: str) -> list[str]:
    own = found[length]

    def middle(name: str, unit: float = 1) -> float:
        return float(own[name]["median"]) / unit

    accuracy, share = found["accuracy"], own.get("int8_share")
    times = own.get("times_pipeline")
    return [
        contender.title,
        "" if accuracy is None else f"{100 * accuracy:.2f} %",
        Spread(**own["articles_per_second"]).text(0),
        "" if times is None else f"{times['articles_per_second']['median']:,.1f}",
        "" if share is None else f"{100 * share['median']:.1f} %",
        f"{middle('p50_ms'):.2f} / {middle('p99_ms'):.2f}",
        f"{middle('cold_seconds'):.2f}",
        f"{middle('single_bytes', 1e6):,.0f} / {middle('peak_bytes', 1e6):,.0f}",
        f"{found['disk_bytes'] / 1e6:,.1f}",
    ]


if __name__ == "__main__":
    run_command(main)
