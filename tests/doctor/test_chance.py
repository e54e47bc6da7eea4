"""What chance alone would show: drift, giveaways and suspects by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from newsie.doctor.dates import _middle, drift
from newsie.doctor.label_issues import _choose
from newsie.doctor.label_leakage import Giveaway, measure_giveaway


def test_drift_by_chance_is_what_99_of_100_orders_stay_below() -> None:
    # 200 of each of two labels, half of all before: the number of the first label before has the variance
    # 200 / 4 * 200 / 399 (hypergeometric), and the distance is |2 X - 200| / 200.
    deviation = 2 / 200 * (200 / 4 * 200 / 399) ** 0.5
    labels = np.arange(400) % 2
    distance, by_chance = drift(labels, 200, 2)
    assert distance == 0
    assert by_chance == pytest.approx(2.576 * deviation, rel=0.2)


def test_a_file_is_parted_where_the_date_changes() -> None:
    days = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    moments = [day for day, count in zip(days, (30, 50, 20), strict=True) for _ in range(count)]
    assert _middle(moments) == 30  # 50 would part the articles of the second day
    assert _middle(moments[30:80]) is None


def test_an_article_does_not_give_away_its_own_label() -> None:
    # Each publisher has one article of each label: the other one of it always has the other label.
    assert measure_giveaway(list("aabb"), list("xyxy")).accuracy == 0


@pytest.mark.parametrize(("by_chance", "tells"), [(0.5, True), (0.7, False)])
def test_what_chance_would_tell_too_is_no_giveaway(by_chance: float, tells: bool) -> None:
    # 0.8 removes 0.3 of 0.5 errors beyond the most frequent label, and 0.1 of 0.3 beyond chance.
    assert Giveaway(0.8, 0.5, by_chance, 0.4).tells is tells


def test_suspects_are_expected_to_be_wrong_more_often_than_not() -> None:
    probabilities = np.array([0.3, 0.9, 0.1, 0.6])
    # Means of the likeliest ones: 0.9, 0.75, 0.6 and then 0.475.
    assert _choose(probabilities, np.ones(4, bool)).tolist() == [1, 3, 0]
    assert _choose(probabilities, np.array([True, False, True, True])).tolist() == [3]
