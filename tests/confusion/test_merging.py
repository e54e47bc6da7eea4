from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from newsie.confusion.merging import merge_pair, tally
from newsie.confusion.predictions import Answers, read_answers


def answers(seed: int = 0) -> Answers:
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(5, 0.5), 400)
    gold = np.where(random.random(400) < 0.6, p.argmax(axis=1), random.integers(0, 5, 400))
    gold[:20] = -100
    return read_answers("abcde", p, gold)


def test_merging_by_hand() -> None:
    p = np.array([[0.4, 0.3, 0.3], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7], [0.1, 0.1, 0.8]])
    # a, b, b, c are read as a, c, c, c; as "a or b" the first two are right, the third is not.
    found = merge_pair(read_answers("abc", p, [0, 1, 1, 2]), 0, 1, (p[:, 0] + p[:, 1]).astype("f4"))
    assert (found.accuracy_before, found.accuracy_after) == (0.5, 0.75)
    assert found.macro_f1_before == pytest.approx((1 + 0 + 2 / 4) / 3)
    assert found.macro_f1_after == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found.f1_before == pytest.approx((1, 0))
    assert found.f1_after == pytest.approx(4 / 5)
    assert found.gain.value == pytest.approx(4 / 5 - 1)


@pytest.mark.parametrize("pair", [(0, 1), (3, 1), (2, 4)])
def test_merging_is_adding_up_columns(pair: tuple[int, int]) -> None:
    a, b = pair
    given = answers()
    rows = given.labelled
    p, gold = given.probabilities[rows].copy(), given.gold[rows].copy()
    before = f1_score(gold, p.argmax(axis=1), average="macro")
    alone = f1_score(gold, p.argmax(axis=1), average=None)[list(pair)]
    p[:, a] += p[:, b]
    p[:, b] = 0
    gold[gold == b] = a
    columns = given.columns(pair)
    found = merge_pair(given, a, b, columns[0] + columns[1])
    assert found.macro_f1_before == pytest.approx(before)
    assert found.macro_f1_after == pytest.approx(f1_score(gold, p.argmax(axis=1), average="macro"))
    assert found.accuracy_after == pytest.approx((p.argmax(axis=1) == gold).mean())
    together = f1_score(gold == a, p.argmax(axis=1) == a)
    assert found.f1_before == pytest.approx(alone)
    assert found.f1_after == pytest.approx(together)
    assert found.gain.value == pytest.approx(together - max(alone))


def test_intervals_stay_within_what_is_possible() -> None:
    # One block alone has no interval but the whole range.
    p = np.array([[0.5, 0.3, 0.2]])
    given = read_answers("abc", p, [0])
    found = merge_pair(given, 0, 1, (p[:, 0] + p[:, 1]).astype("f4"))
    assert (found.gain.low, found.gain.high) == (-1, 1)
    alone = tally(given.gold, given.predicted, given.blocks, 3).macro_f1
    assert (alone.value, alone.low, alone.high) == (1, 0, 1)


def test_the_interval_is_that_of_a_bootstrap() -> None:
    random = np.random.default_rng(3)
    n = 4_000
    gold = random.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    predicted = np.where(random.random(n) < 0.7, gold, random.integers(0, 4, n))
    found = tally(gold, predicted, np.arange(n) % 40, 4).macro_f1
    draws = [
        f1_score(gold[rows], predicted[rows], average="macro")
        for rows in random.integers(0, n, (300, n))
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.35)
    assert low < found.value < high
