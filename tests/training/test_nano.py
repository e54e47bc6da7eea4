from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from accelerate.state import AcceleratorState
from tokenizers import Tokenizer

from newsie.data.encoding import Encoder, EncodingPolicy, pad
from newsie.errors import BundleError, RecipeError
from newsie.graph.graph import Graph
from newsie.graph.quantize import quantize_int8
from newsie.inference.classifier import Classifier
from newsie.inference.openvino import OpenVinoSession
from newsie.inference.student import Ids, Logits, Student, import_onnxruntime
from newsie.training.config import Recipe, recipe_from
from newsie.training.export import check_parity, export_onnx
from newsie.training.model import MultiTaskModel
from newsie.training.nano import MULTIPLIER, NanoConfig, NanoEncoder, nano_student
from newsie.training.store import RunStore
from newsie.training.train import train
from tests.tiny import (
    LABELS,
    tiny_articles,
    tiny_tokenizer,
    write_tiny_corpus,
    write_tiny_encoder,
)

VOCABULARY = tiny_tokenizer().get_vocab_size()
PAIRS = 61
TOKENS = torch.randn(VOCABULARY, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def student() -> MultiTaskModel:
    torch.manual_seed(0)
    model = nano_student(LABELS, TOKENS, hidden_size=16, pairs=PAIRS).eval()
    torch.nn.init.normal_(model.encoder.vectors.weight)  # type: ignore[union-attr, arg-type]
    torch.nn.init.normal_(model.encoder.importance)  # type: ignore[arg-type]
    return model


def test_an_article_is_the_weighted_mean_of_its_tokens_and_pairs(student: MultiTaskModel) -> None:
    vectors = student.encoder.vectors.weight.detach()  # type: ignore[union-attr, operator]
    ids = [2, 7, 9, 3]
    pairs = [(a * MULTIPLIER + b) % PAIRS + VOCABULARY for a, b in pairwise(ids)]
    of_tokens = student.encoder.importance.detach().exp()[:4]  # type: ignore[operator]
    weights = torch.cat([of_tokens, of_tokens[1:]])
    mean = weights @ vectors[ids + pairs] / weights.sum()
    wanted = torch.nn.functional.layer_norm(mean, mean.shape)
    found = student.encoder(torch.tensor([ids]), torch.ones(1, 4, dtype=torch.int64))
    torch.testing.assert_close(found.last_hidden_state[0, 0], wanted)


def test_openvino_hashes_as_onnxruntime_does(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    torch.manual_seed(0)
    vocabulary = 20_000  # enough for products beyond 32 bits
    tokens = torch.randn(vocabulary, 12)
    wide = nano_student(LABELS, tokens, hidden_size=16, pairs=131_071).eval()
    torch.nn.init.normal_(wide.encoder.vectors.weight)  # type: ignore[union-attr, arg-type]
    export_onnx(wide, tmp_path / "float.onnx")
    quantize_int8(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    ids = np.random.default_rng(0).integers(vocabulary - 5_000, vocabulary, (8, 20))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    one = (
        import_onnxruntime()
        .InferenceSession(str(tmp_path / "int8.onnx"))
        .run(["section"], inputs)[0]
    )
    [other] = OpenVinoSession(Graph.read(tmp_path / "int8.onnx"), 1).run(["section"], inputs)
    np.testing.assert_allclose(other, one, atol=0.1 * np.abs(one).max())


def test_padding_changes_nothing_and_the_order_of_words_does(student: MultiTaskModel) -> None:
    ids, mask = pad([[2, 7, 9, 3], [2, 9, 7, 3], [2, 5, 6, 7, 8, 9, 3]], 0)
    together = student(torch.from_numpy(ids), torch.from_numpy(mask))["section"]
    for row, length in enumerate([4, 4, 7]):
        cut = torch.from_numpy(ids[row : row + 1, :length])
        torch.testing.assert_close(student(cut, torch.ones_like(cut))["section"][0], together[row])
    assert not torch.allclose(together[0], together[1])


def test_places_far_behind_weigh_as_the_last_that_has_a_weight() -> None:
    encoder = NanoEncoder(NanoConfig(VOCABULARY, 8, PAIRS, places=3))
    torch.nn.init.normal_(encoder.importance)  # of a new one vectors of pairs are 0
    ids = torch.tensor([[2, 7, 9, 8, 3], [2, 7, 8, 9, 3], [7, 2, 9, 8, 3]])
    swapped = encoder(ids, torch.ones_like(ids)).last_hidden_state
    torch.testing.assert_close(swapped[0], swapped[1])
    assert not torch.allclose(swapped[0], swapped[2])


def test_a_new_one_weighs_all_places_alike_and_knows_no_pairs() -> None:
    new = nano_student(LABELS, TOKENS, hidden_size=8, pairs=PAIRS)
    vectors = new.encoder.vectors.weight  # type: ignore[union-attr]
    assert not new.encoder.importance.any()  # type: ignore[operator]
    assert vectors[:VOCABULARY].abs().sum() > 0 == vectors[VOCABULARY:].abs().sum()  # type: ignore[index]


def test_its_tokens_begin_where_those_of_a_larger_encoder_lie() -> None:
    plane = torch.randn(VOCABULARY, 2) @ torch.randn(2, 12)  # two axes hold all there is
    new = nano_student(LABELS, plane + 3, hidden_size=2, pairs=PAIRS)
    vectors = new.encoder.vectors.weight[:VOCABULARY]  # type: ignore[union-attr, index]
    torch.testing.assert_close(vectors.std(), torch.tensor(0.05))
    centred = plane - plane.mean(dim=0)
    found, wanted = vectors @ vectors.T, centred @ centred.T  # how each lies to each
    torch.testing.assert_close(found / found.max(), wanted / wanted.max(), atol=1e-4, rtol=1e-3)


def test_it_may_be_wider_than_that_encoder() -> None:
    new = nano_student(LABELS, TOKENS, hidden_size=20, pairs=PAIRS)
    assert new.encoder.vectors.weight[:VOCABULARY].abs().min(dim=1).values.gt(0).all()  # type: ignore[union-attr, index]


def test_tokens_are_left_out_only_while_it_learns() -> None:
    new = nano_student(LABELS, TOKENS, hidden_size=8, pairs=PAIRS, dropout=0.5)
    ids = torch.arange(5, 45)[None]
    once, again = (new.train()(ids, torch.ones_like(ids))["mood"] for _ in range(2))
    assert not torch.equal(once, again)
    once, again = (new.eval()(ids, torch.ones_like(ids))["mood"] for _ in range(2))
    assert torch.equal(once, again)


def test_it_is_saved_and_loaded_like_any_student(student: MultiTaskModel, tmp_path: Path) -> None:
    student.save(tmp_path)
    loaded = MultiTaskModel.load(tmp_path)
    assert loaded.fingerprint() == student.fingerprint()
    assert loaded.encoder.config.pairs == PAIRS


def test_its_graphs_answer_as_it_does(student: MultiTaskModel, tmp_path: Path) -> None:
    exact, int8 = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    export_onnx(student, exact)
    quantize_int8(exact, int8)
    encoder = Encoder(tiny_tokenizer(), EncodingPolicy(300))
    articles = [*tiny_articles(40), *tiny_articles(1)]
    ids = encoder.encode(articles).ids
    ids.append([2, *[7, 8] * 400, 3])  # longer than any position of a transformer
    parity = check_parity(student, exact, int8, ids)
    parity.check()
    assert parity.int8["section"].labels > 0.9
    # a vector is multiplied once, as it is added up: its scale went to its weight in the mean
    nodes = {output: node for node in onnx.load(int8).graph.node for output in node.output}
    mean = next(node for node in nodes.values() if node.op_type == "MatMul")
    assert [nodes[name].op_type for name in mean.input] == ["Mul", "Cast"]
    # and no product of ids is taken modulo anything: it would be too large for OpenVINO
    modulo = next(node for node in nodes.values() if node.op_type == "Mod")
    assert "Mul" not in {nodes[name].op_type for name in nodes[modulo.input[0]].input}
    session = import_onnxruntime().InferenceSession(str(int8), providers=["CPUExecutionProvider"])
    shortest = {"input_ids": np.array([[7]]), "attention_mask": np.array([[1]])}
    assert session.run(["mood"], shortest)[0].shape == (1, 2)


def test_it_is_asked_in_large_batches(
    student: MultiTaskModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_onnx(student, tmp_path / "float.onnx")
    quantize_int8(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    model = Student(Graph.read(tmp_path / "int8.onnx"), student.labels, pad_id=0, threads=1)
    sizes = []
    run_batch = model.run_batch

    def note_size(ids: Ids, tasks: Sequence[str]) -> Logits:
        sizes.append(len(ids) * len(ids[0]))
        return run_batch(ids, tasks)

    monkeypatch.setattr(model, "run_batch", note_size)
    model.run([[2, *[7] * 30, 3]] * 300, ["mood"])
    assert sorted(sizes) == [9_600 - 8_192, 8_192]


def test_a_graph_whose_batches_are_no_number_is_refused(
    student: MultiTaskModel, tmp_path: Path
) -> None:
    export_onnx(student, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.helper.set_model_props(graph, {"newsie.batch_tokens": "many"})
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(BundleError, match=r"batch_tokens is 'many'.*export it again"):
        Student(Graph.read(tmp_path / "model.onnx"), student.labels, pad_id=0, threads=1)


def test_a_recipe_has_a_ladder() -> None:
    recipe = _recipe(ladder={"nano": {"kind": "nano", "pairs": 61}, "small": {"layers": 2}})
    nano = recipe.rung("nano")
    assert (nano.name, nano.student.name, nano.student.pairs) == ("r", "nano", 61)
    assert nano.data == recipe.data
    assert not nano.ladder
    with pytest.raises(RecipeError, match=r"no student 'tiny'; its ladder has: nano, small"):
        recipe.rung("tiny")
    with pytest.raises(RecipeError, match="has: none"):
        _recipe().rung("nano")


def _recipe(**changes: object) -> Recipe:
    data = {"corpora": [{"name": "a", "train": "a.csv"}], "tasks": [{"name": "section"}]}
    return recipe_from({"name": "r", "data": data} | changes)


@pytest.mark.slow
def test_a_ladder_is_made_of_one_teacher(tmp_path: Path) -> None:
    write_tiny_corpus(tmp_path / "train.jsonl", 300)
    write_tiny_corpus(tmp_path / "test.jsonl", 60, seed=1)
    write_tiny_encoder(tmp_path / "bert")
    fit = {"epochs": 1, "batch_size": 32, "max_tokens": 24, "evaluations": 1}
    nano = {"kind": "nano", "pairs": 251, "hidden_size": 16, "max_tokens": 64, "teacher_tokens": 24}
    nano["vocabulary"] = 100  # its word pieces are fewer than the teacher's
    nano["fit"] = fit | {"epochs": 8, "max_tokens": 40, "learning_rate": 1e-2, "dropout": 0.1}
    recipe = recipe_from(
        {
            "name": "tiny",
            "precision": "fp32",
            "data": {
                "corpora": [{"name": "tiny", "train": "train.jsonl", "test": "test.jsonl"}],
                "tasks": [{"name": "section"}, {"name": "mood"}],
                "validation": 0.2,
            },
            "teacher": {"encoder": str(tmp_path / "bert"), "fit": fit | {"learning_rate": 2e-3}},
            "student": {"layers": 1, "fit": fit},
            "ladder": {"nano": nano},
            "quality": {"max_int8_loss": 50.0},
        }
    )
    store = RunStore(tmp_path / "runs" / "tiny", precision="fp32")
    trained = train(recipe.rung("nano"), store, data=tmp_path)
    assert trained is not None
    bundle = trained.bundle
    AcceleratorState._reset_state(True)
    assert bundle.manifest.name == "nano"
    assert Tokenizer.from_file(str(bundle.tokenizer_path)).get_vocab_size() == 100
    assert bundle.manifest.lineage.recipe["student"]["kind"] == "nano"
    articles = tiny_articles(60, seed=2, answered=1.0)
    answers = Classifier(bundle).classify(articles)
    pairs = zip(answers, articles, strict=True)
    assert sum(p.label("section") == a.labels["section"] for p, a in pairs) > 40  # chance: 20
    kinds = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "runs" / "tiny").iterdir()}
    assert {"teacher", "soft-labels", "student", "bundle"} <= kinds
