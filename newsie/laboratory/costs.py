"""The cost of a student: the size of its int8 form and its speed, which do not depend on its weights."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from newsie.bundles.bundle import write_bundle
from newsie.data.articles import Article
from newsie.data.encoding import Encoder
from newsie.graph.quantize import quantize_int8
from newsie.inference.classifier import Classifier
from newsie.training.export import export_onnx
from newsie.training.model import MultiTaskModel

__all__ = ["COST_ARTICLES", "Cost", "measure_cost"]

COST_ARTICLES = 200
"""The number of test articles that a student is timed on."""

REPEATS = 3
"""The number of rounds over the articles. The fastest counts, since other processes only slow one down."""


@dataclass(frozen=True)
class Cost:
    """The cost of a student, in int8, on the current machine.

    Attributes:
        parameters: number of weights.
        megabytes: size of the int8 graph, in 10^6 bytes.
        milliseconds: median time to classify a single article.
        articles_per_second: speed on many articles at a time.
        threads: number of threads that it may use.
    """

    parameters: int
    megabytes: float
    milliseconds: float
    articles_per_second: float
    threads: int


def measure_cost(
    student: MultiTaskModel, encoder: Encoder, articles: Sequence[Article], *, threads: int = 1
) -> Cost:
    """Export a student to int8, and measure its size and speed.

    Args:
        student: a student of the architecture to measure.
        encoder: its tokenizer and policy.
        articles: the articles to classify.
        threads: number of threads that it may use.
    """
    with tempfile.TemporaryDirectory() as scratch:
        exact, int8 = Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"
        export_onnx(student.cpu(), exact)
        quantize_int8(exact, int8)
        bundle = write_bundle(
            Path(scratch) / "draft",
            name="draft",
            label_space=student.labels,
            encoding=encoder.policy,
            calibration=dict.fromkeys(student.labels.names, 1.0),
            model=int8,
            tokenizer=encoder.tokenizer.to_str(),
            card="",
        )
        classifier = Classifier.from_pretrained(bundle.path, threads=threads)
        classifier.classify(articles)  # warm up
        alone = [_seconds_alone(classifier, articles) for _ in range(REPEATS)]
        together = [_seconds_together(classifier, articles) for _ in range(REPEATS)]
        return Cost(
            sum(p.numel() for p in student.parameters()),
            int8.stat().st_size / 1e6,
            1e3 * min(alone),
            len(articles) / min(together),
            threads,
        )


def _seconds_alone(classifier: Classifier, articles: Sequence[Article]) -> float:
    times = []
    for article in articles:
        started = time.perf_counter()
        classifier.classify([article])
        times.append(time.perf_counter() - started)
    return median(times)


def _seconds_together(classifier: Classifier, articles: Sequence[Article]) -> float:
    started = time.perf_counter()
    classifier.classify(articles)
    return time.perf_counter() - started
