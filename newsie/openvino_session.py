"""A student's graph in OpenVINO instead of ONNX Runtime, where that is asked for: NEWSIE_RUNTIME.

    onnxruntime    never: the default, with which every processor gives the same answers
    openvino       in any case
    fastest        where the extra `openvino` is installed and was measured to be faster

It is measured once for each graph, machine and version, and remembered in the user's cache: a run that goes
on where another ended computes as that one did.

Answers differ as little as int8 differs from float: OpenVINO computes with the graph's int8 weights, and
takes activations as float, or in int8 with scales of its own where the processor is made for that (VNNI).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from newsie.errors import BundleError, InputError, MissingExtraError
from newsie.onnx_graph import Graph
from newsie.version import __version__

__all__ = [
    "FASTEST",
    "ONNXRUNTIME",
    "RUNTIMES",
    "VARIABLE",
    "OpenVinoSession",
    "Session",
    "choose_session",
]

VARIABLE = "NEWSIE_RUNTIME"
ONNXRUNTIME, OPENVINO, FASTEST = RUNTIMES = ("onnxruntime", "openvino", "fastest")
GROUP_SIZES = (128, 64, 32)
"""How many activations share a scale where OpenVINO takes them in int8: with 128 it is a seventh faster than
with 32, its own choice. One that does not divide the width of a layer turns int8 off for it."""
ROUNDS, ARTICLES, TOKENS = 5, 16, 128
"""The measurement: both take turns, so many times, with a batch of this shape."""

Inputs = Mapping[str, NDArray[np.int64]]


class Session(Protocol):
    """What runs a graph; as onnxruntime's InferenceSession does."""

    def run(self, outputs: Sequence[str], inputs: Inputs, /) -> Sequence[NDArray[np.float32]]: ...


def choose_session(session: Session, graph: Graph, threads: int) -> Session:
    """The session given, or one of OpenVINO in its place, as the environment asks.

    Args:
        session: ONNX Runtime's.
        graph: the graph that it runs.
        threads: calls that run at once.

    Raises:
        InputError: the variable has another value.
        MissingExtraError: OpenVINO itself is asked for and not installed.
        BundleError: it is asked for and cannot run the graph.
    """
    wanted = os.environ.get(VARIABLE) or ONNXRUNTIME
    if wanted not in RUNTIMES:
        raise InputError(f"{VARIABLE} is {wanted!r}; give one of {', '.join(RUNTIMES)}")
    if wanted == ONNXRUNTIME or (wanted == FASTEST and find_spec("openvino") is None):
        return session
    if wanted == OPENVINO:
        return OpenVinoSession(graph, threads)
    try:
        return _faster(session, graph, threads)
    except Exception as error:  # a runtime's errors have no common base but Exception
        reason = error.__cause__ or error
        warnings.warn(f"OpenVINO fails, ONNX Runtime is used instead: {reason}", stacklevel=2)
        return session


def _faster(session: Session, graph: Graph, threads: int) -> Session:
    from importlib.metadata import version  # takes as long as a tenth of the start

    speedups = _read_speedups()
    digest = hashlib.sha256(graph.content).hexdigest()
    versions = [__version__, version("onnxruntime"), version("openvino")]
    case = " ".join([platform.node(), digest[:16], *versions])
    if case in speedups and speedups[case] <= 1:
        return session
    other = OpenVinoSession(graph, threads)
    if case not in speedups:
        speedups[case] = _speedup(session, other)
        _write_speedups(speedups)
    return other if speedups[case] > 1 else session


def _speedups_path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "newsie/runtimes.json"


def _read_speedups() -> dict[str, float]:
    """Machine, graph and versions -> how many times as fast OpenVINO is."""
    try:
        found: dict[str, float] = json.loads(_speedups_path().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):  # there is none, no home, or no JSON
        return {}
    return found


def _write_speedups(speedups: Mapping[str, float]) -> None:
    from newsie.atomic import write_text

    with suppress(OSError, RuntimeError):  # then it is measured each time
        path = _speedups_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(speedups, indent=1))


def _speedup(session: Session, other: Session) -> float:
    """How many times as fast the other one is: the median of neighbours, the first of which do not count."""
    ids = np.ones((ARTICLES, TOKENS), np.int64)
    inputs = {"input_ids": ids, "attention_mask": ids}
    pairs = [[_seconds(s, inputs) for s in (session, other)] for _ in range(ROUNDS + 1)]
    return float(np.median([one / two for one, two in pairs[1:]]))


def _seconds(session: Session, inputs: Inputs) -> float:
    started = time.perf_counter()
    session.run([], inputs)
    return time.perf_counter() - started


class OpenVinoSession:
    """A graph as `quantize_int8` writes it, compiled by OpenVINO. Safe to use from several threads at once.

    Args:
        graph: the graph, which is not kept.
        threads: calls that run at once, each on one thread.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: it cannot run the graph, or the graph needs other files.
    """

    def __init__(self, graph: Graph, threads: int) -> None:
        try:
            import openvino
            from openvino.frontend.onnx import ConversionExtension
        except ImportError as error:
            raise MissingExtraError("OpenVINO", error.name or "openvino", "openvino") from error
        graph.check()
        multiply = ConversionExtension("MatMulIntegerToFloat", "com.microsoft", _multiply)
        try:
            core = openvino.Core()
            core.add_extension(ConversionExtension("QuantizeLinear", _keep))
            core.add_extension(multiply)
            model = core.read_model(io.BytesIO(graph.content))
            _drop_scales(model)
            options = {"NUM_STREAMS": str(threads), "INFERENCE_NUM_THREADS": str(threads)}
            options |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(_group_size(model))}
            # Processors with AMX would otherwise compute in bfloat16, which garbles narrow layers.
            options["INFERENCE_PRECISION_HINT"] = "f32"
            self._compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise BundleError(
                f"bundle {graph.path.parent}: OpenVINO cannot run {graph.path.name}: {error}; "
                f"{VARIABLE}=onnxruntime can"
            ) from error
        self._own = threading.local()

    def run(self, outputs: Sequence[str], inputs: Inputs, /) -> list[NDArray[np.float32]]:
        """The outputs of those names, (B, C) each."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        request.infer(dict(inputs))
        return [request.get_tensor(name).data.copy() for name in outputs]


def _keep(node: Any) -> Any:
    """X / scale as float: scales by token are unknown to OpenVINO. `_multiply` takes X of it."""
    import openvino.opset13 as ops

    return ops.divide(node.get_input(0), node.get_input(1)).outputs()


def _multiply(node: Any) -> Any:
    """X (Wq * scale_of_column) instead of (Xq - 128) Wq * scale_of_column."""
    import openvino.opset13 as ops

    x = node.get_input(0).get_node().input_value(0)  # of `_keep`
    weight = ops.multiply(ops.convert(node.get_input(1), "f32"), node.get_input(3))
    return ops.matmul(x, weight, False, False).outputs()


def _drop_scales(model: Any) -> None:
    """Take out the factor scale_of_token behind each product: its activations were not divided by it."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Multiply" and _is_product(node.input_value(0).get_node()):
            node.output(0).replace(node.input_value(0))
    model.validate_nodes_and_infer_types()


def _group_size(model: Any) -> int:
    """The largest of GROUP_SIZES that divides the width of what each product takes; else the smallest."""
    weights = [n.input(1).get_partial_shape() for n in model.get_ordered_ops() if _is_product(n)]
    width = math.gcd(*(shape[0].get_length() for shape in weights if shape.is_static))
    return next((size for size in GROUP_SIZES if width % size == 0), GROUP_SIZES[-1])


def _is_product(node: Any) -> bool:
    """Whether a node is what `_multiply` made: a product with int8 weights."""
    if node.get_type_name() != "MatMul":
        return False
    weight = node.input_value(1).get_node()
    return bool(
        weight.get_type_name() == "Multiply"
        and weight.input_value(0).get_node().get_type_name() == "Convert"
    )
