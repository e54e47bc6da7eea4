"""Newsie's ladder of students and its peers: speed beside accuracy, in one run.

    python -m benchmarks.ladder --data DIR --rung default=BUNDLE --rung nano=BUNDLE --rung cascade=BUNDLE

Every contender is fitted on the same training articles (Newsie's bundles were, by their recipe) and measured
in a process of its own: texts of 50 and of 250 tokens in bulk, one text at a time, start, memory, size, and
accuracy on newsapi's test split for the task section. The contenders take turns. The extra `bench` installs
the peers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chart import draw_chart
from benchmarks.contenders import PEERS, fit_peer
from benchmarks.limits import measure_limits
from benchmarks.processes import run
from benchmarks.report import RESULTS, Spread, circumstances, ratios, table, write_report
from benchmarks.sides import positive
from newsie.bundle import bundled_path
from newsie.data.articles import Article
from newsie.data.encoding import view_text
from newsie.data.readers import ArticleReader
from newsie.labels import LabelRule

SCRIPT = Path(__file__).parent / "peers" / "contender.py"
WORDS = {"50 tokens": 38, "250 tokens": 190}
"""Lengths in bulk; English news has about 1.3 pieces a word."""

SLOW = {"pipeline": 40, "minilm": 10}
"""Contenders that get only one of so many texts: their rate is the same, and the run ends today."""

REFERENCE = "pipeline"
TASK = "section"
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
    limits = measure_limits()
    train, test = _labelled(options, "train"), _labelled(options, "test")
    with tempfile.TemporaryDirectory() as scratch:
        contenders = [*_rungs(options.rung), *_peers(options, train, Path(scratch))]
        texts = {name: _texts(test, words, options.articles) for name, words in WORDS.items()}
        measurements = [
            measure(contender, name, some, number, Path(scratch), options.singles)
            for number in range(1, options.rounds + 1)
            for name, some in texts.items()
            for contender in contenders
        ]
        accuracy = {c.name: measure_accuracy(c, test, Path(scratch)) for c in contenders}
        sizes = {c.name: _size(c.folder) for c in contenders}
    summary = summarise(measurements, accuracy, sizes)
    report |= {
        "sides": {"all": {"packages": _versions()}},
        "lengths": list(WORDS),
        "limits": limits,
        "articles": {"train": len(train), "test": len(test), "bulk": options.articles},
        "summary": summary,
        "measurements": measurements,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    for length in WORDS:
        chart(summary, contenders, length, options.results / f"ladder-{length.split()[0]}.svg")
    write_report(options.results, report, render(summary, contenders, limits))


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
    parser.add_argument("--peer", action="append", choices=PEERS, help="only these [all]")
    parser.add_argument("--fitted", type=Path, help="folder that keeps fitted peers [none]")
    parser.add_argument("--articles", type=positive, default=20_000, help="in bulk [20000]")
    parser.add_argument("--training", type=positive, help="training articles of the peers [all]")
    parser.add_argument("--test", type=positive, help="test articles [all]")
    parser.add_argument("--singles", type=positive, default=200, help="one by one [200]")
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
    labels = [article.labels[TASK] for article in train]
    folder = options.fitted or scratch
    return [
        Contender(name, name, fit_peer(name, folder, texts, labels))
        for name in options.peer or PEERS
    ]


def _labelled(options: argparse.Namespace, split: str) -> list[Article]:
    """The articles of newsapi that have a section, in an order of chance."""
    reader = ArticleReader(
        options.data / "newsapi" / f"{split}.parquet", rules={TASK: LabelRule(TASK)}
    )
    found = [article for article in reader if TASK in article.labels]
    random.Random(0).shuffle(found)
    return found[: options.training if split == "train" else options.test]


def _texts(articles: Iterable[Article], words: int, count: int) -> list[str]:
    """Texts of exactly so many words, cut from the articles end to end, again if need be."""
    stream = [word for a in articles for word in f"{a.headline} {a.body}".split()]
    starts = np.arange(count) * words % max(1, len(stream) - words)
    return [" ".join(stream[start : start + words]) for start in starts.tolist()]


def measure(
    contender: Contender, length: str, texts: list[str], number: int, scratch: Path, singles: int
) -> Measurement:
    """One process: start, bulk, one by one."""
    some = texts[:: SLOW.get(contender.kind, 1)]
    found = _run(contender, some, scratch, min(singles, len(some)))
    del found["labels"]
    rate = found["articles"] / found["seconds"]
    print(f"round {number}, {contender.name}, {length}: {rate:,.1f} articles/s", file=sys.stderr)
    return {
        "contender": contender.name,
        "length": length,
        "round": number,
        "articles_per_second": rate,
        "p50_ms": float(np.percentile(found["latencies_ms"], 50)),
        "p99_ms": float(np.percentile(found["latencies_ms"], 99)),
        **found,
    }


def measure_accuracy(contender: Contender, test: Sequence[Article], scratch: Path) -> float | None:
    """Share of the test articles that get their gold label; None where answers mean nothing."""
    if contender.kind == REFERENCE:
        return None
    texts = [view_text(article, "full") for article in test]
    labels = _run(contender, texts, scratch, 1)["labels"]
    return float(np.mean([a == b.labels[TASK] for a, b in zip(labels, test, strict=True)]))


def _run(contender: Contender, texts: list[str], scratch: Path, singles: int) -> Measurement:
    path = scratch / "texts.json"
    path.write_text(json.dumps(texts), encoding="utf-8")
    command = [contender.kind, str(contender.folder), str(path), str(singles)]
    done = run([sys.executable, str(SCRIPT), *command])
    found: Measurement = json.loads(done.output.splitlines()[-1])
    return {**found, "peak_bytes": done.peak_bytes}


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
        *("newsie", "onnxruntime", "tokenizers", "numpy", "torch", "transformers"),
        *("sentence-transformers", "model2vec", "fasttext-numpy2", "scikit-learn"),
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def summarise(
    measurements: Sequence[Measurement],
    accuracy: Mapping[str, float | None],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """Spreads by contender and length, and ratios to the pipeline in the same round."""
    quantities = ("articles_per_second", "p50_ms", "p99_ms", "cold_seconds", "peak_bytes")

    def values(name: str, length: str, quantity: str) -> list[float]:
        return [
            row[quantity]
            for row in measurements
            if row["contender"] == name and row["length"] == length
        ]

    summary: dict[str, Any] = {}
    for name in accuracy:
        summary[name] = {"accuracy": accuracy[name], "disk_bytes": sizes[name]}
        for length in WORDS:
            own = {q: asdict(Spread.of(values(name, length, q))) for q in quantities}
            if REFERENCE in accuracy:
                rates = [values(n, length, "articles_per_second") for n in (name, REFERENCE)]
                own["times_pipeline"] = asdict(ratios(*rates))
            summary[name][length] = own
    return summary


def chart(
    summary: Mapping[str, Any], contenders: Sequence[Contender], length: str, path: Path
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
    draw_chart(points, f"Sections of newsapi, texts of {length}", path)


def render(
    summary: Mapping[str, Any], contenders: Sequence[Contender], limits: Mapping[str, float]
) -> str:
    """Title and tables."""
    parts = ["# The ladder and its peers\n"]
    for length in WORDS:
        rows = [_row(contender, summary[contender.name], length) for contender in contenders]
        header = (
            *("", "accuracy", "articles/s", "x pipeline", "p50 / p99, ms", "start, s"),
            *("memory, MB", "disk, MB"),
        )
        parts.append(f"## Texts of {length}\n\n{table(header, rows)}")
    parts.append(
        "Medians (least–greatest); ratios are those of the same round. Accuracy: sections of newsapi's test "
        "split. Start: from importing to the first answer.\n"
        f"This machine: int8 products {limits['int8_gops']:,.0f} GOPS, fp32 {limits['fp32_gops']:,.0f}, "
        f"copying {limits['copy_gb_per_second']:.1f} GB/s.\n"
    )
    return "\n".join(parts)


def _row(contender: Contender, found: Mapping[str, Any], length: str) -> list[str]:
    own = {name: Spread(**spread) for name, spread in found[length].items()}
    accuracy = found["accuracy"]
    times = own.get("times_pipeline")
    return [
        contender.title,
        "" if accuracy is None else f"{100 * accuracy:.1f} %",
        own["articles_per_second"].text(0),
        "" if times is None else f"{times.median:,.1f}",
        f"{own['p50_ms'].median:.2f} / {own['p99_ms'].median:.2f}",
        f"{own['cold_seconds'].median:.2f}",
        f"{own['peak_bytes'].median / 1e6:,.0f}",
        f"{found['disk_bytes'] / 1e6:,.1f}",
    ]


if __name__ == "__main__":
    main()
