"""Bounds of the verdict on a pair of labels: the values on each side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from newsie.confusion.merging import Merge
from newsie.confusion.pairs import Evidence, _advice, _scarce, _separability
from newsie.metrics.estimates import Estimate
from tests.confusion.test_pairs import EASY, analyse_rows, pair_of

EVIDENCE = Evidence(
    suspect=0,
    shared=20,
    neither=0,
    examined=20,
    crossing=0.0,
    expected=20.0,
    separability=0.9,
    a_as_b=Estimate(0.6, 0.5, 0.7),
    b_as_a=Estimate(0.02, 0.01, 0.03),
    support=(30, 300),
    predicted=(20, 300),
    median_support=300.0,
    lift=None,
    q_value=None,
    overlapping=None,
)


@pytest.mark.parametrize(("probability", "verdict"), [(0.11, "overlap"), (0.09, "unclear")])
def test_a_model_sees_both_labels_from_a_tenth_on(probability: float, verdict: str) -> None:
    rest = (1 - probability - 0.7) / 2
    confused = (40, "a", (probability, 0.7, rest, rest))
    found = pair_of(analyse_rows(*EASY, confused)[0], "a", "b")
    assert found.verdict == verdict
    assert found.evidence is not None
    assert found.evidence.shared == (40 if verdict == "overlap" else 0)


@pytest.mark.parametrize(("probability", "suspects"), [(0.88, False), (0.92, True)])
def test_a_label_is_suspect_where_the_model_is_nine_tenths_sure(
    probability: float, suspects: bool
) -> None:
    # Usually the model is less sure, so that cleanlab finds both of these labels wrong.
    usual = [(300, label, row) for label, row in zip("abcd", 0.1 + 0.6 * np.eye(4), strict=True)]
    rest = (1 - probability) / 3
    confused = (30, "a", (rest, probability, rest, rest))
    found = pair_of(analyse_rows(*usual, confused)[0], "a", "b")
    assert found.evidence is not None
    assert (found.evidence.suspect > 15) is suspects
    assert suspects or found.evidence.suspect == 0


def test_a_scarce_label_has_few_articles_and_loses_them_beyond_chance() -> None:
    assert _scarce(EVIDENCE) == 0
    assert _scarce(replace(EVIDENCE, support=(59, 300))) == 0
    assert _scarce(replace(EVIDENCE, support=(60, 300), predicted=(60, 300))) is None
    # Three times as often by their shares, and not by their intervals.
    unsure = replace(EVIDENCE, a_as_b=Estimate(0.6, 0.2, 0.9), b_as_a=Estimate(0.05, 0.01, 0.1))
    assert _scarce(unsure) is None
    reverse = replace(
        EVIDENCE,
        a_as_b=EVIDENCE.b_as_a,
        b_as_a=EVIDENCE.a_as_b,
        support=(300, 30),
        predicted=(300, 20),
    )
    assert _scarce(reverse) == 1
    # As many articles as others, and hardly ever given.
    assert _scarce(replace(EVIDENCE, support=(300, 300), predicted=(59, 300))) == 0
    assert _scarce(replace(EVIDENCE, support=(300, 300), predicted=(61, 300))) is None


def test_labels_that_do_not_occur_do_not_lower_the_median() -> None:
    close = ((20, "a", (0.4, 0.5, 0.05, 0.05)), (20, "b", (0.5, 0.4, 0.05, 0.05)))
    found = pair_of(analyse_rows(*EASY[:2], *close)[0], "a", "b")  # neither c nor d
    assert found.evidence is not None
    assert found.evidence.median_support == 320


def test_a_gain_by_chance_is_no_reason_to_merge() -> None:
    close = ((40, "a", (0.4, 0.5, 0.05, 0.05)), (40, "b", (0.5, 0.4, 0.05, 0.05)))
    found = pair_of(analyse_rows(*EASY, *close)[0], "a", "b")
    assert found.evidence is not None
    merged = found.merged
    assert merged is not None
    for low, action in ((0.001, "merge"), (-0.001, "allow two labels")):
        changed: Merge = replace(merged, gain=Estimate(0.02, low, 0.05))
        advice = _advice(("a", "b"), "overlap", found.evidence, changed, ())
        assert advice.action == action


def test_articles_that_look_alike_are_told_apart_half_of_the_time() -> None:
    p_a, p_b = np.full(10, 0.4, np.float32), np.full(10, 0.3, np.float32)
    assert _separability(p_a, p_b, p_a, p_b) == 0.5
    assert _separability(p_a, p_b, p_b, p_a) == 1
    assert _separability(p_b, p_a, p_a, p_b) == 0
