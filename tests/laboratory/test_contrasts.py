from __future__ import annotations

import math

import numpy as np
import pytest

from newsie.labels import IGNORE
from newsie.laboratory.contrasts import contrast, estimate, measured

GOLD = {"section": np.arange(400) % 4, "mood": np.where(np.arange(400) % 2, IGNORE, 0)}


def answers(wrong: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Answers of which some, drawn at random, are wrong."""
    section = GOLD["section"].copy()
    chosen = np.random.default_rng(seed).permutation(400)[:wrong]
    section[chosen] = (section[chosen] + 1) % 4
    return {"section": section, "mood": np.zeros(400, np.int64)}


def test_tasks_are_averaged_over_the_articles_that_answer_them() -> None:
    values = measured([answers(100)], GOLD, "accuracy")
    assert values.shape == (1, 41)
    assert values[0, 0] == pytest.approx((0.75 + 1) / 2)
    # Each block of 10 articles left out leaves 390.
    assert values[0, 1:].mean() == pytest.approx(values[0, 0], abs=1e-3)


def test_an_interval_adds_the_variance_of_seeds_and_of_articles() -> None:
    gold = {"section": GOLD["section"]}
    # No variance between seeds: what is left is the standard error of a share, 0.25 * 0.75 / 400.
    alike = estimate(measured([answers(100)] * 3, gold, "accuracy"))
    assert alike.high - alike.value == pytest.approx(1.96 * math.sqrt(0.25 * 0.75 / 400), rel=0.25)
    # None between articles: Student's interval of 0.7, 0.8 and 0.9, 4.303 * 0.1 / sqrt(3).
    values = np.repeat([[0.7], [0.8], [0.9]], 41, axis=1)
    found = estimate(values)
    assert found.value == pytest.approx(0.8)
    assert found.high - found.value == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)


def test_one_seed_settles_nothing() -> None:
    one = measured([answers(10)], GOLD, "accuracy")
    other = measured([answers(300)], GOLD, "accuracy")
    found = contrast(("a", "b"), one, other, "accuracy")
    assert found.verdict == "too close to call"
    assert found.p == 1


def test_verdicts_and_the_paired_test() -> None:
    good, bad = (
        measured([answers(wrong + 2 * s, s) for s in range(4)], GOLD, "accuracy")
        for wrong in (20, 160)
    )
    better, worse = (
        contrast(("a", "b"), good, bad, "accuracy"),
        contrast(("b", "a"), bad, good, "accuracy"),
    )
    assert (better.verdict, worse.verdict) == ("holds", "does not hold")
    assert (better.wins, worse.wins, better.seeds) == (4, 0, 4)
    assert better.difference.value == pytest.approx(-worse.difference.value) == pytest.approx(0.175)
    assert better.p < 0.001
    same = contrast(("a", "a"), good, good, "accuracy")
    assert (same.verdict, same.p) == ("too close to call", 1.0)


def test_p_by_hand() -> None:
    # Differences 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.464 with 2 degrees of freedom, p = 0.0742.
    first = np.array([[1.0] * 3, [2.0] * 3, [3.0] * 3])
    assert contrast(("a", "b"), first, 0 * first, "accuracy").p == pytest.approx(0.0742, abs=1e-4)


def test_few_blocks_of_articles_are_trusted_less() -> None:
    # Two blocks: Student's quantile of one degree of freedom, 12.706, in place of 1.96.
    values = np.array([[0.5, 0.49, 0.51], [0.5, 0.49, 0.51]])
    deviation = math.sqrt(0.5 * (0.01**2 + 0.01**2))  # (B - 1) / B * sum of squares
    found = estimate(values)
    assert found.high - found.value == pytest.approx(12.706 * deviation, rel=1e-3)
