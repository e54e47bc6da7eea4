from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from newsie.graph.quantize import quantize_columns, quantize_rows

MATRICES = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.floats(-1e6, 1e6, width=32),
)


def test_columns_by_hand() -> None:
    weight = np.array([[1.0, 2.0, 0.0], [1.0, -2.0, 0.0], [0.5, 1.0, 0.0]], np.float32)
    integers, scale = quantize_columns(weight)
    # 1 + 1 of one sign share the range, 2 and -2 have it each, a column of zeros has a scale, too
    np.testing.assert_allclose(scale, [2 / 127, 2 / 127, 1])
    assert integers.tolist() == [[64, 127, 0], [64, -127, 0], [32, 64, 0]]


@given(MATRICES)
def test_no_pair_of_products_overflows_16_bits(weight: np.ndarray) -> None:
    integers, scale = quantize_columns(weight)
    wide = np.zeros((len(weight) + len(weight) % 2, weight.shape[1]), np.int64)
    wide[: len(weight)] = integers
    even, odd = wide[0::2], wide[1::2]
    # activations are 0 to 255, each its own
    for first in (0, 255):
        for second in (0, 255):
            assert np.abs(first * even + second * odd).max() <= 2**15 - 1
    assert np.abs(integers * scale - weight).max() <= scale.max() * 0.5001


@given(MATRICES)
def test_rows_use_their_whole_range(weight: np.ndarray) -> None:
    integers, scale = quantize_rows(weight)
    assert scale.shape == (len(weight), 1)
    largest = np.abs(weight).max(axis=1)
    assert (np.abs(integers).max(axis=1)[largest > 1e-30] == 127).all()
    assert np.abs(integers * scale - weight).max() <= scale.max() * 0.5001
