from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from newsie.training.config import SoftLossName
from newsie.training.soft_losses import (
    OTHERS_WEIGHT,
    SOFT_LOSSES,
    correlation_loss,
    decoupled_loss,
    soft_loss,
    standardise,
    standardised_loss,
    top_label_loss,
)

NAMES = sorted(SOFT_LOSSES)
NOBODY = torch.zeros(0, dtype=torch.int64)
"""The target, for losses that do not look at it."""


def logs(*probabilities: float) -> Tensor:
    """One row of logits whose softmax is given."""
    return torch.tensor([probabilities]).log()


def random_logits(seed: int, rows: int = 5, labels: int = 4) -> Tensor:
    return 2 * torch.randn(rows, labels, generator=torch.Generator().manual_seed(seed))


def test_soft_loss_by_hand() -> None:
    # At T = 2: teacher softmax(0, ln 9 / 2) = (1/4, 3/4), student (1/2, 1/2).
    teacher, student = torch.tensor([[0.0, math.log(9)]]), torch.zeros(1, 2)
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert soft_loss(student, teacher, NOBODY, 2.0).item() == pytest.approx(4 * divergence)


def test_decoupled_loss_by_hand() -> None:
    # Target 0: (1/2, 1/2) against (1/4, 3/4); the others (1/2, 1/2) against (1/3, 2/3).
    teacher, student = logs(0.5, 0.25, 0.25), logs(0.25, 0.25, 0.5)
    target_part = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    others_part = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.5 * 3 / 2)
    value = decoupled_loss(student, teacher, torch.tensor([0]), 1.0).item()
    assert value == pytest.approx(target_part + 8 * others_part)
    hotter = decoupled_loss(2 * student, 2 * teacher, torch.tensor([0]), 2.0).item()
    assert hotter == pytest.approx(4 * value)


@given(seed=st.integers(0, 99), temperature=st.floats(1, 8))
def test_soft_loss_is_the_decoupled_one_with_the_teachers_doubt_as_weight(
    seed: int, temperature: float
) -> None:
    student, teacher = random_logits(seed), random_logits(seed + 1000)
    target = torch.arange(5) % 4
    doubt = 1 - torch.softmax(teacher / temperature, -1).gather(1, target[:, None])[:, 0]
    decoupled = decoupled_loss(student, teacher, target, temperature)
    # The same with a student that has the teacher's order among the others leaves the target's part.
    mass = torch.softmax(student / temperature, -1).gather(1, target[:, None])
    own = torch.softmax(teacher / temperature, -1)
    scaled = own * (1 - mass) / (1 - own.gather(1, target[:, None]))
    alike = temperature * scaled.scatter(1, target[:, None], mass).log()
    target_part = decoupled_loss(alike, teacher, target, temperature)
    others_part = (decoupled - target_part) / OTHERS_WEIGHT
    whole = soft_loss(student, teacher, target, temperature)
    torch.testing.assert_close(target_part + doubt * others_part, whole, rtol=1e-3, atol=1e-3)


def test_correlation_loss_by_hand() -> None:
    # Article 1: (.5, .3, .2) and (.2, .3, .5), centred (1/6, -1/30, -2/15) and (-2/15, -1/30, 1/6):
    # r = (-4/90 + 1/900) / (42/900) = -39/42. Article 2 is the mirror image. Over the two articles of a
    # label r is -1 for the outer ones; the middle one never changes, and counts as 0.
    student = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]).log()
    teacher = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]).log()
    found = correlation_loss(student, teacher, NOBODY, 1.0)
    wanted = (1 + 39 / 42) + (2 + 1 + 2) / 3
    assert found.tolist() == pytest.approx([wanted, wanted], rel=1e-4)
    # Twice the logits at T = 2 are the same probabilities, and T^2 = 4 times the loss.
    hotter = correlation_loss(2 * student, 2 * teacher, NOBODY, 2.0)
    assert hotter.tolist() == pytest.approx([4 * wanted, 4 * wanted], rel=1e-4)


def test_top_label_loss_by_hand() -> None:
    student, teacher = logs(0.25, 0.75), logs(0.6, 0.4)
    assert top_label_loss(student, teacher, NOBODY, 3.0).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 50), temperature=st.floats(1, 8))
def test_no_loss_is_negative_and_shifted_logits_are_the_same(
    name: SoftLossName, seed: int, temperature: float
) -> None:
    student, teacher, target = random_logits(seed), random_logits(seed + 99), torch.arange(5) % 4
    value = SOFT_LOSSES[name](student, teacher, target, temperature)
    shifted = SOFT_LOSSES[name](student + 3, teacher - 2, target, temperature)
    assert value.shape == (5,)
    assert value.min() >= -1e-4
    torch.testing.assert_close(shifted, value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(set(SOFT_LOSSES) - {"top"}))
def test_who_answers_as_the_teacher_loses_nothing(name: SoftLossName) -> None:
    teacher, target = random_logits(3), torch.arange(5) % 4
    same = SOFT_LOSSES[name](teacher.clone(), teacher, target, 3.0)
    torch.testing.assert_close(same, torch.zeros(5), atol=1e-4, rtol=0)
    assert SOFT_LOSSES[name](random_logits(4), teacher, target, 3.0).sum() > 0.01


@pytest.mark.parametrize("name", ["kl", "standardised", "decoupled"])
def test_size_of_the_gradient_does_not_fade_with_temperature(name: SoftLossName) -> None:
    teacher, start, target = (
        random_logits(0, 64, 10),
        random_logits(1, 64, 10),
        torch.arange(64) % 10,
    )
    norms = []
    for temperature in (8.0, 16.0, 32.0):
        student = start.clone().requires_grad_()
        SOFT_LOSSES[name](student, teacher, target, temperature).sum().backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    assert max(norms) / min(norms) < 1.2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [2, 3])
def test_sure_answers_and_few_labels_have_finite_gradients(name: SoftLossName, labels: int) -> None:
    student = (50 * random_logits(5, 4, labels)).requires_grad_()
    teacher = 50 * random_logits(6, 4, labels)
    value = SOFT_LOSSES[name](student, teacher, torch.arange(4) % labels, 1.0).sum()
    value.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


def test_standardised_rows_have_mean_0_and_deviation_1_and_forget_scale() -> None:
    logits = torch.randn(6, 5)
    z = standardise(logits)
    torch.testing.assert_close(z.mean(-1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(-1, unbiased=False), torch.ones(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardise(3 * logits + 7), z, atol=1e-4, rtol=1e-4)


def test_standardised_loss_by_hand() -> None:
    # (3, 0, 0) has mean 1 and deviation sqrt 2: z-scores of 2 and -1 over sqrt 2, whatever the scale.
    student, teacher = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 30.0]])
    large, small = math.exp(2 / math.sqrt(2)), math.exp(-1 / math.sqrt(2))
    divergence = (large - small) / (large + 2 * small) * 3 / math.sqrt(2)
    found = standardised_loss(student, teacher, NOBODY, 1.0).item()
    assert found == pytest.approx(10 * divergence, rel=1e-4)
    # At T = 2 the z-scores are halved, and the loss is multiplied by 4.
    large, small = math.exp(1 / math.sqrt(2)), math.exp(-0.5 / math.sqrt(2))
    divergence = (large - small) / (large + 2 * small) * 1.5 / math.sqrt(2)
    hotter = standardised_loss(student, teacher, NOBODY, 2.0).item()
    assert hotter == pytest.approx(40 * divergence, rel=1e-4)


def test_two_labels_are_not_standardised() -> None:
    student, teacher = random_logits(1, 6, 2), random_logits(2, 6, 2)
    torch.testing.assert_close(
        standardised_loss(student, teacher, NOBODY, 2.0), soft_loss(student, teacher, NOBODY, 2.0)
    )
