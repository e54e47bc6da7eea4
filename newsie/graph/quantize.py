"""Quantisation to int8: a quarter of the size, two to three times the speed, similar predictions.

    weights      W (K, N)  int8, one scale per column (see `quantize_columns`)
    embeddings   E (V, H)  int8, one scale per row; if rows are only summed, A E[ids], the scales go to A
    activations  X (B, T, K) uint8 around 128, one scale per token, computed when the graph runs

    X W = (Xq - 128) Wq * scale_of_token * scale_of_column

With one scale per token, the prediction for an article does not depend on padding or on the other articles
of the batch. The usual dynamic quantisation takes one scale for the whole batch, which moves probabilities
by up to 0.05 from batch to batch and is less precise (Yao et al. 2022, arXiv 2206.01861, "token-wise
quantization").
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.errors import MissingExtraError

__all__ = ["quantize_columns", "quantize_int8", "quantize_rows"]

Floats = NDArray[np.float32]
Integers = NDArray[np.int8]

OPSET = 21
"""The first opset in which QuantizeLinear takes one scale per block. Here a block is a token."""

LARGEST = 127
PREFIX = "int8/"  # of the constants that this module adds
MICROSOFT = "com.microsoft"


def quantize_int8(source: Path, destination: Path) -> None:
    """Convert a float32 graph to int8. Parts that are int8 already do not change.

    Args:
        source: the graph that `export_onnx` wrote.
        destination: the file to write.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("quantising a model", error.name or "onnx", "train") from error

    model = onnx.load(source)
    _Quantizer(model.graph).run()
    # The exporter's shape annotations do not cover the new values.
    del model.graph.value_info[:]
    next(o for o in model.opset_import if not o.domain).version = OPSET
    if not any(opset.domain == MICROSOFT for opset in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    onnx.save(model, destination)


class _Quantizer:
    """A rewriter that replaces products with weights and embeddings in a graph, node by node."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self._graph = graph
        self._weights = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in graph.initializer
            if len(tensor.dims) == 2
            and tensor.data_type == tensor.FLOAT
            and not tensor.name.startswith(PREFIX)
        }
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes: list[Any] = []
        self._quantized = {  # activation -> (integers, scales)
            node.input[0]: (node.output[0], node.input[1])
            for node in graph.node
            if node.op_type == "QuantizeLinear"
        }
        uses = Counter(name for node in graph.node for name in node.input)
        uses.update(output.name for output in graph.output)
        self._summed = {  # values whose only use is as the right side of one product
            node.input[1]
            for node in graph.node
            if node.op_type == "MatMul" and uses[node.input[1]] == 1
        }
        self._row_scales: dict[str, str] = {}  # embeddings as bare integers -> their scales

    def run(self) -> None:
        for node in self._graph.node:
            if node.op_type == "Gather" and node.input[0] in self._weights:
                self._embed(node)
            elif node.op_type in ("MatMul", "Gemm") and node.input[1] in self._weights:
                self._multiply(node)
            elif node.op_type == "MatMul" and node.input[1] in self._row_scales:
                self._sum(node)
            else:
                self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for name, tensor in self._tensors.items() if name in used]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(kept)

    def _embed(self, node: Any) -> None:
        """Add E[ids] = Eq[ids] * scale[ids]. The scale is left to `_sum` if the rows are only summed."""
        name, ids, out = node.input[0], node.input[1], node.output[0]
        integers, scales = quantize_rows(self._weights[name])
        self._add("Gather", [self._constant(f"{name}_int8", integers), ids], f"{out}_int8")
        self._add("Gather", [self._constant(f"{name}_scale", scales), ids], f"{out}_scale")
        if out in self._summed:
            self._add("Cast", [f"{out}_int8"], out, to=1)
            self._row_scales[out] = f"{out}_scale"
        else:
            self._add("Cast", [f"{out}_int8"], f"{out}_float", to=1)
            self._add("Mul", [f"{out}_float", f"{out}_scale"], out)

    def _sum(self, node: Any) -> None:
        """Add A E[ids] = (A * scale[ids]) Eq[ids], ids (B, N): one product per row instead of H."""
        weights, rows = node.input
        scale, out = self._row_scales[rows], node.output[0]
        self._add("Transpose", [scale], f"{scale}_row", perm=[0, 2, 1])
        self._add("Mul", [weights, f"{scale}_row"], f"{out}_weights")
        self._add("MatMul", [f"{out}_weights", rows], out)

    def _multiply(self, node: Any) -> None:
        """Add X W = (Xq Wq) * scale_of_column * scale_of_token, plus the bias of a Gemm."""
        x, name, out = node.input[0], node.input[1], node.output[0]
        weight = self._weights[name]
        if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
            weight = weight.T
        integers, scales = quantize_columns(weight)
        quantized, token_scale = self._quantize_tokens(x, len(weight))
        bias = list(node.input[2:])
        product = f"{out}_without_bias" if bias else out
        columns = [
            self._constant(f"{out}_weight", integers),
            self._constant("one", np.float32(1)),
            self._constant(f"{out}_weight_scale", scales),
            self._constant("middle", np.uint8(128)),
            self._constant("zero", np.int8(0)),
        ]
        self._add(
            "MatMulIntegerToFloat", [quantized, *columns], f"{out}_unscaled", domain=MICROSOFT
        )
        self._add("Mul", [f"{out}_unscaled", token_scale], product)
        if bias:
            self._add("Add", [product, *bias], out)

    def _quantize_tokens(self, x: str, width: int) -> tuple[str, str]:
        """Add Xq = X / scale + 128, scale = max |X| / 127 per token, once for all products with X."""
        if x not in self._quantized:
            last = self._constant("last_axis", np.array([-1], np.int64))
            self._add("ReduceMax", [x, last], f"{x}_high", keepdims=1)
            self._add("ReduceMin", [x, last], f"{x}_low", keepdims=1)
            self._add("Neg", [f"{x}_low"], f"{x}_depth")
            tiny = self._constant("tiny", np.float32(1e-12))  # a token of zeros needs a scale, too
            self._add("Max", [f"{x}_high", f"{x}_depth", tiny], f"{x}_largest")
            step = self._constant("step", np.float32(1 / LARGEST))
            self._add("Mul", [f"{x}_largest", step], f"{x}_scale")
            self._add("Shape", [f"{x}_scale"], f"{x}_scale_shape")
            middle = self._constant("middle", np.uint8(128))
            self._add("Expand", [middle, f"{x}_scale_shape"], f"{x}_middle")
            self._add(
                "QuantizeLinear",
                [x, f"{x}_scale", f"{x}_middle"],
                f"{x}_uint8",
                axis=-1,
                block_size=width,
            )
            self._quantized[x] = f"{x}_uint8", f"{x}_scale"
        return self._quantized[x]

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{PREFIX}{name}"
        if name not in self._tensors:
            self._tensors[name] = numpy_helper.from_array(np.asarray(value), name)
        return name


def quantize_rows(weight: Floats) -> tuple[Integers, Floats]:
    """Return a (V, H) table as integers from -127 to 127, and its scales (V, 1)."""
    scale = _safe(np.abs(weight).max(axis=1, keepdims=True) / LARGEST)
    return np.rint(weight / scale).astype(np.int8), scale


def quantize_columns(weight: Floats) -> tuple[Integers, Floats]:
    """Return (K, N) weights as integers and scales (N,), such that no pair of products overflows 16 bits.

    x86 processors without VNNI instructions (Intel before 2019, AMD before Zen 4) add the products
    of rows 2k and 2k + 1 in saturating 16-bit arithmetic, for which 255 * 127 * 2 is twice too large.
    If no two neighbours of the same sign sum up to more than 128, nothing saturates and all processors
    give the same predictions. Neighbours are seldom both large, so this costs a third of a bit, while
    halving all weights (ONNX Runtime's `reduce_range`) would cost a whole bit.
    """
    even, odd = weight[0::2], np.zeros_like(weight[0::2])
    odd[: len(weight) // 2] = weight[1::2]
    alike = np.sign(even) == np.sign(odd)  # the product of two tiny numbers would underflow to 0
    together = np.where(alike, np.abs(even + odd), np.maximum(np.abs(even), np.abs(odd)))
    # Rounding may add a half to each of the two, so 127 becomes 128, and 255 * 128 < 2 ** 15.
    scale = _safe(together.max(axis=0) / LARGEST)
    return np.rint(weight / scale).astype(np.int8), scale


def _safe(scale: Floats) -> Floats:
    """Return the scales, with those that are 0 or too small to divide by in float32 set to 1."""
    return np.where(scale < np.finfo(np.float32).tiny, 1, scale).astype(np.float32)
