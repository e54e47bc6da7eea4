"""One contender of the ladder, measured in a process of its own:

    python contender.py KIND FOLDER TEXTS SINGLES

KIND is a function below, FOLDER what it loads, TEXTS a JSON list that is classified at once, SINGLES how many
of them are then classified one by one. Prints as JSON how long that took, and the labels.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Classify = Callable[[Sequence[str]], list[str]]

MAX_TOKENS = 256  # as many as the bundled student reads
TASK = "section"


def newsie(folder: Path) -> Classify:
    """A bundle: a student of the ladder, or a cascade."""
    from newsie import Classifier

    classifier = Classifier.from_pretrained(folder)

    def classify(texts: Sequence[str]) -> list[str]:
        pairs = classifier.classify_stream(texts, tasks=[TASK])
        return [prediction.label(TASK) for _, prediction in pairs]

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


def main(kind: str, folder: str, texts_path: str, singles: str) -> None:
    """Measure and print."""
    started = time.perf_counter()
    texts = json.loads(Path(texts_path).read_text(encoding="utf-8"))
    classify: Classify = globals()[kind](Path(folder))
    classify(texts[:1])
    cold_seconds = time.perf_counter() - started
    classify(texts[:64])  # to warm up

    started, cpu_started = time.perf_counter(), time.process_time()
    labels = classify(texts)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    assert len(labels) == len(texts)

    latencies = []
    for text in texts[: int(singles)]:
        started = time.perf_counter()
        classify([text])
        latencies.append(1000 * (time.perf_counter() - started))
    report = {
        "articles": len(texts),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "cold_seconds": cold_seconds,
        "latencies_ms": latencies,
        "labels": [str(label) for label in labels],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
