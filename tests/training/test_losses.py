from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from newsie.errors import TrainingError
from newsie.labels import IGNORE
from newsie.training.batches import MicroBatch
from newsie.training.config import DistillationConfig, SoftLossName
from newsie.training.losses import DistillationLoss, HardLoss, hard_loss
from newsie.training.soft_losses import SOFT_LOSSES, decoupled_loss, soft_loss


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


def test_losses_are_means_over_the_whole_batch_of_a_step() -> None:
    # A piece of two articles, out of a batch of 10, of which 4 are labelled. Hard: ln 4 + ln(4/3), over 4.
    # Soft, at T = 1 and with the even teacher: KL((1/2, 1/2) || (1/4, 3/4)) for each article, over 10.
    logits = {"section": torch.tensor([[0.0, math.log(3)]]).repeat(2, 1)}
    piece = replace(
        batch(torch.tensor([0, 1]), torch.zeros(2, 2)), labelled={"section": 4}, size=10
    )
    hard = (math.log(4) + math.log(4 / 3)) / 4
    soft = 2 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 10
    assert HardLoss({})(logits, piece).item() == pytest.approx(hard)
    assert DistillationLoss(1.0, 0.0)(logits, piece).item() == pytest.approx(soft)
    sparse = DistillationLoss(1.0, 0.0, sparse=True)(logits, piece).item()
    assert sparse == pytest.approx(soft * 10 / 4)  # counts labelled articles alone
    both = DistillationLoss(1.0, 0.25)(logits, piece).item()
    assert both == pytest.approx(0.25 * hard + 0.75 * soft)


def test_tasks_are_added_with_their_weights_in_both_parts() -> None:
    tasks = {"section": 3.0, "mood": 1.0}  # mood has no weight of its own
    logits = {task: torch.randn(3, 4) for task in tasks}
    teacher = {task: torch.randn(3, 4) for task in tasks}
    labels = torch.tensor([0, 1, IGNORE])

    def value(chosen: tuple[str, ...], alpha: float, weights: dict[str, float]) -> float:
        piece = replace(
            batch(labels),
            labels=dict.fromkeys(tasks, labels),
            labelled=dict.fromkeys(tasks, 2),
            soft=teacher,
        )
        loss = DistillationLoss(2.0, alpha, weights=weights)
        return loss({task: logits[task] for task in chosen}, piece).item()

    for alpha in (0.0, 0.5, 1.0):
        alone = {task: value((task,), alpha, {}) for task in tasks}
        together = value(tuple(tasks), alpha, {"section": 3.0})
        assert together == pytest.approx(sum(alone[t] * w for t, w in tasks.items()), rel=1e-5)


def test_the_target_is_gold_and_where_there_is_none_the_teachers_best() -> None:
    teacher = torch.tensor([[3.0, 1.0, 0.0]]).repeat(2, 1)  # its best label is 0
    answer, labels = torch.randn(2, 3), torch.tensor([2, IGNORE])
    value = DistillationLoss(2.0, 0.0, soft="decoupled")(
        {"section": answer}, batch(labels, teacher)
    )
    target = torch.tensor([2, 0])
    expected = decoupled_loss(answer, teacher, target, 2.0).sum() / 2
    assert value.item() == pytest.approx(expected.item())
    other = decoupled_loss(answer, teacher, torch.tensor([0, 0]), 2.0).sum() / 2
    assert value.item() != pytest.approx(other.item(), rel=1e-3)


@pytest.mark.parametrize("name", sorted(SOFT_LOSSES))
def test_a_recipe_chooses_its_soft_loss_and_all_its_settings(name: SoftLossName) -> None:
    teacher, answer = torch.randn(3, 4), torch.randn(3, 4)
    labels = torch.tensor([0, 3, IGNORE])
    config = DistillationConfig(temperature=3.0, alpha=0.2, loss=name, final_alpha=0.6, sparse=True)
    loss = DistillationLoss.of(config, {"section": 2.0}, {"section": [1]})
    assert loss == DistillationLoss(
        3.0, 0.2, name, 0.6, True, {"section": 2.0}, absent={"section": [1]}
    )
    piece = replace(batch(labels, teacher), progress=0.5)  # alpha is 0.4
    target = torch.tensor([0, 3, int(teacher[2].argmax())])
    soft = SOFT_LOSSES[name](answer, teacher, target, 3.0)[:2].sum() / 2
    hard = HardLoss({}, {"section": [1]})({"section": answer}, piece)
    found = loss({"section": answer}, piece).item()
    if name != "correlation":  # of which a part is a mean over all articles
        assert found == pytest.approx(2 * (0.4 * hard + 0.6 * soft).item(), rel=1e-5)


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


def test_annealing_goes_from_soft_to_gold_and_leaves_unlabelled_articles_to_the_teacher() -> None:
    teacher, logits = torch.randn(3, 4), {"section": torch.randn(3, 4)}
    labels = torch.tensor([0, IGNORE, 3])
    annealed = DistillationLoss(2.0, 0.0, final_alpha=1.0)
    start, half, end = (
        annealed(logits, replace(batch(labels, teacher), progress=p)).item()
        for p in (0.0, 0.5, 1.0)
    )
    soft = DistillationLoss(2.0, 0.0)(logits, batch(labels, teacher)).item()
    hard = HardLoss({})(logits, batch(labels)).item()
    alone = soft_loss(logits["section"][1:2], teacher[1:2], labels[:1], 2.0).item() / 3
    assert start == pytest.approx(soft)
    assert end == pytest.approx(hard + alone, rel=1e-5)
    assert half == pytest.approx((start + end) / 2, rel=1e-5)


def test_sparse_soft_labels_count_where_gold_is_known() -> None:
    teacher, answer = torch.randn(4, 3), torch.randn(4, 3)
    labels = torch.tensor([IGNORE, 1, IGNORE, 2])
    sparse = DistillationLoss(2.0, 0.0, sparse=True)({"section": answer}, batch(labels, teacher))
    kept = labels != IGNORE
    dense = DistillationLoss(2.0, 0.0)(
        {"section": answer[kept]}, batch(labels[kept], teacher[kept])
    )
    torch.testing.assert_close(sparse, dense)


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


def test_labels_that_no_article_has_are_told_nothing_of() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    piece = batch(torch.tensor([0, 2, 0, IGNORE]))
    value = HardLoss({}, {"section": [1]})({"section": logits}, piece)
    [slope] = torch.autograd.grad(value, [logits])
    assert (slope[:, 1] == 0).all()
    assert (slope[:3, 0] != 0).all()
    others = batch(torch.tensor([0, 1, 0, IGNORE]))
    alone = HardLoss({})({"section": logits.detach()[:, [0, 2]]}, others)
    assert value.item() == pytest.approx(alone.item())
    teacher = torch.randn(4, 3)
    piece = batch(torch.tensor([0, 2, 0, IGNORE]), teacher)
    both = DistillationLoss(2.0, 0.5, absent={"section": [1]})({"section": logits.detach()}, piece)
    soft = DistillationLoss(2.0, 0.5)({"section": logits.detach()}, piece)
    whole = HardLoss({})({"section": logits.detach()}, piece)
    assert both.item() == pytest.approx((soft + 0.5 * (value - whole)).item())
