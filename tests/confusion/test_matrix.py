from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from newsie.confusion.matrix import ConfusionMatrix
from newsie.errors import InputError

LABELS = ("news", "sport", "life")
#           read as: news sport life
COUNTS = np.array([[6, 1, 3], [0, 5, 0], [4, 0, 1]])
MATRIX = ConfusionMatrix(LABELS, COUNTS)


def test_counts_by_hand() -> None:
    found = ConfusionMatrix.from_labels(LABELS, [0, 0, 1, 2], [0, 2, 1, 0])
    assert found.counts.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert found.support.tolist() == [2, 1, 1]
    assert found.predicted.tolist() == [2, 1, 1]


def test_shares_by_hand() -> None:
    assert MATRIX.normalised()[0] == pytest.approx([0.6, 0.1, 0.3])
    assert MATRIX.normalised("predicted")[:, 0] == pytest.approx([0.6, 0.0, 0.4])
    empty = ConfusionMatrix(("a", "b"), np.array([[0, 0], [2, 0]]))
    assert np.isnan(empty.normalised()[0]).all()
    assert np.isnan(empty.normalised("predicted")[:, 1]).all()


def test_metrics_by_hand() -> None:
    news = MATRIX.label_metrics()[0]
    assert news.precision is not None
    assert news.recall is not None
    assert news.f1 is not None
    assert (news.support, news.predicted) == (10, 10)
    assert (news.precision.value, news.recall.value) == (0.6, 0.6)
    assert news.f1.value == pytest.approx(12 / 20)
    assert MATRIX.accuracy is not None
    assert MATRIX.accuracy.value == 12 / 20


def test_metrics_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    gold, predicted = random.integers(0, 6, 300), random.integers(0, 6, 300)
    found = ConfusionMatrix.from_labels("abcdef", gold, predicted)
    assert np.array_equal(found.counts, confusion_matrix(gold, predicted))
    theirs = precision_recall_fscore_support(gold, predicted)
    for ours, *values in zip(found.label_metrics(), *theirs, strict=True):
        assert ours.precision is not None
        assert ours.recall is not None
        assert ours.f1 is not None
        mine = [ours.precision.value, ours.recall.value, ours.f1.value, ours.support]
        assert mine == pytest.approx(values)


def test_the_interval_of_f1_is_that_of_a_bootstrap() -> None:
    random = np.random.default_rng(1)
    gold = random.choice(3, 600, p=[0.5, 0.3, 0.2])
    predicted = np.where(random.random(600) < 0.7, gold, random.integers(0, 3, 600))
    drawn = random.integers(0, 600, (2_000, 600))

    def f1(label: int) -> Any:
        y, p = gold[drawn] == label, predicted[drawn] == label
        return 2 * (y & p).sum(axis=1) / (y.sum(axis=1) + p.sum(axis=1))

    for label, found in enumerate(
        ConfusionMatrix.from_labels("abc", gold, predicted).label_metrics()
    ):
        assert found.f1 is not None
        low, high = np.quantile(f1(label), [0.025, 0.975])
        assert (found.f1.low, found.f1.high) == pytest.approx((low, high), abs=0.01)


def test_labels_that_do_not_occur_have_no_figures() -> None:
    found = ConfusionMatrix(("a", "b", "c"), np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]]))
    _, b, c = found.label_metrics()
    assert (b.precision, c.recall, c.f1) == (None, None, None)
    assert b.recall is not None
    assert b.recall.value == 0
    assert ConfusionMatrix(("a", "b"), np.zeros((2, 2), int)).accuracy is None


def test_the_most_confused_directions() -> None:
    first, second, third = MATRIX.most_confused()
    assert (first.gold, first.predicted, first.articles) == ("life", "news", 4)
    assert first.share.value == 0.8
    assert (second.gold, second.predicted, second.articles) == ("news", "life", 3)
    assert (third.gold, third.predicted, third.articles) == ("news", "sport", 1)
    assert MATRIX.most_confused(1) == (first,)
    assert ConfusionMatrix(("a", "b"), np.eye(2, dtype=int)).most_confused() == ()


@given(arrays(np.int64, (4, 4), elements=st.integers(0, 50)), st.permutations(range(4)))
def test_the_order_of_labels_does_not_matter(counts: Any, order: list[int]) -> None:
    labels = ("a", "b", "c", "d")
    one = ConfusionMatrix(labels, counts)
    other = ConfusionMatrix(tuple(labels[i] for i in order), counts[np.ix_(order, order)])
    assert set(one.most_confused()) == set(other.most_confused())
    assert set(one.label_metrics()) == set(other.label_metrics())
    assert one.accuracy == other.accuracy


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.zeros((2, 3), int), r"3 labels need \(3, 3\)"),
        (np.full((3, 3), 0.5), "whole and not below 0"),
        (np.full((3, 3), -1), "whole and not below 0"),
    ],
)
def test_counts_that_are_none(counts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConfusionMatrix(LABELS, counts)


def test_indices_that_are_no_labels() -> None:
    with pytest.raises(InputError, match="0 to 2"):
        ConfusionMatrix.from_labels(LABELS, [0, 3], [0, 0])
    with pytest.raises(InputError, match="must both be"):
        ConfusionMatrix.from_labels(LABELS, [0, 1], [0])
