"""The optional OpenVINO runtime for a student's graph, chosen by NEWSIE_RUNTIME.

    onnxruntime    never: the default, which gives the same predictions on every processor
    openvino       always
    fastest        if the extra `openvino` is installed and was measured to be faster

The speed is measured once for each graph, machine and version, and stored in the user's cache, so that a
continued run computes as the interrupted one did.

Predictions differ about as little as int8 differs from float: OpenVINO computes with the graph's int8
weights, and takes activations as float, or as int8 with scales of its own on processors made for that (VNNI).
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
from newsie.graph.graph import Graph
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
"""The candidate numbers of activations that share a scale if OpenVINO takes them in int8.

128 is a seventh faster than 32, OpenVINO's default. A size that does not divide the width of a layer turns
int8 off for that layer.
"""
ROUNDS, ARTICLES, TOKENS = 5, 16, 128
"""The measurement: the number of rounds, in which both take turns, and the shape of the batch."""

Inputs = Mapping[str, NDArray[np.int64]]


class Session(Protocol):
    """The interface of a session that runs a graph, as onnxruntime's InferenceSession does."""

    def run(self, outputs: Sequence[str], inputs: Inputs, /) -> Sequence[NDArray[np.float32]]: ...


def choose_session(session: Session, graph: Graph, threads: int) -> Session:
    """Return the given session, or an OpenVINO session in its place, as the environment requests.

    Args:
        session: the ONNX Runtime session.
        graph: the graph that it runs.
        threads: the number of concurrent calls.

    Raises:
        InputError: the variable has an unknown value.
        MissingExtraError: `openvino` is requested and not installed.
        BundleError: `openvino` is requested and cannot run the graph.
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
    except Exception as error:  # runtime errors have no common base but Exception
        reason = error.__cause__ or error
        warnings.warn(f"OpenVINO fails, ONNX Runtime is used instead: {reason}", stacklevel=2)
        return session


def _faster(session: Session, graph: Graph, threads: int) -> Session:
    from importlib.metadata import version  # takes a tenth of the startup time

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
    """Return the stored speed-ups of OpenVINO by machine, graph and versions."""
    try:
        found: dict[str, float] = json.loads(_speedups_path().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):  # no file, no home folder, or not JSON
        return {}
    return found


def _write_speedups(speedups: Mapping[str, float]) -> None:
    from newsie.atomic import write_text

    with suppress(OSError, RuntimeError):  # it is then measured each time
        path = _speedups_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(speedups, indent=1))


def _speedup(session: Session, other: Session) -> float:
    """Return the speed-up of the other session: the median ratio of paired runs, without the first."""
    ids = np.ones((ARTICLES, TOKENS), np.int64)
    inputs = {"input_ids": ids, "attention_mask": ids}
    pairs = [[_seconds(s, inputs) for s in (session, other)] for _ in range(ROUNDS + 1)]
    return float(np.median([one / two for one, two in pairs[1:]]))


def _seconds(session: Session, inputs: Inputs) -> float:
    started = time.perf_counter()
    session.run([], inputs)
    return time.perf_counter() - started


class OpenVinoSession:
    """A graph written by `quantize_int8`, compiled by OpenVINO. Safe to use from several threads at once.

    Args:
        graph: the graph, which is not kept.
        threads: the number of concurrent calls, each on one thread.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: OpenVINO cannot run the graph, or the graph needs other files.
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
            # Processors with AMX would otherwise compute in bfloat16, which breaks narrow layers.
            options["INFERENCE_PRECISION_HINT"] = "f32"
            self._compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise BundleError(
                f"bundle {graph.path.parent}: OpenVINO cannot run {graph.path.name}: {error}; "
                f"{VARIABLE}=onnxruntime can"
            ) from error
        self._own = threading.local()

    def run(self, outputs: Sequence[str], inputs: Inputs, /) -> list[NDArray[np.float32]]:
        """Return the outputs with the given names, (B, C) each."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        request.infer(dict(inputs))
        return [request.get_tensor(name).data.copy() for name in outputs]


def _keep(node: Any) -> Any:
    """Return X / scale as float, because OpenVINO has no scales by token. `_multiply` takes X from it."""
    import openvino.opset13 as ops

    return ops.divide(node.get_input(0), node.get_input(1)).outputs()


def _multiply(node: Any) -> Any:
    """Return X (Wq * scale_of_column) instead of (Xq - 128) Wq * scale_of_column."""
    import openvino.opset13 as ops

    x = node.get_input(0).get_node().input_value(0)  # the input of `_keep`
    weight = ops.multiply(ops.convert(node.get_input(1), "f32"), node.get_input(3))
    return ops.matmul(x, weight, False, False).outputs()


def _drop_scales(model: Any) -> None:
    """Remove the factor scale_of_token after each product, because its activations were not divided by it."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Multiply" and _is_product(node.input_value(0).get_node()):
            node.output(0).replace(node.input_value(0))
    model.validate_nodes_and_infer_types()


def _group_size(model: Any) -> int:
    """Return the largest of GROUP_SIZES that divides the input width of every product; else the smallest."""
    weights = [n.input(1).get_partial_shape() for n in model.get_ordered_ops() if _is_product(n)]
    width = math.gcd(*(shape[0].get_length() for shape in weights if shape.is_static))
    return next((size for size in GROUP_SIZES if width % size == 0), GROUP_SIZES[-1])


def _is_product(node: Any) -> bool:
    """Return True if a node is a product with int8 weights, made by `_multiply`."""
    if node.get_type_name() != "MatMul":
        return False
    weight = node.input_value(1).get_node()
    return bool(
        weight.get_type_name() == "Multiply"
        and weight.input_value(0).get_node().get_type_name() == "Convert"
    )
