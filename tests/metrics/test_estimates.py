from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.metrics.estimates import (
    Estimate,
    jackknife,
    mean,
    newcombe,
    paired,
    q_values,
    share,
)


def test_wilson_by_hand() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81 of 263.
    found = share(81, 263)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert share(0, 0) is None
    none = share(0, 10)
    assert none is not None
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.2775, abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(pair: tuple[int, int]) -> None:
    found = share(*pair)
    assert found is not None
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_newcombe_by_hand() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table II, method 10: 56/70 - 48/80.
    one, two = share(56, 70), share(48, 80)
    assert one is not None
    assert two is not None
    found = newcombe(one, two)
    assert [round(x, 4) for x in (found.value, found.low, found.high)] == [0.2, 0.0524, 0.3339]


def test_paired_shares_by_hand() -> None:
    # b = 10 and c = 4 of 50: (10.5 - 4.5) / 52 and its error sqrt(15 - 36 / 52) / 52
    found = paired(10, 4, 50)
    half = 1.959964 * math.sqrt(15 - 36 / 52) / 52
    assert found.value == pytest.approx(6 / 50)
    assert found.low == pytest.approx(6 / 52 - half)
    assert found.high == pytest.approx(6 / 52 + half)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(3, 2, 40)
    without = (x.sum() - x) / 39
    found = jackknife(float(x.mean()), without)
    error = x.std(ddof=1) / math.sqrt(40)
    assert found.high - found.value == pytest.approx(2.0227 * error, rel=1e-4)  # t with 39
    assert jackknife(1.0, [1.0]) == Estimate(1.0, -math.inf, math.inf)
    assert mean(3.0, 1.0).high == pytest.approx(4.96, abs=1e-3)


def test_benjamini_and_hochberg_by_hand() -> None:
    # sorted .01 .02 .03 .5, times 4 / rank: .04 .04 .04 .5
    assert q_values([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert q_values([]).size == 0
