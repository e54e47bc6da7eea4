"""Lift intervals and directions of an overlap."""

from __future__ import annotations

import numpy as np
import pytest

from newsie.confusion.overlap import find_overlap
from newsie.confusion.predictions import read_answers

LABELS = [f"label {number}" for number in range(6)]


def sample(seed: int, articles: int = 1_200) -> np.ndarray:
    """Articles of six labels whose rest falls to the others at random: all lifts are 1."""
    random = np.random.default_rng(seed)
    first = np.arange(articles) % 6
    p = random.gamma(2.0, size=(articles, 6))
    p[np.arange(articles), first] = 0
    p *= 0.4 / p.sum(axis=1, keepdims=True)
    p[np.arange(articles), first] = 0.6
    return p


def test_a_lift_is_as_many_times_its_lower_bound_as_the_upper_is_its_own() -> None:
    overlap = find_overlap(read_answers(LABELS, sample(0)))
    assert overlap is not None
    for pair in overlap.pairs:
        assert 0 < pair.lift.low < pair.lift.value < pair.lift.high
        assert pair.lift.low * pair.lift.high == pytest.approx(pair.lift.value**2)


def test_intervals_of_lifts_hold_the_truth_in_about_95_of_100_cases() -> None:
    held = []
    for seed in range(30):
        overlap = find_overlap(read_answers(LABELS, sample(seed)))
        assert overlap is not None
        held += [pair.lift.low <= 1 <= pair.lift.high for pair in overlap.pairs]
    assert len(held) == 30 * 15
    assert 0.9 < np.mean(held) < 0.99


def test_each_direction_has_its_own_share_and_articles_count_both_ways() -> None:
    # What articles read as the first label give to others goes to the second alone; the second gives
    # three quarters to the first, and the rest to the third.
    one = [0.6, 0.4, 0, 0, 0, 0]
    two = [0.3, 0.6, 0.1, 0, 0, 0]
    others = [np.roll([0.6, 0.2, 0.1, 0.1, 0, 0], shift) for shift in range(2, 6)]
    p = np.array([one, one, two, *others] * 40)
    overlap = find_overlap(read_answers(LABELS, p))
    assert overlap is not None
    pair = overlap.find("label 0", "label 1")
    assert pair is not None
    shares = dict(zip(pair.labels, pair.shares, strict=True))
    assert shares == pytest.approx({"label 0": 1.0, "label 1": 0.75})
    assert pair.mass == pytest.approx(40 * (2 * 0.4 + 0.3))
    assert pair.articles == 80 + 40  # of whose best two labels these are
