"""What the machine itself can do: int8 and fp32 products of matrices, and copying memory.

    python -m benchmarks.limits

Prints JSON: giga-operations a second (a multiplication and an addition are two), and gigabytes a second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["measure_limits"]

SIZE = 1_024
SECONDS = 1.0
"""Each is repeated so long, and all that time counts, as with a student: a processor that has just rested is
faster than one at work."""
COPIED_BYTES = 256 * 2**20


def measure_limits() -> dict[str, float]:
    """Rates over a second each, on all cores."""
    operations = 2 * SIZE**3 / 1e9
    return {
        "int8_gops": operations / _seconds(_product("MatMulInteger", np.uint8)),
        "fp32_gops": operations / _seconds(_product("MatMul", np.float32)),
        "copy_gb_per_second": COPIED_BYTES / 1e9 / _seconds(_copy()),
    }


def _seconds(block: Callable[[], Any]) -> float:
    block()
    started, times = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < SECONDS:
        block()
        times += 1
    return taken / times


def _product(kind: str, dtype: type) -> Callable[[], Any]:
    """A product of two square matrices in onnxruntime; int8 is uint8 by int8, as in the students."""
    from onnx import helper, numpy_helper

    from newsie.inference.student import import_onnxruntime

    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (SIZE, SIZE))
    right = weight.astype(np.int8 if dtype is np.uint8 else np.float32)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    out = helper.np_dtype_to_tensor_dtype(np.dtype(np.int32 if dtype is np.uint8 else np.float32))
    graph = helper.make_graph(
        [helper.make_node(kind, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", element, [SIZE, SIZE])],
        [helper.make_tensor_value_info("c", out, [SIZE, SIZE])],
        [numpy_helper.from_array(right, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = import_onnxruntime().InferenceSession(model.SerializeToString())
    left: NDArray[Any] = random.integers(0, 256, (SIZE, SIZE)).astype(dtype)
    return lambda: session.run(None, {"a": left})


def _copy() -> Callable[[], Any]:
    source = np.ones(COPIED_BYTES, np.uint8)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


if __name__ == "__main__":
    print(json.dumps(measure_limits(), indent=1))
