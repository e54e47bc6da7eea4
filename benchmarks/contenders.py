"""The peers of Newsie's ladder: what is measured against it.

Each is fitted for one task of newsapi, on headline and body as Newsie cleans them. Newsie's students learnt
from these articles, too, and by their teacher from those of the other corpora of their recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distilbert import write_distilbert

__all__ = ["PEERS", "fit_peer"]

HEAD_ARTICLES = 20_000
"""Articles that the heads on frozen encoders are fitted on."""

STATIC_DIMENSIONS, SIF = 256, 1e-4
"""model2vec's own defaults: principal components kept, and the coefficient of its weighting."""

Fit = Callable[[Path, Sequence[str], Sequence[str]], None]


def fit_peer(name: str, folder: Path, texts: Sequence[str], labels: Sequence[str]) -> Path:
    """Fit a peer, unless the folder already holds it.

    Args:
        name: of PEERS.
        folder: of all peers.
        texts: N training texts.
        labels: N gold labels.
    """
    target = folder / name
    if not (target / "done").exists():
        target.mkdir(parents=True, exist_ok=True)
        PEERS[name](target, texts, labels)
        (target / "done").touch()
    return target


def _fit_pipeline(folder: Path, texts: Sequence[str], labels: Sequence[str]) -> None:
    """Random weights of the right shape: its speed is real, its answers mean nothing."""
    write_distilbert(folder)


def _fit_tfidf(folder: Path, texts: Sequence[str], labels: Sequence[str]) -> None:
    """The baseline of all published figures, see newsie.metrics.baseline."""
    import joblib

    from newsie.metrics.baseline import fit_baseline

    names = sorted(set(labels))
    index = np.array([names.index(label) for label in labels])
    baseline = fit_baseline(texts, {"task": index}, {"task": len(names)})
    classifier = baseline.classifiers["task"]
    classifier.classes_ = np.array(names)[classifier.classes_]
    joblib.dump((baseline.vectorizers["task"], classifier), folder / "model.joblib")


def _fit_fasttext(folder: Path, texts: Sequence[str], labels: Sequence[str]) -> None:
    import fasttext

    lines = (
        f"__label__{label} {' '.join(text.split()).lower()}\n"
        for text, label in zip(texts, labels, strict=True)
    )
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
    model = fasttext.train_supervised(
        str(folder / "train.txt"), wordNgrams=2, dim=100, epoch=5, lr=0.5, verbose=0
    )
    model.save_model(str(folder / "model.bin"))
    (folder / "train.txt").unlink()


def _fit_minilm(folder: Path, texts: Sequence[str], labels: Sequence[str]) -> None:
    from sentence_transformers import SentenceTransformer

    from newsie.training.encoder import encoder_directory

    encoder = encoder_directory("minilm")
    (folder / "encoder.txt").write_text(encoder, encoding="utf-8")
    model = SentenceTransformer(encoder, device="cpu", local_files_only=True)
    some = slice(None, HEAD_ARTICLES)
    _fit_head(folder, model.encode(list(texts[some]), show_progress_bar=False), labels[some])


def _fit_model2vec(folder: Path, texts: Sequence[str], labels: Sequence[str]) -> None:
    """model2vec's recipe (every token through the encoder, principal components, weights by rank), step by
    step, since its own function for it asks for an older transformers."""
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer
    from sklearn.decomposition import PCA
    from tokenizers import Tokenizer

    from newsie.training.encoder import encoder_directory

    encoder = encoder_directory("minilm")
    tokenizer = Tokenizer.from_file(str(Path(encoder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokens = [tokenizer.id_to_token(n) or "" for n in range(tokenizer.get_vocab_size())]
    model = SentenceTransformer(encoder, device="cpu", local_files_only=True)
    vectors = model.encode([token.removeprefix("##") for token in tokens], show_progress_bar=False)
    reduced = PCA(STATIC_DIMENSIONS, random_state=0).fit_transform(vectors)
    # Zipf's law stands for frequencies: the vocabulary is sorted by them.
    share = 1 / np.arange(2, len(tokens) + 2)
    weights = SIF / (SIF + share / share.sum())
    static = StaticModel((reduced * weights[:, None]).astype(np.float32), tokenizer)
    static.save_pretrained(folder / "vectors")
    some = slice(None, HEAD_ARTICLES)
    _fit_head(folder, static.encode(list(texts[some])), labels[some])


def _fit_head(folder: Path, vectors: Any, labels: Sequence[str]) -> None:
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    joblib.dump(head.fit(vectors, labels), folder / "head.joblib")


PEERS: Mapping[str, Fit] = {
    "pipeline": _fit_pipeline,
    "minilm": _fit_minilm,
    "model2vec": _fit_model2vec,
    "tfidf": _fit_tfidf,
    "fasttext": _fit_fasttext,
}
"""Name, which is that of a function in peers/contender.py too -> how it is fitted into a folder."""
