from __future__ import annotations

import numpy as np
import pytest

from newsie.confusion import label_issues as module
from newsie.confusion.label_issues import find_suspects
from newsie.confusion.predictions import Answers, read_answers


def flipped(articles: int = 900, flips: int = 45) -> tuple[Answers, set[int]]:
    """A sure model of 4 labels, one without articles; some gold labels turned from 0 to 1."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, articles)
    logits = random.normal(0, 0.5, (articles, 4))
    logits[np.arange(articles), truth] += 5
    p = np.exp(logits)
    wrong = np.flatnonzero(truth == 0)[:flips]
    gold = truth.copy()
    gold[wrong] = 1
    return read_answers("abcd", p / p.sum(axis=1, keepdims=True), gold), set(wrong.tolist())


def test_wrong_labels_are_found() -> None:
    answers, wrong = flipped()
    found = find_suspects(answers)
    # None but wrong ones, and most of these: cleanlab is careful.
    assert set(found.rows.tolist()) <= wrong
    assert len(found.rows) >= 0.6 * len(wrong)
    assert len(found.examined_rows) == 900
    assert found.crossing[0, 1] == found.crossing[1, 0] == len(found.rows)
    assert not found.crossing[3].any()


def test_evenly_spaced_articles_are_examined_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_EXAMINED", 300)
    answers, wrong = flipped()
    found = find_suspects(answers)
    assert len(found.examined_rows) == 300
    assert set(np.diff(found.examined_rows)) <= {3, 4}
    assert found.rows.size
    assert set(found.rows.tolist()) <= wrong


def test_one_label_alone_cannot_be_wrong() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert find_suspects(read_answers("ab", p, [0, 0])).rows.size == 0
