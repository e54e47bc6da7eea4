from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from newsie.confusion.comparison import compare
from newsie.confusion.predictions import Answers, read_answers
from newsie.errors import InputError


def answer(labels: str, best: list[int], gold: list[int] | None = None) -> Answers:
    p = np.full((len(best), len(labels)), 0.1 / (len(labels) - 1))
    p[np.arange(len(best)), best] = 0.9
    return read_answers(labels, p, gold)


def test_counts_by_hand() -> None:
    found = compare(answer("abc", [0, 0, 0, 1, 2]), answer("abc", [0, 1, 1, 1, 0]))
    assert found.counts.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]
    assert found.agreement.value == 2 / 5
    first, second = found.pairs
    assert (first.a, first.b, first.articles, first.of) == ("a", "b", 2, 3)
    assert first.share.value == pytest.approx(2 / 3)
    assert first.reverse is not None
    assert first.reverse.value == 0
    assert (second.a, second.b, second.of) == ("c", "a", 1)
    assert (found.accuracy, found.macro_f1, found.changes) == (None, None, ())


def test_label_sets_that_differ_are_compared_by_name() -> None:
    found = compare(answer("abx", [0, 1, 2]), answer("bya", [2, 0, 1]), names=("old", "new"))
    assert found.agreement.value == 2 / 3
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.reverse) == ("x", "y", None)


def test_metrics_and_changes_where_both_know_the_gold_labels() -> None:
    n = 300
    gold = [0] * n + [1] * n
    first = [0] * n + [0] * 90 + [1] * (n - 90)
    second = [0] * n + [0] * 30 + [1] * (n - 30)
    found = compare(answer("ab", first, gold), answer("ab", second, gold), kind="models")
    assert found.accuracy is not None
    assert found.macro_f1 is not None
    assert (found.accuracy.a, found.accuracy.b) == (510 / 600, 570 / 600)
    assert found.accuracy.difference.value == pytest.approx(-0.1)
    assert found.accuracy.difference.low < -0.1 < found.accuracy.difference.high < 0
    assert found.macro_f1.difference.value == pytest.approx(found.macro_f1.a - found.macro_f1.b)
    (change,) = found.changes
    assert (change.gold, change.predicted, change.a, change.b) == ("b", "a", 0.3, 0.1)
    assert change.difference.value == pytest.approx(0.2)
    assert 0 < change.difference.low < 0.2 < change.difference.high
    # 60 articles of one side only: of the two cells that differ, one is a right answer.
    assert change.q_value == pytest.approx(binomtest(0, 60).pvalue)


def test_a_difference_by_chance_is_no_change() -> None:
    gold = [0] * 50 + [1] * 50
    first, second = list(gold), list(gold)
    first[0], second[1] = 1, 1
    assert compare(answer("ab", first, gold), answer("ab", second, gold)).changes == ()


def test_two_draws_of_one_model_do_not_change() -> None:
    """14 labels; at 95 % a confusion, several of the 20 largest would be called a change."""
    random = np.random.default_rng(0)
    told = 0
    for _ in range(20):
        gold = random.integers(0, 14, 3_000)
        draws = [
            np.where(random.random(3_000) < 0.7, gold, random.integers(0, 14, 3_000)) for _ in "ab"
        ]
        answers = [answer("abcdefghijklmn", list(draw), list(gold)) for draw in draws]
        told += bool(compare(*answers).changes)
    assert told <= 3


def test_gold_labels_of_different_articles_are_not_compared() -> None:
    # As with broadsheet and tabloid: an article is labelled in one of them.
    one, two = answer("ab", [0, 1], [0, -100]), answer("ab", [1, 1], [-100, 1])
    assert compare(one, two).accuracy is None


def test_other_articles_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="old answers 2 articles and new 1"):
        compare(answer("ab", [0, 1]), answer("ab", [0]), names=("old", "new"))
