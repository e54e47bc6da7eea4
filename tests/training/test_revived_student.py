from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from newsie.bundles.bundle import Bundle, bundled_path, read_bundle, write_bundle
from newsie.data.articles import Article
from newsie.data.readers import read_articles
from newsie.errors import BundleError
from newsie.inference.classifier import Classifier
from newsie.metrics.evaluation import softmax
from newsie.training.batches import TokenStore
from newsie.training.model import MultiTaskModel
from newsie.training.revived_student import revive_student
from newsie.training.soft_labels import compute_logits
from tests.tiny import tiny_articles

SAMPLE = Path(__file__).parents[2] / "data" / "sample" / "articles.jsonl"


def differences(bundle: Bundle, articles: list[Article]) -> dict[str, np.ndarray]:
    """(N,) largest difference of a probability between the bundle and the revived student, by task."""
    classifier, model = Classifier(bundle, threads=1), revive_student(bundle)
    store = TokenStore.from_rows(classifier.encode(articles).ids, 0)
    rows = np.arange(len(store))
    found = compute_logits([model], store, rows, max_tokens=256, device=torch.device("cpu"))
    wanted = classifier.logits(articles)
    return {t: np.abs(softmax(wanted[t]) - softmax(found[t])).max(axis=1) for t in wanted}


def test_the_tiny_student_answers_as_its_bundle(tiny_bundle: Path) -> None:
    for apart in differences(read_bundle(tiny_bundle), tiny_articles(200)).values():
        assert apart.mean() < 0.02  # what a bundle may be off its float student


def test_the_bundled_student_answers_as_its_bundle() -> None:
    articles = read_articles(SAMPLE)[:200]
    for apart in differences(read_bundle(bundled_path()), articles).values():
        assert apart.mean() < 0.02


def test_weights_are_those_of_the_float_student_but_for_rounding(
    tiny_bundle: Path, tiny_student: MultiTaskModel
) -> None:
    wanted, found = tiny_student.state_dict(), revive_student(read_bundle(tiny_bundle)).state_dict()
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        steps = (value - found[name]).abs().max() / value.abs().max().clamp(min=1e-9)
        assert steps <= 0.51 * 2 / 127, (
            name
        )  # half a step, and a step is up to 2 / 127 of the largest


def test_labels_are_the_bundle_s(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    assert revive_student(bundle).labels == bundle.manifest.label_space


def altered(tiny_bundle: Path, target: Path, name: str, value: float | None) -> Bundle:
    """The tiny bundle with one tensor scaled, or renamed."""
    graph = onnx.load(tiny_bundle / "model.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name == name and value is not None:
            numbers = numpy_helper.to_array(tensor) * np.float32(value)
            tensor.CopyFrom(numpy_helper.from_array(numbers, name))
    if value is None:
        for tensor in graph.graph.initializer:
            tensor.name = tensor.name.replace("model.", "other.")
        for node in graph.graph.node:
            for number, given in enumerate(node.input):
                node.input[number] = given.replace("model.", "other.")
    onnx.save(graph, target.with_suffix(".onnx"))
    manifest = read_bundle(tiny_bundle).manifest
    return write_bundle(
        target,
        name="altered",
        label_space=manifest.label_space,
        encoding=manifest.encoding,
        calibration=manifest.calibration,
        model=target.with_suffix(".onnx"),
        tokenizer=(tiny_bundle / "tokenizer.json").read_text(),
        card="",
    )


def test_a_graph_of_another_make_says_what_to_do(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = altered(tiny_bundle, tmp_path / "renamed", "", None)
    with pytest.raises(BundleError, match=r"not a graph that this Newsie exports.*retrain from"):
        revive_student(bundle)


def test_a_graph_that_computes_something_else_is_noticed(tiny_bundle: Path, tmp_path: Path) -> None:
    graph = onnx.load(tiny_bundle / "model.onnx").graph
    # What queries are multiplied by is taken for the size of a head, and nothing else.
    config = revive_student(read_bundle(tiny_bundle)).encoder.config
    scales = {
        tensor.name
        for tensor in graph.initializer
        if not tensor.dims
        and np.isclose(numpy_helper.to_array(tensor), (config.dim // config.n_heads) ** -0.5)
    }
    scale = next(
        node.input[1] for node in graph.node if node.op_type == "Mul" and node.input[1] in scales
    )
    with pytest.raises(BundleError, match="cannot be read back"):
        revive_student(altered(tiny_bundle, tmp_path / "odd", scale, 2.5))


def test_biases_of_zero_which_an_export_leaves_out_are_zero(tiny_bundle: Path) -> None:
    names = {t.name for t in onnx.load(tiny_bundle / "model.onnx").graph.initializer}
    assert "model.heads.mood.pre_classifier.bias" not in names
    model = revive_student(read_bundle(tiny_bundle))
    assert not model.state_dict()["heads.mood.pre_classifier.bias"].any()
