from __future__ import annotations

import numpy as np
import pytest

from newsie.confusion.reliability import calibration, find_threshold
from newsie.errors import InputError
from newsie.metrics.evaluation import expected_calibration_error


def test_the_error_is_that_of_newsie_evaluation() -> None:
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(5), 400)
    gold = random.integers(0, 5, 400)
    found = calibration(p.max(axis=1), p.argmax(axis=1) == gold)
    assert found.expected_calibration_error == pytest.approx(expected_calibration_error(p, gold))
    assert [b.articles for b in found.bins] == [27] * 10 + [26] * 5
    assert sum(b.articles for b in found.bins) == 400


def test_bins_by_hand() -> None:
    found = calibration([0.9, 0.6, 0.8], [True, False, True])
    assert [(b.articles, b.confidence, b.accuracy.value) for b in found.bins] == [
        (1, 0.6, 0.0),
        (1, 0.8, 1.0),
        (1, 0.9, 1.0),
    ]
    assert found.expected_calibration_error == pytest.approx((0.6 + 0.2 + 0.1) / 3)


def test_the_order_of_articles_that_are_as_sure_does_not_matter() -> None:
    """1,000 articles of .8, as they may come: first all that are right."""
    for right in (np.arange(1_000) < 800, np.arange(1_000) % 5 > 0):
        found = calibration(np.full(1_000, 0.8), right)
        assert [(b.articles, b.accuracy.value) for b in found.bins] == [(1_000, 0.8)]
        assert found.expected_calibration_error == pytest.approx(0)
        assert [p.accuracy for p in found.risk_coverage] == pytest.approx([0.8] * 100)


def test_bins_are_cut_between_different_confidences() -> None:
    found = calibration(np.repeat([0.5, 0.6, 0.7], [70, 10, 70]), np.ones(150, bool))
    assert [b.articles for b in found.bins] == [70, 10, 70]
    assert [b.confidence for b in found.bins] == pytest.approx([0.5, 0.6, 0.7])


def test_coverage_by_hand() -> None:
    found = calibration([0.9, 0.6, 0.8, 0.7], [True, True, False, True]).risk_coverage
    assert [(p.coverage, p.threshold, p.accuracy) for p in found] == [
        (0.25, 0.9, 1.0),
        (0.5, 0.8, 0.5),
        (0.75, 0.7, pytest.approx(2 / 3)),
        (1.0, 0.6, 0.75),
    ]


def test_a_threshold_by_hand() -> None:
    # 200 articles, the surest 100 all right: with 0 errors of n the bound is alpha ** (1 / n).
    confidence = np.linspace(1, 0.5, 200)
    found = find_threshold(confidence, np.arange(200) < 100, 0.9, coverages=(0.5, 1.0))
    assert found.threshold == pytest.approx(confidence[99])
    assert (found.coverage, found.precision) == (0.5, 1.0)
    assert found.lower == pytest.approx(0.025 ** (1 / 100))


def test_articles_that_are_as_sure_stay_together() -> None:
    confidence = np.repeat([0.9, 0.6], 100)
    found = find_threshold(confidence, np.arange(200) < 100, 0.9, coverages=(0.25,))
    assert found.coverage == 0.5


def test_no_threshold_can_be_promised_from_few_articles() -> None:
    found = find_threshold([0.9] * 10, [True] * 10, 0.99)
    assert (found.threshold, found.coverage, found.precision, found.lower) == (None, 0, None, None)


def test_what_is_promised_holds_for_other_articles() -> None:
    """Calibrated answers; the wanted precision is missed in at most 5 % of the searches."""
    missed = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        confidence = random.uniform(0.3, 1, 1_000)
        found = find_threshold(confidence, random.random(1_000) < confidence, 0.85)
        if found.threshold is not None:
            missed += (found.threshold + 1) / 2 < 0.85  # the true precision above the threshold
    assert missed <= 10


@pytest.mark.parametrize("wanted", [0, 1, 1.5])
def test_a_precision_that_is_none(wanted: float) -> None:
    with pytest.raises(InputError, match="give a share below 1"):
        find_threshold([0.5], [True], wanted)


def test_shapes() -> None:
    with pytest.raises(InputError, match="with N above 0"):
        calibration([], [])
    with pytest.raises(InputError, match="must both be"):
        calibration([0.5], [True, False])
