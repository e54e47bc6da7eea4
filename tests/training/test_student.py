from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from newsie.errors import RecipeError
from newsie.labels import LabelSpace, Task
from newsie.training.encoder import load_encoder
from newsie.training.model import MultiTaskModel
from newsie.training.student import chosen_layers, student_from_teacher
from tests.tiny import LABELS, tiny_encoder, write_tiny_encoder


def model_of(directory: Path, kind: str = "bert", layers: int = 4) -> MultiTaskModel:
    encoder = load_encoder(str(write_tiny_encoder(directory, kind, layers)))
    return MultiTaskModel(encoder, LABELS).eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, 60, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask


def test_layers_are_spread_from_first_to_last() -> None:
    assert chosen_layers(12, 6) == [0, 2, 4, 7, 9, 11]  # the official choice of DistilBERT
    assert chosen_layers(6, 3) == [0, 2, 5]
    assert chosen_layers(6, 6) == list(range(6))
    assert chosen_layers(6, 1) == [0]


@pytest.mark.parametrize("layers", [0, 7])
def test_impossible_number_of_layers_is_refused(layers: int) -> None:
    with pytest.raises(RecipeError, match="may be 1 to 6"):
        chosen_layers(6, layers)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_student_of_all_layers_answers_as_its_teacher(kind: str, tmp_path: Path) -> None:
    teacher = model_of(tmp_path, kind)
    student = student_from_teacher(teacher, 4).eval()
    assert student.encoder.config.model_type == "distilbert"
    with torch.inference_mode():
        for task, logits in teacher(*inputs()).items():
            assert logits.shape == (3, len(LABELS[task].labels))
        ids, mask = inputs()
        torch.testing.assert_close(student(ids, mask), teacher(ids, mask), atol=1e-5, rtol=1e-4)


def test_a_thinner_student_keeps_the_chosen_layers_and_the_heads(tmp_path: Path) -> None:
    teacher = model_of(tmp_path)
    student = student_from_teacher(teacher, 2)
    ours, theirs = student.state_dict(), teacher.state_dict()
    for target, source in ((0, 0), (1, 3)):
        assert torch.equal(
            ours[f"encoder.transformer.layer.{target}.ffn.lin1.weight"],
            theirs[f"encoder.transformer.layer.{source}.ffn.lin1.weight"],
        )
    assert torch.equal(ours["heads.mood.classifier.weight"], theirs["heads.mood.classifier.weight"])


def test_another_type_of_teacher_needs_an_encoder_for_the_student(tmp_path: Path) -> None:
    teacher = model_of(tmp_path / "teacher", "modernbert")
    with pytest.raises(RecipeError, match="'modernbert'; allowed are distilbert, and bert"):
        student_from_teacher(teacher, 2)
    encoder = load_encoder(str(write_tiny_encoder(tmp_path / "own")))
    student = student_from_teacher(teacher, 2, encoder=encoder)
    assert student.encoder.config.n_layers == 2


def test_a_student_of_another_encoder_has_heads_of_its_own(tmp_path: Path) -> None:
    teacher = model_of(tmp_path)
    encoder = load_encoder(str(write_tiny_encoder(tmp_path / "own")))
    student = student_from_teacher(teacher, 2, encoder=encoder)
    ours, theirs = (model.heads["mood"].state_dict() for model in (student, teacher))
    assert ours["classifier.weight"].shape == theirs["classifier.weight"].shape
    assert not torch.equal(ours["classifier.weight"], theirs["classifier.weight"])


def test_a_bert_that_normalises_otherwise_is_told_so(tmp_path: Path) -> None:
    config = BertConfig.from_dict(tiny_encoder("bert").config.to_dict() | {"layer_norm_eps": 1e-5})
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    teacher = MultiTaskModel(load_encoder(str(tmp_path)), LABELS)
    with pytest.raises(RecipeError, match=r"a BERT with layer_norm_eps 1e-05; allowed .* 1e-12"):
        student_from_teacher(teacher, 2)


def test_a_model_comes_back_from_disk(tmp_path: Path) -> None:
    student = student_from_teacher(model_of(tmp_path / "teacher"), 2).eval()
    (tmp_path / "saved").mkdir()
    student.save(tmp_path / "saved")
    again = MultiTaskModel.load(tmp_path / "saved").eval()
    assert again.labels == student.labels
    assert again.fingerprint() == student.fingerprint()
    with torch.inference_mode():
        ids, mask = inputs()
        torch.testing.assert_close(again(ids, mask), student(ids, mask))


def test_a_head_is_that_of_distilbert() -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"dim": 32, "n_heads": 2, "n_layers": 2, "hidden_dim": 64, "vocab_size": 100}
    config = DistilBertConfig.from_dict({**sizes, "num_labels": 3, "initializer_range": 0.5})
    official = DistilBertForSequenceClassification(config)
    official.train(False)
    model = MultiTaskModel(official.distilbert, LABELS).eval()
    head = model.heads["section"]
    head.pre_classifier.load_state_dict(official.pre_classifier.state_dict())  # type: ignore[union-attr]
    head.classifier.load_state_dict(official.classifier.state_dict())  # type: ignore[union-attr]
    ids, mask = inputs()
    with torch.inference_mode():
        expected = official(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(model(ids, mask)["section"], expected, atol=1e-5, rtol=1e-4)


def test_a_fingerprint_is_of_names_values_and_labels() -> None:
    first = MultiTaskModel(tiny_encoder(), LABELS)
    state = {name: value.clone() for name, value in first.state_dict().items()}
    one, two = (task.labels for task in LABELS.tasks)
    other = LabelSpace((Task("section", one[::-1]), Task("mood", two)))
    prints = [first.fingerprint()]
    for labels in (LABELS, other):
        same = MultiTaskModel(tiny_encoder(), labels)
        same.load_state_dict(state)
        prints.append(same.fingerprint())
    with torch.no_grad():
        first.state_dict()["heads.mood.classifier.bias"][0] += 1
    prints.append(first.fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    # Two layers of one shape that change places: the same bytes under other names.
    swapped, head = MultiTaskModel(tiny_encoder(), LABELS), "heads.{}.pre_classifier.{}"
    exchanged = dict(state)
    for kind in ("weight", "bias"):
        a, b = head.format("mood", kind), head.format("section", kind)
        exchanged[a], exchanged[b] = state[b], state[a]
    swapped.load_state_dict(exchanged)
    assert swapped.fingerprint() not in prints
