from __future__ import annotations

import numpy as np
import pytest

from newsie.data.encoding import view_text
from newsie.errors import TrainingError
from newsie.labels import IGNORE
from newsie.metrics.baseline import BaselineConfig, fit_baseline, out_of_fold_probabilities
from tests.tiny import LABELS, tiny_articles

CLASSES = {task.name: len(task.labels) for task in LABELS.tasks}


def tiny_texts(count: int, seed: int) -> tuple[list[str], dict[str, np.ndarray]]:
    articles = tiny_articles(count, seed)
    return [view_text(article, "full") for article in articles], LABELS.encode(articles)


def test_learns_what_words_tell() -> None:
    baseline = fit_baseline(*tiny_texts(300, 0), CLASSES)
    texts, labels = tiny_texts(200, 1)
    answers = baseline.probabilities(texts)
    assert {task: answer.shape for task, answer in answers.items()} == {
        "section": (200, 3),
        "mood": (200, 2),
    }
    for answer in answers.values():
        np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-5)
    known = labels["section"] != IGNORE
    right = answers["section"].argmax(axis=1)[known] == labels["section"][known]
    assert right.mean() > 0.9
    # The mood is told by a "!", which is no word: nothing better than chance can be found in words.
    assert 0.3 < answers["mood"].argmax(axis=1).mean() < 0.7


def test_is_deterministic() -> None:
    texts, labels = tiny_texts(100, 0)
    first, second = (fit_baseline(texts, labels, CLASSES).probabilities(texts) for _ in range(2))
    for task, answer in first.items():
        np.testing.assert_array_equal(answer, second[task])


def test_label_without_texts_gets_nothing() -> None:
    texts, labels = tiny_texts(100, 0)
    labels["section"][labels["section"] == 1] = IGNORE
    answers = fit_baseline(texts, labels, CLASSES).probabilities(texts)
    assert answers["section"].shape == (100, 3)
    assert (answers["section"][:, 1] == 0).all()
    np.testing.assert_allclose(answers["section"].sum(axis=1), 1, rtol=1e-5)


def test_tasks_of_equal_rows_share_a_vectorizer() -> None:
    texts, labels = tiny_texts(100, 0)
    twin = {"section": labels["section"], "twin": labels["section"], "mood": labels["mood"]}
    baseline = fit_baseline(texts, twin, {**CLASSES, "twin": 3})
    assert baseline.vectorizers["twin"] is baseline.vectorizers["section"]
    assert baseline.vectorizers["mood"] is not baseline.vectorizers["section"]
    answers = baseline.probabilities(texts)
    np.testing.assert_array_equal(answers["twin"], answers["section"])


def test_keeps_the_most_frequent_features() -> None:
    texts, labels = tiny_texts(100, 0)
    baseline = fit_baseline(texts, labels, CLASSES, BaselineConfig(max_features=20))
    assert len(baseline.vectorizers["section"].vocabulary_) == 20


def test_a_task_needs_two_labels() -> None:
    texts, labels = tiny_texts(20, 0)
    labels["mood"][:] = IGNORE
    with pytest.raises(TrainingError, match="two labels or more in task 'mood'; given: 0"):
        fit_baseline(texts, labels, CLASSES)


def test_out_of_fold_answers_do_not_know_the_label_of_their_own_text() -> None:
    texts, labels = tiny_texts(300, 0)
    known = np.flatnonzero(labels["section"] != IGNORE)
    chosen, gold = [texts[i] for i in known], labels["section"][known]
    wrong = gold.copy()
    wrong[:5] = (gold[:5] + 1) % 3
    steps: list[tuple[int, int]] = []
    answer = out_of_fold_probabilities(
        chosen, wrong, 3, folds=4, progress=lambda done, total: steps.append((done, total))
    )
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-5)
    assert (answer.argmax(axis=1) == gold).mean() > 0.9
    assert (answer.argmax(axis=1)[:5] == gold[:5]).sum() >= 4
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    np.testing.assert_array_equal(answer, out_of_fold_probabilities(chosen, wrong, 3, folds=4))


def test_out_of_fold_gives_nothing_to_a_label_that_its_classifier_never_saw() -> None:
    texts = ["goal match"] * 4 + ["shares profit"] * 4 + ["comet reef"]
    labels = np.array([0] * 4 + [1] * 4 + [2])
    answer = out_of_fold_probabilities(texts, labels, 3, folds=2)
    assert answer[8, 2] == 0
    assert answer[8].sum() == pytest.approx(1)
