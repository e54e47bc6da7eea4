"""Reconstruction of a trainable float student from a bundle, which contains only its int8 graph."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DistilBertConfig, DistilBertModel

from newsie.bundles.bundle import Bundle
from newsie.graph.graph import Graph
from newsie.graph.weights import StudentGraph
from newsie.inference.student import Student
from newsie.metrics.evaluation import softmax
from newsie.training.model import MultiTaskModel

__all__ = ["revive_student"]

Floats = NDArray[np.float32]

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
    graph = StudentGraph(bundle)
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


def _configuration(graph: StudentGraph, weights: dict[str, Floats]) -> DistilBertConfig:
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


def _check_answers(model: MultiTaskModel, bundle: Bundle, graph: StudentGraph) -> None:
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
