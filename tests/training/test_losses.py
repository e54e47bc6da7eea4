from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from newsie.errors import TrainingError
from newsie.labels import IGNORE
from newsie.training.batches import MicroBatch
from newsie.training.losses import DistillationLoss, HardLoss, hard_loss, soft_loss, standardise


def batch(labels: Tensor, soft: Tensor | None = None) -> MicroBatch:
    ids = torch.ones(len(labels), 2, dtype=torch.int64)
    return MicroBatch(
        ids,
        ids,
        {"section": labels},
        None if soft is None else {"section": soft},
        {"section": int((labels != IGNORE).sum())},
        len(labels),
    )


def test_hard_loss_by_hand() -> None:
    # softmax(0, ln 3) = (1/4, 3/4): the first article costs ln 4, the second ln(4/3), the third nothing.
    logits = torch.tensor([[0.0, math.log(3)]]).repeat(3, 1)
    value = hard_loss(logits, torch.tensor([0, 1, IGNORE]))
    assert value.item() == pytest.approx(math.log(4) + math.log(4 / 3))


def test_soft_loss_by_hand() -> None:
    # At T = 2: teacher softmax(0, ln 9 / 2) = (1/4, 3/4), student (1/2, 1/2).
    teacher, student = torch.tensor([[0.0, math.log(9)]]), torch.zeros(1, 2)
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert soft_loss(student, teacher, 2.0).item() == pytest.approx(4 * divergence)


def test_soft_loss_is_zero_only_for_equal_distributions() -> None:
    teacher = torch.randn(5, 4)
    assert soft_loss(teacher + 3, teacher, 3.0).item() == pytest.approx(0, abs=1e-5)
    assert soft_loss(teacher * 2, teacher, 3.0).item() > 0.01


def test_size_of_soft_gradient_does_not_fade_with_temperature() -> None:
    torch.manual_seed(0)
    teacher, start = torch.randn(64, 10), torch.randn(64, 10)
    norms = []
    for temperature in (4.0, 8.0, 16.0):
        student = start.clone().requires_grad_()
        soft_loss(student, teacher, temperature).backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    assert max(norms) / min(norms) < 1.1


def test_standardised_rows_have_mean_0_and_deviation_1_and_forget_scale() -> None:
    logits = torch.randn(6, 5)
    z = standardise(logits)
    torch.testing.assert_close(z.mean(-1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(-1, unbiased=False), torch.ones(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardise(3 * logits + 7), z, atol=1e-4, rtol=1e-4)


@given(alpha=st.floats(0, 1), temperature=st.floats(1, 8))
def test_distillation_lies_between_its_ends_and_is_linear_in_alpha(
    alpha: float, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = torch.randn(4, 3, generator=generator)
    logits = {"section": torch.randn(4, 3, generator=generator)}
    piece = batch(torch.tensor([0, 2, IGNORE, 1]), teacher)
    soft, hard, both = (
        DistillationLoss(temperature, a)(logits, piece).item() for a in (0.0, 1.0, alpha)
    )
    assert both == pytest.approx(alpha * hard + (1 - alpha) * soft, rel=1e-4, abs=1e-5)
    assert hard == pytest.approx(HardLoss({})(logits, piece).item())


def test_shares_of_a_cut_batch_add_up() -> None:
    teacher, answer = torch.randn(6, 3), torch.randn(6, 3)
    labels = torch.tensor([0, IGNORE, 2, 1, IGNORE, IGNORE])
    loss = DistillationLoss(2.0, 0.3)
    whole = loss({"section": answer}, batch(labels, teacher))
    parts = [
        loss(
            {"section": answer[rows]},
            MicroBatch(
                torch.ones(3, 2),
                torch.ones(3, 2),
                {"section": labels[rows]},
                {"section": teacher[rows]},
                {"section": 3},
                6,
            ),
        )
        for rows in (slice(0, 3), slice(3, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_task_without_labels_gives_zero_and_a_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    value = HardLoss({})({"section": logits}, batch(torch.tensor([IGNORE, IGNORE])))
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum().item() == 0


def test_weights_scale_a_task() -> None:
    logits, piece = {"section": torch.randn(2, 3)}, batch(torch.tensor([0, 1]))
    once, twice = (HardLoss({"section": w})(logits, piece).item() for w in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)


def test_two_temperatures_are_refused() -> None:
    with pytest.raises(
        TrainingError, match=r"one temperature .* 4\.0 for the teacher, 2\.0 for the"
    ):
        DistillationLoss(2.0, 0.5, teacher_temperature=4.0)


def test_distillation_without_soft_labels_is_refused() -> None:
    with pytest.raises(TrainingError, match="needs soft labels"):
        DistillationLoss(2.0, 0.5)({"section": torch.randn(1, 3)}, batch(torch.tensor([0])))
