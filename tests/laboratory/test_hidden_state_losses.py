from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from newsie.errors import RecipeError
from newsie.laboratory.hidden_state_losses import (
    HiddenLoss,
    Routes,
    check_tokens,
    relation_loss,
    state_loss,
)
from newsie.training.batches import MicroBatch
from newsie.training.config import DistillationConfig, HiddenName, StudentConfig
from newsie.training.losses import HardLoss
from newsie.training.model import MultiTaskModel
from newsie.training.student import student_from_teacher
from tests.tiny import LABELS, tiny_encoder


def teacher(layers: int = 3) -> MultiTaskModel:
    torch.manual_seed(0)
    return MultiTaskModel(tiny_encoder("distilbert", layers), LABELS)


def batch(progress: float = 0.0, padding: int = 0) -> MicroBatch:
    ids = torch.randint(5, 60, (4, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids = torch.nn.functional.pad(ids, (0, padding))
    mask = torch.nn.functional.pad(mask, (0, padding))
    labels = {"section": torch.tensor([0, 1, 2, 0]), "mood": torch.tensor([0, 1, 0, 1])}
    return MicroBatch(ids, mask, labels, None, {"section": 4, "mood": 4}, 4, progress)


def hidden_part(student: MultiTaskModel, loss: HiddenLoss, piece: MicroBatch) -> Tensor:
    student.train()
    logits = student(piece.input_ids, piece.attention_mask)
    return loss(logits, piece) - HardLoss({})(logits, piece)


def test_relations_by_hand() -> None:
    # Two tokens, one head of width 1. Student: A = (0, 0), all relations (1/2, 1/2). Teacher: A = (a, 0)
    # with a^2 = ln 3: the first token's relations are (3/4, 1/4), the second's (1/2, 1/2).
    student = torch.zeros(1, 2, 1)
    teach = torch.tensor([[[math.sqrt(math.log(3))], [0.0]]])
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = relation_loss(student, teach, torch.ones(1, 2), heads=1)
    assert found.item() == pytest.approx(divergence / 2)


def test_states_by_hand() -> None:
    # Normalised, (0, 2) is (-1, 1) and (5, 1) is (1, -1): squares of 2, mean 4. The second token is equal.
    student = torch.tensor([[[0.0, 2.0], [1.0, 3.0]]])
    teach = torch.tensor([[[5.0, 1.0], [0.0, 9.0]]])
    assert state_loss(student, teach, torch.ones(1, 2)).item() == pytest.approx(2, rel=1e-3)


def test_states_of_padding_are_not_compared() -> None:
    # Normalised, each token is (-1, 1) in the student and (1, -1) in the teacher: a mean of 4.
    student = torch.tensor([[[0.0, 2.0], [1.0, 3.0]]])
    teach = torch.tensor([[[5.0, 1.0], [9.0, 0.0]]])
    assert state_loss(student, teach, torch.ones(1, 2)).item() == pytest.approx(4, rel=1e-3)
    teach = torch.tensor([[[0.0, 9.0], [9.0, 0.0]]])  # only the second one differs
    masked = state_loss(student, teach, torch.tensor([[1, 0]]))
    assert masked.item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", ["relations", "projection"])
def test_a_copy_of_the_teacher_has_nothing_to_learn_and_padding_changes_nothing(
    kind: HiddenName,
) -> None:
    model = teacher()
    copy, thin = student_from_teacher(model, 3), student_from_teacher(model, 2)
    for student, is_zero in ((copy, True), (thin, False)):
        loss = HiddenLoss(HardLoss({}), model, kind, 1.0)
        loss.attach(student)
        if kind == "projection":
            assert isinstance(student.routes, Routes)
            own = [float(t == s) for t, s in student.routes.pairs]
            student.routes.alive.copy_(torch.tensor(own))
        plain, padded = (hidden_part(student, loss, batch(padding=n)).item() for n in (0, 5))
        assert padded == pytest.approx(plain, abs=1e-4)
        assert (plain < 1e-4) is (
            is_zero or kind == "projection"
        )  # states before layer 1 are equal


@pytest.mark.parametrize("kind", ["relations", "projection"])
def test_the_teacher_reads_without_dropout_and_gets_no_gradient(kind: HiddenName) -> None:
    torch.manual_seed(0)
    model = MultiTaskModel(tiny_encoder("distilbert", 3, dropout=0.5), LABELS, 0.5).train()
    student = student_from_teacher(model, 3)  # its dropout is 0
    loss = HiddenLoss(HardLoss({}), model, kind, 1.0)
    loss.attach(student)
    if kind == "projection":
        assert isinstance(student.routes, Routes)
        student.routes.alive.copy_(torch.tensor([float(t == s) for t, s in student.routes.pairs]))
    value = hidden_part(student, loss, batch())
    assert value.item() == pytest.approx(0, abs=1e-4)  # a copy relates tokens as its teacher does
    value.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in loss.teacher.parameters())


def test_the_hidden_part_is_a_mean_over_the_batch_with_its_weight() -> None:
    model = teacher()
    student = student_from_teacher(model, 2)
    value = {}
    for weight, size in ((1.0, 4), (3.0, 4), (1.0, 8)):
        loss = HiddenLoss(HardLoss({}), model, "relations", weight)
        loss.attach(student)
        value[weight, size] = hidden_part(student, loss, replace(batch(), size=size)).item()
    assert value[3.0, 4] == pytest.approx(3 * value[1.0, 4], rel=1e-4)
    assert value[1.0, 8] == pytest.approx(value[1.0, 4] / 2, rel=1e-4)


def test_a_route_remembers_its_running_mean() -> None:
    routes = Routes([(0, 0)], (2, 2))  # the projection of equal widths begins as it is
    mask = torch.ones(1, 1)

    def see(student: tuple[float, float]) -> float:
        states = {0: torch.tensor([[student]])}
        routes(states, {0: torch.tensor([[[0.0, 1.0]]])}, mask)
        return routes.mean_loss.item()

    # Normalised, (0, 1) is (-1, 1): opposite states differ by 4 on the mean, equal ones by nothing.
    assert see((1.0, 0.0)) == pytest.approx(4, rel=1e-3)
    assert see((0.0, 1.0)) == pytest.approx(0.9 * 4, rel=1e-3)


@pytest.mark.parametrize("kind", ["relations", "projection"])
def test_the_student_learns_to_resemble_its_teacher(kind: HiddenName) -> None:
    model = teacher()
    student = student_from_teacher(model, 2)
    loss = HiddenLoss(HardLoss({}), model, kind, 1.0)
    loss.attach(student)
    before = [p.clone() for p in model.parameters()]
    optimizer = torch.optim.Adam(student.parameters(), 1e-3)
    values = []
    for _ in range(15):
        value = hidden_part(student, loss, batch())
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_worse_half_of_the_routes_is_dropped_again_and_again() -> None:
    routes = Routes([(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)], (4, 4))
    routes.mean_loss.copy_(torch.tensor([0.5, 0.1, 0.4, 0.2, 0.3]))
    left = []
    for progress in (0.0, 0.09, 0.1, 0.2, 0.3, 1.0):
        routes.select(progress)
        left.append(routes.alive.nonzero().flatten().tolist())
    assert left == [[0, 1, 2, 3, 4]] * 2 + [[1, 3, 4], [1, 3], [1], [1]]


def test_routes_are_kept_in_checkpoints_and_not_in_the_model(tmp_path: Path) -> None:
    model = teacher()
    student = student_from_teacher(model, 2)
    loss = HiddenLoss(HardLoss({}), model, "projection", 1.0)
    loss.attach(student)
    with torch.no_grad():
        for weight in student.routes.parameters():  # type: ignore[union-attr]
            weight.add_(0.1 * torch.randn_like(weight))
    hidden_part(student, loss, batch(progress=0.5))
    state = student.state_dict()
    assert state["routes.alive"].sum() == 1
    assert (state["routes.mean_loss"] > 0).tolist() == (state["routes.alive"] > 0).tolist()
    student.save(tmp_path)
    assert not any("routes" in name for name in MultiTaskModel.load(tmp_path).state_dict())


def test_what_cannot_be_compared_is_refused() -> None:
    torch.manual_seed(0)
    other = MultiTaskModel(tiny_encoder("modernbert"), LABELS)
    with pytest.raises(
        RecipeError, match=r"needs a BERT or DistilBERT as teacher; .* 'modernbert'"
    ):
        HiddenLoss(HardLoss({}), other, "relations", 1.0)
    config = StudentConfig(distillation=DistillationConfig(hidden="relations"))
    check_tokens(config)
    changed: list[dict[str, Any]] = [{"vocabulary": 8_000}, {"encoder": "minilm"}, {"kind": "nano"}]
    for changes in changed:
        with pytest.raises(
            RecipeError, match=r"hidden = 'relations' needs a student of the teacher's"
        ):
            check_tokens(replace(config, **changes))
    both = DistillationConfig(hidden="relations", mixtures="boundary")
    with pytest.raises(RecipeError, match="cannot be combined"):
        check_tokens(StudentConfig(distillation=both))


def test_a_relation_is_scaled_by_its_width() -> None:
    # Width 4 with a^2 = 2 ln 3: divided by sqrt(4), the relations are those of the test by hand.
    student, teach = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)
    teach[0, 0, 0] = math.sqrt(2 * math.log(3))
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = relation_loss(student, teach, torch.ones(1, 2), heads=1)
    assert found.item() == pytest.approx(divergence / 2)
