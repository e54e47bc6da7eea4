from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from newsie.bundles.bundle import bundled_path
from newsie.errors import BundleError
from newsie.graph.graph import Graph


def external(name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    return tensor


def model(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(list(nodes), "location", [], [], list(weights)))


def in_subgraph() -> onnx.ModelProto:
    inner = helper.make_graph([], "inner", [], [], [external()])
    return model(helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner))


def in_function() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"], value=external())
    made = model()
    made.functions.append(helper.make_function("d", "f", [], ["c"], [node], []))
    return made


@pytest.mark.parametrize(
    "graph",
    [
        model(weights=(external(),)),
        model(helper.make_node("Constant", [], ["c"], value=external())),
        in_subgraph(),
        in_function(),
    ],
    ids=["initializer", "constant", "subgraph", "function"],
)
def test_weights_in_another_file_are_refused(graph: onnx.ModelProto) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx keeps weights in another file"):
        Graph(Path("b/model.onnx"), graph.SerializeToString()).check()


def test_numbers_that_are_padded_hide_nothing() -> None:
    content = model(helper.make_node("Constant", [], ["c"], value=external())).SerializeToString()
    key = b"\x0a\x08location"
    assert key in content
    with pytest.raises(BundleError, match="keeps weights in another file"):
        Graph(Path("m"), content).check()
    # The same key in a field of its own, with a tag and a length of two bytes each.
    for padded in (
        b"\x8a\x00\x08location",
        b"\x0a\x88\x00location",
        b"\x8a\x80\x00\x88\x80\x00location",
    ):
        field = bytes([0x7A, len(padded)]) + padded  # field 15 of the model
        with pytest.raises(BundleError, match="keeps weights in another file"):
            Graph(Path("m"), field).check()


def test_a_graph_in_one_file_is_fine(tiny_bundle: Path) -> None:
    named = model(helper.make_node("Identity", ["allocation"], ["relocation"], name="my location"))
    Graph(Path("m"), named.SerializeToString()).check()
    Graph.read(tiny_bundle / "model.onnx").check()
    Graph.read(bundled_path() / "model.onnx").check()


@pytest.mark.parametrize(
    "content", [b"no graph", b"\x3a\x7f", b"\x3a", b"\x0a\xff", b"\xff" * 20, b"\x0b\x0c"]
)
def test_what_is_no_graph(content: bytes) -> None:
    with pytest.raises(BundleError, match="it is not an ONNX graph"):
        Graph(Path("b/model.onnx"), content).check()
