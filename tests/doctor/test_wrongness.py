from __future__ import annotations

import numpy as np
import pytest

from newsie.doctor.label_issues import MIN_LABEL_ARTICLES, estimate_wrongness, find_suspects
from newsie.doctor.label_leakage import measure_giveaway
from tests.doctor.files import tiny_rows


def test_labels_of_few_articles_are_not_looked_at() -> None:
    rows = tiny_rows(120)
    texts = [f"{row['headline']} {row['body']}" for row in rows]
    labels: list[str | None] = [row["section"] for row in rows]
    labels[: MIN_LABEL_ARTICLES - 1] = ["rare"] * (MIN_LABEL_ARTICLES - 1)
    labels[10] = None
    suspects = find_suspects(texts, labels)
    assert suspects is not None
    assert suspects.labels == ("business", "science", "sports")
    left_out = {*range(MIN_LABEL_ARTICLES - 1), 10}
    assert set(suspects.looked_at.tolist()) == set(range(120)) - left_out


def test_the_best_answer_is_never_a_suspect() -> None:
    # Labels at random: whatever a classifier makes of them, its own best answer is none to be looked at.
    texts = [f"{row['headline']} {row['body']}" for row in tiny_rows(200)]
    random = np.random.default_rng(0)
    suspects = find_suspects(texts, [str(label) for label in random.choice(list("xyz"), 200)])
    assert suspects is not None
    assert len(suspects.chosen)
    best = suspects.answers.argmax(axis=1)
    assert (suspects.given[suspects.chosen] != best[suspects.chosen]).all()


def test_a_label_out_of_the_blue_may_be_right() -> None:
    # Two labels, and a classifier that knows nothing: half of the labels out of the blue are right, so that
    # no label is wrong with more than half the probability of being one.
    given = np.array([0, 1] * 50)
    even = estimate_wrongness(given, np.full((100, 2), 0.5, np.float32))
    assert even.probabilities.max() == pytest.approx(even.share / 2, abs=1e-6)
    sure = np.where(np.eye(2)[given] > 0, 0.999, 0.001).astype(np.float32)
    assert estimate_wrongness(given, sure).probabilities.max() < 0.01


def test_what_chance_tells_is_no_giveaway() -> None:
    # 50 publishers of 2 articles each, all of one label but 5: what each tells of the other article's label
    # is what shuffled labels would tell, too.
    random = np.random.default_rng(0)
    values = [f"publisher {number // 2}" for number in range(100)]
    labels = [str(label) for label in random.permutation(["a"] * 52 + ["b"] * 48)]
    found = measure_giveaway(values, labels)
    assert found.by_chance == pytest.approx(found.accuracy, abs=0.2)
    assert not found.tells
    telling = measure_giveaway(values, ["a", "a", "b", "b"] * 25)
    assert telling.accuracy == 1
    assert telling.tells
