"""The float weights of a student, read back from the int8 graph of its bundle.

A bundle contains a student only as an int8 graph. The graph's weights, each an integer times a scale, equal
the float student's up to rounding. They are identified by the order in which the graph uses them, which is
the student's. (Names do not identify them: the exporter omits zeros and shares equal constants.) So every
bundle can be retrained and exported without an additional file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle
from newsie.errors import BundleError, MissingExtraError

__all__ = ["StudentGraph", "read_weights"]

Floats = NDArray[np.float32]

LAYER_PRODUCTS = (
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "ffn.lin1",
    "ffn.lin2",
)
LAYER_NORMS = ("sa_layer_norm", "output_layer_norm")
HEAD_PRODUCTS = ("pre_classifier", "classifier")
TABLES = ("word_embeddings", "position_embeddings")


def read_weights(bundle: Bundle) -> dict[str, Floats]:
    """Return the weights of a bundle's student in float32, named as in `MultiTaskModel`.

    Raises:
        BundleError: this version of Newsie does not export such a graph.
        MissingExtraError: onnx is not installed.
    """
    return StudentGraph(bundle).parameters(bundle.manifest.label_space.names)


class StudentGraph:
    """The ONNX graph of a bundle, with methods that read the student's parameters from it."""

    def __init__(self, bundle: Bundle) -> None:
        try:
            import onnx
            from onnx import numpy_helper
        except ImportError as error:
            raise MissingExtraError("reading a student", error.name or "onnx", "train") from error
        self.bundle = bundle
        self._graph: Any = onnx.load(bundle.model_path).graph
        self._read = numpy_helper.to_array
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._makers = {output: node for node in self._graph.node for output in node.output}

    def unknown(self, why: str) -> BundleError:
        """Return the error for a graph that this version does not export."""
        return BundleError(
            f"bundle {self.bundle.path}: model.onnx is not a graph that this Newsie exports, so its "
            f"weights cannot be read back ({why}); retrain from the bundled student or from a bundle "
            "that newsie train or newsie retrain wrote"
        )

    def parameters(self, tasks: Sequence[str]) -> dict[str, Floats]:
        """Return all parameters by their name in `MultiTaskModel`."""
        nodes: dict[str, list[Any]] = {"MatMulIntegerToFloat": [], "LayerNormalization": []}
        for node in self._graph.node:
            if node.op_type in nodes:
                nodes[node.op_type].append(node)
        products, norms = nodes.values()
        layers = (len(norms) - 1) // len(LAYER_NORMS)
        found = dict(self._tables())
        for name, node in self._named(_product_names(layers, tasks), products):
            weight = self._value(node.input[1]).astype(np.float32) * self._value(node.input[3])
            found[f"{name}.weight"] = np.ascontiguousarray(weight.T)
            found[f"{name}.bias"] = self._bias(node, len(weight.T))
        for name, node in self._named(_norm_names(layers), norms):
            found[f"{name}.weight"], found[f"{name}.bias"] = map(self._value, node.input[1:])
        return found

    def _named(self, names: Sequence[str], nodes: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        if len(names) != len(nodes):
            kind = nodes[0].op_type if nodes else "products"
            raise self.unknown(f"{len(nodes)} of {kind} where {len(names)} are expected")
        return zip(names, nodes, strict=True)

    def _tables(self) -> Iterator[tuple[str, Floats]]:
        """Yield the embeddings, stored as integers (V, H) and one scale per row (V, 1)."""
        for table in TABLES:
            name = f"encoder.embeddings.{table}.weight"
            integers, scale = (self._value(f"int8/model.{name}_{x}") for x in ("int8", "scale"))
            yield name, integers.astype(np.float32) * scale

    def _bias(self, product: Any, width: int) -> Floats:
        """Return the bias of a product, (N,). It is 0 without a constant, as the exporter omits zeros."""
        output = product.output[0].removesuffix("_unscaled")
        names = {output, f"{output}_without_bias"}
        added = (
            name
            for node in self._graph.node
            if node.op_type == "Add" and names & set(node.input)
            for name in node.input
            if name in self._constants
        )
        name = next(added, None)
        return np.zeros(width, np.float32) if name is None else self._value(name)

    def attention_scale(self) -> float:
        """Return the factor of the queries or of their products with keys: 1 / sqrt(size of a head)."""
        softmax = next((node for node in self._graph.node if node.op_type == "Softmax"), None)
        if softmax is None:
            raise self.unknown("it has no attention")
        node = softmax
        while node.op_type != "Mul" or node.input[1] not in self._constants:
            node = self._makers.get(node.input[0])  # follow the queries
            if node is None:
                raise self.unknown("its attention has no scale")
        return float(self._value(node.input[1]))

    def activation(self) -> str:
        """Return the transformers name of the activation in the feed-forward layers."""
        kinds = {node.op_type for node in self._graph.node}
        if "Gelu" not in kinds:
            raise self.unknown("its activation is not gelu")
        return "gelu"

    def _value(self, name: str) -> Any:
        try:
            return self._read(self._constants[name]).copy()
        except KeyError:
            raise self.unknown(f"it has no constant {name}") from None


def _product_names(layers: int, tasks: Sequence[str]) -> list[str]:
    """Return the names of the linear layers, in the order in which the student computes them."""
    return [
        *(
            f"encoder.transformer.layer.{n}.{part}"
            for n in range(layers)
            for part in LAYER_PRODUCTS
        ),
        *(f"heads.{task}.{part}" for task in tasks for part in HEAD_PRODUCTS),
    ]


def _norm_names(layers: int) -> list[str]:
    return [
        "encoder.embeddings.LayerNorm",
        *(f"encoder.transformer.layer.{n}.{part}" for n in range(layers) for part in LAYER_NORMS),
    ]
