"""The baseline that a student must beat: TF-IDF of words and word pairs, and logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.errors import MissingExtraError, TrainingError
from newsie.labels import IGNORE

__all__ = [
    "Baseline",
    "BaselineConfig",
    "deal_folds",
    "fit_baseline",
    "out_of_fold_from_vectors",
    "out_of_fold_probabilities",
]


@dataclass(frozen=True)
class BaselineConfig:
    """The settings of the baseline; all published figures use the defaults.

    Attributes:
        max_features: how many of the most frequent words and word pairs are kept.
        min_articles: words and pairs in fewer articles are left out.
        longest_phrase: 2 also counts pairs of neighbouring words, 1 only words.
        inverse_penalty: scikit-learn's C; higher fits the training articles closer.
        tolerance: the solver stops when no weight changes by more than this share of the largest.
        max_iterations: the most passes over the texts.
        solver: scikit-learn's solver. On words, saga reaches the result of lbfgs in a tenth of the time; on a
            few hundred features lbfgs is faster.
        seed: seed of the order in which the solver visits the texts.
    """

    max_features: int = 300_000
    min_articles: int = 2
    longest_phrase: int = 2
    inverse_penalty: float = 20.0
    tolerance: float = 1e-3
    max_iterations: int = 200
    solver: str = "saga"
    seed: int = 0


@dataclass(frozen=True)
class Baseline:
    """A fitted classifier for each task.

    Attributes:
        vectorizers: task -> text to TF-IDF; tasks with the same articles share one.
        classifiers: task -> TF-IDF to probabilities of the labels in the training data.
        classes: task -> number of labels.
    """

    vectorizers: Mapping[str, Any]
    classifiers: Mapping[str, Any]
    classes: Mapping[str, int]

    def probabilities(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return probabilities by task, (N, C), rows summing to 1; 0 for labels without training articles."""
        matrices: dict[int, Any] = {}
        answers = {}
        for task, vectorizer in self.vectorizers.items():
            if id(vectorizer) not in matrices:
                matrices[id(vectorizer)] = vectorizer.transform(texts)
            classifier = self.classifiers[task]
            answer = np.zeros((len(texts), self.classes[task]), np.float32)
            answer[:, classifier.classes_] = classifier.predict_proba(matrices[id(vectorizer)])
            answers[task] = answer
        return answers


def fit_baseline(
    texts: Sequence[str],
    labels: Mapping[str, NDArray[np.int64]],
    classes: Mapping[str, int],
    config: BaselineConfig | None = None,
) -> Baseline:
    """Fit a classifier for each task on the texts that have a label for it. Deterministic.

    Args:
        texts: N texts of training articles, in the form that the models read.
        labels: (N,) class index by task; IGNORE for no label.
        classes: number of labels by task.
        config: the settings; None means the defaults.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        TrainingError: the texts of a task have fewer than two labels.
    """
    config = config or BaselineConfig()
    matrices: dict[bytes, tuple[Any, Any]] = {}
    vectorizers, classifiers = {}, {}
    for task, column in labels.items():
        known = column != IGNORE
        if (found := len(np.unique(column[known]))) < 2:
            raise TrainingError(
                f"the baseline needs texts of two labels or more in task {task!r}; given: {found}"
            )
        if (rows := known.tobytes()) not in matrices:
            vectorizer = _vectorizer(config)
            chosen = [texts[int(row)] for row in np.flatnonzero(known)]
            matrices[rows] = vectorizer, vectorizer.fit_transform(chosen)
        vectorizers[task], matrix = matrices[rows]
        classifiers[task] = _regression(config).fit(matrix, column[known])
    return Baseline(vectorizers, classifiers, dict(classes))


def out_of_fold_probabilities(
    texts: Sequence[str],
    labels: NDArray[np.int64],
    classes: int,
    *,
    folds: int = 5,
    config: BaselineConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Return probabilities (N, C) of each text by a classifier not fitted on it. Deterministic.

    The texts of each label are dealt to the folds at random. Document frequencies are counted on all texts,
    which needs no labels.

    Args:
        texts: N texts.
        labels: (N,) class index, none of them IGNORE, each with two texts or more.
        classes: number of labels.
        folds: the number of classifiers, each fitted on all texts but one fold.
        config: the settings; None means the defaults.
        progress: called with (folds fitted, all folds).

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    config = config or BaselineConfig()
    # float32 takes half the memory and time of float64; the probabilities differ in the 6th digit.
    matrix = _vectorizer(config).fit_transform(texts).astype(np.float32)
    return _out_of_fold(matrix, labels, classes, folds, config, progress)


def out_of_fold_from_vectors(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    *,
    folds: int = 5,
    config: BaselineConfig | None = None,
) -> NDArray[np.float32]:
    """Return probabilities as `out_of_fold_probabilities` does, from features (N, F), a few hundred at most.

    Every feature is standardised to mean 0 and variance 1 over all N.
    """
    scaled = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    config = replace(config or BaselineConfig(), solver="lbfgs")
    return _out_of_fold(scaled, labels, classes, folds, config, None)


def _out_of_fold(
    matrix: Any,
    labels: NDArray[np.int64],
    classes: int,
    folds: int,
    config: BaselineConfig,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    fold = deal_folds(labels, folds, config.seed)
    answer = np.zeros((len(labels), classes), np.float32)
    for number in range(folds):
        held_out = fold == number
        fitted = _regression(config).fit(matrix[~held_out], labels[~held_out])
        answer[np.ix_(held_out, fitted.classes_)] = fitted.predict_proba(matrix[held_out])
        if progress is not None:
            progress(number + 1, folds)
    return answer


def deal_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each article, (N,); the articles of each label are dealt to the folds at random."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def _regression(config: BaselineConfig) -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError("the baseline", "scikit-learn", "analysis") from error
    return LogisticRegression(
        C=config.inverse_penalty,
        solver=config.solver,
        tol=config.tolerance,
        max_iter=config.max_iterations,
        random_state=config.seed,
    )


def _vectorizer(config: BaselineConfig) -> Any:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise MissingExtraError("the baseline", "scikit-learn", "analysis") from error
    return TfidfVectorizer(
        ngram_range=(1, config.longest_phrase),
        sublinear_tf=True,
        max_features=config.max_features,
        min_df=config.min_articles,
    )
