from __future__ import annotations

import numpy as np

from newsie.laboratory.contrasts import BLOCKS, Contrast, contrast, measured
from newsie.metrics.estimates import Estimate


def test_neighbours_of_a_file_are_in_different_blocks() -> None:
    # 80 articles in 40 blocks of two. The first two are wrong: each block that holds one of them leaves 1
    # of 78 wrong, every other one 2 of 78.
    gold = {"section": np.zeros(80, np.int64)}
    predicted = np.zeros(80, np.int64)
    predicted[:2] = 1
    [values] = measured([{"section": predicted}], gold, "accuracy")
    assert values[0] == 78 / 80
    assert len(values) == 1 + BLOCKS
    np.testing.assert_allclose(values[1:3], 77 / 78)
    np.testing.assert_allclose(values[3:], 76 / 78)


def test_a_draw_is_no_win_and_what_may_be_chance_is_too_close_to_call() -> None:
    first = np.array([[0.8, 0.8, 0.8], [0.7, 0.7, 0.7], [0.6, 0.6, 0.6]])
    second = np.array([[0.7, 0.7, 0.7], [0.7, 0.7, 0.7], [0.6, 0.6, 0.6]])
    found = contrast(("a", "b"), first, second, "accuracy")
    assert (found.wins, found.seeds) == (1, 3)
    assert found.difference.value > 0 > found.difference.low
    assert found.verdict == "too close to call"
    surely = Contrast("a", "b", "accuracy", Estimate(0.2, 0.1, 0.3), 0.01, 3, 3)
    assert surely.verdict == "holds"
