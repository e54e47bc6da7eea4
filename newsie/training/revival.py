"""Reconstruction of a trainable float student from a bundle.

A bundle contains a student only as an int8 graph. The graph's weights, each an integer times a scale, equal
the float student's up to rounding. They are identified by the order in which the graph uses them, which is
the student's. (Names do not identify them: the exporter omits zeros and shares equal constants.) So every
bundle can be retrained and exported without an additional file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DistilBertConfig, DistilBertModel

from newsie.bundle import Bundle
from newsie.errors import BundleError, MissingExtraError
from newsie.evaluation import softmax
from newsie.onnx_graph import Graph
from newsie.runtime import Student
from newsie.training.model import MultiTaskModel

__all__ = ["read_weights", "revive_student"]

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

MAX_DIFFERENCE = 0.25
"""The largest allowed difference between a probability of the float student and the graph's. int8 rounds
activations, too, which moves a few probabilities by some hundredths; a misread graph is off by more."""


def revive_student(bundle: Bundle) -> MultiTaskModel:
    """Return the student of a bundle in float32: encoder, heads of all tasks, label space.

    Its predictions equal the bundle's up to int8's noise, which is checked on a few texts of random tokens.
    Calibration and encoding stay in the manifest.

    Args:
        bundle: a verified bundle.

    Raises:
        BundleError: this version of Newsie does not export such a graph.
        MissingExtraError: onnx is not installed.
    """
    graph = _Graph(bundle)
    weights = graph.parameters(bundle.manifest.label_space.names)
    try:
        encoder = DistilBertModel(_configuration(graph, weights))
        model = MultiTaskModel(encoder, bundle.manifest.label_space)
        model.load_state_dict(
            {name: torch.from_numpy(value) for name, value in weights.items()}, strict=True
        )
    except (KeyError, RuntimeError, ValueError, ZeroDivisionError) as error:
        raise graph.unknown(str(error)) from error
    model.eval()
    _check_answers(model, bundle, graph)
    return model


def read_weights(bundle: Bundle) -> dict[str, Floats]:
    """Return the weights of a bundle's student in float32, named as in `MultiTaskModel`.

    Raises:
        BundleError: this version of Newsie does not export such a graph.
        MissingExtraError: onnx is not installed.
    """
    return _Graph(bundle).parameters(bundle.manifest.label_space.names)


class _Graph:
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


def _configuration(graph: _Graph, weights: dict[str, Floats]) -> DistilBertConfig:
    """Return the encoder's configuration, derived from the shapes of its weights."""
    vocabulary, width = weights["encoder.embeddings.word_embeddings.weight"].shape
    positions = len(weights["encoder.embeddings.position_embeddings.weight"])
    layers = sum(name.endswith("ffn.lin1.weight") for name in weights)
    inner = len(weights["encoder.transformer.layer.0.ffn.lin1.bias"])
    return DistilBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        n_layers=layers,
        n_heads=round(width * graph.attention_scale() ** 2),
        dim=width,
        hidden_dim=inner,
        activation=graph.activation(),
        dropout=0.0,
        attention_dropout=0.0,
    )


def _check_answers(model: MultiTaskModel, bundle: Bundle, graph: _Graph) -> None:
    """Check that the model's predictions match the graph's on texts of random tokens."""
    config = model.encoder.config
    random = np.random.default_rng(0)
    length = min(24, config.max_position_embeddings)
    ids = random.integers(0, config.vocab_size, (8, length))
    tasks = model.labels.names
    student = Student(Graph.read(bundle.model_path), model.labels, pad_id=0, threads=1)
    wanted = student.run_batch(ids.tolist(), tasks)
    with torch.inference_mode():
        found = model(torch.from_numpy(ids), torch.ones(ids.shape, dtype=torch.int64))
    for task in tasks:
        apart = float(np.abs(softmax(wanted[task]) - softmax(found[task].numpy())).max())
        if not math.isfinite(apart) or apart > MAX_DIFFERENCE:
            raise graph.unknown(f"read back, task {task!r} answers {apart:.2g} otherwise")
