from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.confusion.predictions import read_answers
from newsie.confusion.soft import soft_confusion

LABELS = ("a", "b", "c")
P = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.4, 0.5, 0.1]])


def test_means_by_hand() -> None:
    found = soft_confusion(read_answers(LABELS, P, [0, 0, 1, -100]))
    assert found.rows == "gold"
    assert found.mean[0] == pytest.approx([0.6, 0.3, 0.1])
    assert found.mean[1] == pytest.approx([0.1, 0.8, 0.1])
    assert np.isnan(found.mean[2]).all()
    assert found.support.tolist() == [2, 1, 0]
    # .7 and .5: deviation .1414, error .1
    assert found.standard_error[0] == pytest.approx([0.1, 0.1, 0.0], abs=1e-8)
    assert np.isnan(found.standard_error[1:]).all()


def test_without_gold_labels_the_label_got_is_the_row() -> None:
    found = soft_confusion(read_answers(LABELS, P))
    assert found.rows == "predicted"
    assert found.support.tolist() == [2, 2, 0]
    assert found.mean[1] == pytest.approx([0.25, 0.65, 0.1])


def test_directions_by_hand() -> None:
    pairs = soft_confusion(read_answers(LABELS, P, [0, 0, 1, 1])).most_confused()
    assert [(p.row, p.column) for p in pairs] == [("a", "b"), ("b", "a"), ("a", "c"), ("b", "c")]
    assert [p.probability.value for p in pairs] == pytest.approx([0.3, 0.25, 0.1, 0.1])
    assert pairs[0].probability.low == pytest.approx(0.3 - 1.96 * 0.1, abs=1e-4)
    assert soft_confusion(read_answers(LABELS, P)).most_confused(1)[0].row == "a"


def test_intervals_are_cut_to_probabilities() -> None:
    found = soft_confusion(read_answers(LABELS, P, [0, 0, 1, 1])).estimate(0, 0)
    assert found.high == pytest.approx(0.796, abs=1e-3)
    wide = np.array([[0.98, 0.01, 0.01], [0.4, 0.3, 0.3]])
    assert soft_confusion(read_answers(LABELS, wide, [0, 0])).estimate(0, 0).high == 1


@given(st.integers(0, 1_000), st.permutations(range(4)))
def test_the_order_of_labels_does_not_matter(seed: int, order: list[int]) -> None:
    random = np.random.default_rng(seed)
    p, gold = random.dirichlet(np.ones(4), 30), random.integers(-1, 4, 30)
    moved = np.where(gold < 0, -100, np.argsort(order)[gold])
    one = soft_confusion(read_answers("abcd", p, np.where(gold < 0, -100, gold)))
    other = soft_confusion(read_answers("abcd", p[:, order], moved))
    assert other.mean == pytest.approx(one.mean[np.ix_(order, order)], nan_ok=True)
    assert other.standard_error == pytest.approx(
        one.standard_error[np.ix_(order, order)], nan_ok=True
    )
