"""The heads of a student in its ONNX graph: add them, replace them, and expose the states that they read.

The body of the graph is not changed, so the predictions of all other heads stay bit-identical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle
from newsie.errors import BundleError, MissingExtraError
from newsie.graph.quantize import quantize_int8
from newsie.labels import LabelSpace

__all__ = ["FIRST", "INNER", "HeadWeights", "HeadsGraph", "write_heads"]

Floats = NDArray[np.float32]
FIRST, INNER = "first", "inner_"


@dataclass(frozen=True)
class HeadWeights:
    """The weights of a `Head`: relu(x A' + a) W' + w.

    Attributes:
        inner: A, (H, H).
        inner_bias: a, (H,).
        outer: W, (C, H).
        outer_bias: w, (C,).
    """

    inner: Floats
    inner_bias: Floats
    outer: Floats
    outer_bias: Floats


def write_heads(
    bundle: Bundle, heads: Mapping[str, HeadWeights], labels: LabelSpace, target: Path
) -> None:
    """Write the graph of a bundle with heads added or replaced.

    Args:
        bundle: the student.
        heads: task -> its head.
        labels: the tasks of the new graph: those of the bundle, then the new ones.
        target: the file.

    Raises:
        BundleError: the graph is not one that this version of Newsie exports.
    """
    graph = HeadsGraph(bundle)
    for task in labels.names:
        if task in heads:
            graph.put(task, heads[task])
    graph.write(target, labels)


class HeadsGraph:
    """The graph of a bundle, with access to its heads."""

    def __init__(self, bundle: Bundle) -> None:
        try:
            import onnx
        except ImportError as error:
            raise MissingExtraError("retraining", error.name or "onnx", "train") from error
        self._onnx, self._bundle = onnx, bundle
        self._content: Any = onnx.load(bundle.model_path)
        self._graph: Any = self._content.graph
        self._makers = {output: node for node in self._graph.node for output in node.output}
        products = [n for n in self._graph.node if n.op_type == "MatMulIntegerToFloat"]
        tasks = len(self._graph.output)
        if len(products) < 2 * tasks:
            raise self._unknown()
        # Heads come last, each with two products; the first of both reads the first token.
        self._first = self._read_by(products[-2])

    def write_states(self, path: Path, tasks: Sequence[str]) -> int:
        """Write a graph whose outputs are states, and return their width."""
        sources = {FIRST: self._first}
        sources |= {INNER + task: self._read_by(self._product(task)) for task in tasks}
        width = self._width()
        del self._graph.output[:]
        for name, source in sources.items():
            self._graph.node.append(self._onnx.helper.make_node("Identity", [source], [name]))
            self._graph.output.append(self._output(name, width))
        self._onnx.save(self._content, path)
        return width

    def put(self, task: str, head: HeadWeights) -> None:
        """Add a head in float32, or replace the existing one."""
        place = self._remove(task) if task in self._makers else len(self._graph.node)
        names = [f"{task}/{part}" for part in ("A", "a", "W", "w", "linear", "relu")]
        values = (head.inner, head.inner_bias, head.outer, head.outer_bias)
        for name, value in zip(names[:4], values, strict=True):
            array = np.ascontiguousarray(value, np.float32)
            self._graph.initializer.append(self._onnx.numpy_helper.from_array(array, name))
        make = self._onnx.helper.make_node
        for node in (
            make("Gemm", [self._first, *names[:2]], [names[4]], transB=1),
            make("Relu", [names[4]], [names[5]]),
            make("Gemm", [names[5], *names[2:4]], [task], transB=1),
        ):
            self._graph.node.insert(place, node)
            place += 1

    def write(self, target: Path, labels: LabelSpace) -> None:
        """Write the graph, in int8, with its outputs in the order of the tasks."""
        del self._graph.output[:]
        self._graph.output.extend(self._output(t.name, len(t.labels)) for t in labels.tasks)
        exact = target.with_suffix(".float.onnx")
        self._onnx.save(self._content, exact)
        quantize_int8(exact, target)
        exact.unlink()

    def _remove(self, task: str) -> int:
        """Remove a head, and return the position of its end among the remaining nodes."""
        used = {output.name for output in self._graph.output if output.name != task} | {self._first}
        kept: list[Any] = []
        behind = 0
        for node in reversed(self._graph.node):
            if used & set(node.output):
                used |= set(node.input)
                kept.append(node)
            elif task in node.output:
                behind = len(kept)
        constants = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(reversed(kept))
        self._graph.initializer.extend(constants)
        return len(kept) - behind

    def _output(self, name: str, width: int) -> Any:
        helper = self._onnx.helper
        return helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, ["batch", width])

    def _product(self, task: str) -> Any:
        """Return the matrix product that yields the logits of a task, before bias and scales."""
        node = self._makers[task]
        while node.op_type != "MatMulIntegerToFloat":
            made = [self._makers[name] for name in node.input if name in self._makers]
            if not made:
                raise self._unknown()
            node = made[0]
        return node

    def _read_by(self, product: Any) -> str:
        """Return the name of the activation that a product multiplies."""
        quantized = self._makers[product.input[0]]
        if quantized.op_type != "QuantizeLinear":
            raise self._unknown()
        return str(quantized.input[0])

    def _width(self) -> int:
        weight = self._product(self._graph.output[0].name).input[1]
        return next(int(t.dims[0]) for t in self._graph.initializer if t.name == weight)

    def _unknown(self) -> BundleError:
        return BundleError(
            f"bundle {self._bundle.path}: model.onnx is not a graph that this Newsie exports, so no "
            "head can be added to it; retrain from the bundled student, or from a bundle that newsie "
            "train or newsie retrain wrote"
        )
