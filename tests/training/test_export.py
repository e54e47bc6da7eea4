from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from newsie.data.encoding import Encoder, EncodingPolicy, pad
from newsie.errors import QualityGateError, TrainingError
from newsie.graph.quantize import quantize_int8
from newsie.inference.student import import_onnxruntime
from newsie.training.encoder import load_encoder
from newsie.training.export import Agreement, Parity, check_parity, export_onnx
from newsie.training.model import MultiTaskModel
from tests.tiny import LABELS, tiny_articles, tiny_tokenizer, write_tiny_encoder

Graphs = tuple[Path, Path]


@pytest.fixture(scope="module")
def graphs(tiny_student: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    directory = tmp_path_factory.mktemp("graphs")
    export_onnx(tiny_student, directory / "float.onnx")
    quantize_int8(directory / "float.onnx", directory / "int8.onnx")
    return directory / "float.onnx", directory / "int8.onnx"


def run(path: Path, input_ids: NDArray[Any], mask: NDArray[Any]) -> dict[str, NDArray[Any]]:
    session = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers = session.run(None, {"input_ids": input_ids, "attention_mask": mask})
    return dict(zip([output.name for output in session.get_outputs()], answers, strict=True))


def padded_batch(width: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Four articles of unlike length, padded to `width` more tokens than is needed."""
    random = np.random.default_rng(0)
    rows = [random.integers(5, 60, length).tolist() for length in (3, 20, 7, 32)]
    input_ids, mask = pad(rows, 0)
    return np.pad(input_ids, ((0, 0), (0, width))), np.pad(mask, ((0, 0), (0, width)))


def test_the_graph_computes_what_the_model_computes(
    tiny_student: MultiTaskModel, graphs: Graphs
) -> None:
    input_ids, mask = padded_batch()
    with torch.no_grad():
        wanted = tiny_student(torch.from_numpy(input_ids), torch.from_numpy(mask))
    found = run(graphs[0], input_ids, mask)
    assert list(found) == ["section", "mood"]
    for task, logits in wanted.items():
        assert found[task].dtype == np.float32
        np.testing.assert_allclose(found[task], logits.numpy(), atol=2e-5)


def test_int8_is_close(graphs: Graphs) -> None:
    input_ids, mask = padded_batch()
    exact, int8 = (run(path, input_ids, mask) for path in graphs)
    for task, logits in exact.items():
        spread = np.ptp(logits)
        assert spread > 1  # else there is nothing to be close to
        assert 0 < np.abs(int8[task] - logits).max() < 0.05 * spread


@pytest.mark.parametrize("form", [0, 1], ids=["float", "int8"])
def test_answers_do_not_depend_on_batch_or_padding(graphs: Graphs, form: int) -> None:
    input_ids, mask = padded_batch()
    together = run(graphs[form], input_ids, mask)
    wider = run(graphs[form], *padded_batch(width=20))
    for task, logits in together.items():
        np.testing.assert_allclose(wider[task], logits, atol=2e-5)
        for row in range(len(input_ids)):
            length = int(mask[row].sum())
            alone = run(
                graphs[form], input_ids[row : row + 1, :length], mask[row : row + 1, :length]
            )
            np.testing.assert_allclose(alone[task][0], logits[row], atol=2e-5)


def test_what_padding_holds_does_not_matter(graphs: Graphs) -> None:
    input_ids, mask = padded_batch()
    other = np.where(mask == 1, input_ids, 59)
    for path in graphs:
        for task, logits in run(path, input_ids, mask).items():
            np.testing.assert_array_equal(run(path, other, mask)[task], logits)


def test_every_product_with_weights_is_int8(graphs: Graphs) -> None:
    import onnx

    exact, int8 = (onnx.load(path).graph for path in graphs)
    weights = {t.name for t in exact.initializer if len(t.dims) == 2 and t.data_type == 1}
    products = [n for n in exact.node if n.op_type in ("MatMul", "Gemm") and weights & {*n.input}]
    assert sum(n.op_type == "MatMulIntegerToFloat" for n in int8.node) == len(products) == 16
    # No float matrix is left, the embeddings included; only columns of scales are.
    large = [
        t.name
        for t in int8.initializer
        if t.data_type == 1 and len(t.dims) == 2 and not t.name.endswith("_scale")
    ]
    assert large == []
    assert graphs[1].stat().st_size < 0.6 * graphs[0].stat().st_size


def test_embeddings_survive_int8(tiny_student: MultiTaskModel, graphs: Graphs) -> None:
    import onnx
    from onnx import numpy_helper

    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(graphs[1]).graph.initializer}
    (name,) = (
        n.removesuffix("_int8") for n in tensors if n.endswith("word_embeddings.weight_int8")
    )
    wanted = tiny_student.state_dict()["encoder.embeddings.word_embeddings.weight"].numpy()
    found = tensors[f"{name}_int8"] * tensors[f"{name}_scale"]
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() / 254 * 1.001


def test_rows_of_zeros_have_answers(tmp_path: Path, tiny_student: MultiTaskModel) -> None:
    state = {name: value.clone() for name, value in tiny_student.state_dict().items()}
    student = MultiTaskModel(
        load_encoder(str(write_tiny_encoder(tmp_path / "encoder", "distilbert"))), LABELS
    )
    student.load_state_dict(state)
    with torch.no_grad():
        for parameter in student.encoder.parameters():
            parameter.zero_()  # every activation is 0, and so would be its scale
    export_onnx(student, tmp_path / "float.onnx")
    quantize_int8(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    exact, int8 = (run(tmp_path / n, *padded_batch()) for n in ("float.onnx", "int8.onnx"))
    for task, logits in exact.items():
        np.testing.assert_allclose(int8[task], logits, atol=1e-5)


def test_the_model_is_left_as_it_was(
    tiny_student: MultiTaskModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {name: value.clone() for name, value in tiny_student.state_dict().items()}
    tiny_student.train()
    try:
        export_onnx(tiny_student, tmp_path / "model.onnx")
        assert tiny_student.training
        assert all(module.training for module in tiny_student.modules())
    finally:
        tiny_student.eval()
    assert all(
        torch.equal(before[name], value) for name, value in tiny_student.state_dict().items()
    )
    assert capfd.readouterr() == ("", "")


def test_only_students_are_exported(tmp_path: Path) -> None:
    teacher = MultiTaskModel(
        load_encoder(str(write_tiny_encoder(tmp_path / "e", "modernbert"))), LABELS
    )
    with pytest.raises(TrainingError, match="ModernBertModel"):
        export_onnx(teacher, tmp_path / "model.onnx")


def test_parity_of_a_student_with_its_graphs(tiny_student: MultiTaskModel, graphs: Graphs) -> None:
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(32))
    ids = encoder.encode(tiny_articles(60)).ids
    parity = check_parity(tiny_student, *graphs, ids)
    assert set(parity.onnx) == set(parity.int8) == {"section", "mood"}
    for found in parity.onnx.values():
        assert found.labels == 1.0
        assert found.mean_difference <= found.max_difference < 1e-5
    for found in parity.int8.values():
        assert 1e-5 < found.mean_difference < found.max_difference < 0.2
    parity.check()
    assert parity.to_json()["int8"]["mood"]["labels"] == parity.int8["mood"].labels


def test_parity_sees_another_model(tiny_student: MultiTaskModel, graphs: Graphs) -> None:
    other = MultiTaskModel(tiny_student.encoder, LABELS).eval()
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(32))
    parity = check_parity(other, *graphs, encoder.encode(tiny_articles(20)).ids)
    with pytest.raises(QualityGateError, match="the export is wrong"):
        parity.check()


def test_parity_is_compared_with_bounds() -> None:
    good = Agreement(max_difference=1e-6, mean_difference=1e-7, labels=1.0)
    parity = Parity({"section": good}, {"section": replace(good, mean_difference=0.015)})
    parity.check(max_onnx_difference=1e-6)
    with pytest.raises(QualityGateError, match=r"'section'.*int8 graph is 0\.015 off"):
        parity.check(max_int8_difference=0.01)
    with pytest.raises(QualityGateError, match=r"'section'.*1e-06 off"):
        parity.check(max_onnx_difference=1e-7)
