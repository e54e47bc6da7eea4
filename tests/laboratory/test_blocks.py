from __future__ import annotations

import numpy as np

from newsie.laboratory.contrasts import BLOCKS, measured


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
