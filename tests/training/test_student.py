from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from newsie.errors import RecipeError
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
