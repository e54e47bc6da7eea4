"""One contender of the ladder, measured in a process of its own:

    python contender.py KIND FOLDER TEXTS SINGLES SECONDS TASK

KIND is a function below, FOLDER what it loads, TEXTS a file with a JSON string a line, SINGLES how many of
them are classified one by one before they are at once, all or as many as take about SECONDS, TASK what
Newsie's are asked. Prints as JSON how long that took, and the labels.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

Classify = Callable[[Sequence[str]], list[str]]

MAX_TOKENS = 256  # as many as the bundled student reads
WARM_UP = 64
SHARES: dict[str, Callable[[], float]] = {}  # what else is told when all is done


def newsie(folder: Path) -> Classify:
    """A bundle: a student of the ladder, or a cascade; answers the task that is named last."""
    from newsie import Classifier

    classifier = Classifier.from_pretrained(folder)
    task = sys.argv[6]
    if classifier.passed_on is not None:
        SHARES["passed_on"] = lambda: classifier.passed_on.share if classifier.passed_on else 0.0

    def classify(texts: Sequence[str]) -> list[str]:
        pairs = classifier.classify_stream(texts, tasks=[task])
        return [prediction.label(task) for _, prediction in pairs]

    return classify


def pipeline(folder: Path) -> Classify:
    """transformers, DistilBERT in fp32, one by one, as the pipeline does it unless it is told otherwise."""
    from transformers import pipeline as make

    model = make("text-classification", model=str(folder), device="cpu")

    def classify(texts: Sequence[str]) -> list[str]:
        found = model(list(texts), truncation=True, max_length=MAX_TOKENS)
        return [answer["label"] for answer in found]

    return classify


def minilm(folder: Path) -> Classify:
    """sentence-transformers, MiniLM in fp32 with batches of its own, and a logistic regression."""
    import joblib
    from sentence_transformers import SentenceTransformer

    head = joblib.load(folder / "head.joblib")
    model = SentenceTransformer(
        (folder / "encoder.txt").read_text(encoding="utf-8"), device="cpu", local_files_only=True
    )
    model.max_seq_length = MAX_TOKENS

    def classify(texts: Sequence[str]) -> list[str]:
        return list(head.predict(model.encode(list(texts), show_progress_bar=False)))

    return classify


def model2vec(folder: Path) -> Classify:
    """Static vectors made from MiniLM, and a logistic regression."""
    import joblib
    from model2vec import StaticModel

    head = joblib.load(folder / "head.joblib")
    model = StaticModel.from_pretrained(folder / "vectors")

    def classify(texts: Sequence[str]) -> list[str]:
        return list(head.predict(model.encode(list(texts), max_length=MAX_TOKENS)))

    return classify


def fasttext(folder: Path) -> Classify:
    """fastText's own classifier, words and pairs of words."""
    import fasttext as library

    model = library.load_model(str(folder / "model.bin"))

    def classify(texts: Sequence[str]) -> list[str]:
        labels, _ = model.predict([" ".join(text.split()).lower() for text in texts])
        return [label.removeprefix("__label__") for (label,) in labels]

    return classify


def tfidf(folder: Path) -> Classify:
    """scikit-learn, TF-IDF of words and pairs of words, and a logistic regression."""
    import joblib

    vectorizer, classifier = joblib.load(folder / "model.joblib")

    def classify(texts: Sequence[str]) -> list[str]:
        return list(classifier.predict(vectorizer.transform(texts)))

    return classify


def read_texts(path: str, count: int | None = None) -> list[str]:
    """The first texts of the file, or all."""
    with Path(path).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in islice(lines, count)]


def peak_bytes() -> int:
    """The most memory that was resident so far; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main(kind: str, folder: str, path: str, singles: str, most_seconds: str, task: str) -> None:
    """Measure and print."""
    few = read_texts(path, max(1, int(singles)))
    started = time.perf_counter()
    classify: Classify = globals()[kind](Path(folder))
    classify(few[:1])
    cold_seconds = time.perf_counter() - started

    latencies = []
    for text in few[: int(singles)]:
        started = time.perf_counter()
        classify([text])
        latencies.append(1000 * (time.perf_counter() - started))
    single_bytes = peak_bytes()

    texts = read_texts(path, WARM_UP)
    started = time.perf_counter()
    classify(texts)
    rate = len(texts) / (time.perf_counter() - started)
    most = rate * float(most_seconds)
    texts = read_texts(path, None if math.isinf(most) else max(WARM_UP, int(most)))
    started, cpu_started = time.perf_counter(), time.process_time()
    labels = classify(texts)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    assert len(labels) == len(texts)

    report = {
        "articles": len(texts),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "cold_seconds": cold_seconds,
        "latencies_ms": latencies,
        "single_bytes": single_bytes,
        "labels": [str(label) for label in labels],
        **{name: share() for name, share in SHARES.items()},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
