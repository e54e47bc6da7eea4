"""One optimizer step: learning rates, decay, clipping, random state, shares of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from newsie.training.config import FitConfig
from newsie.training.loop import (
    _backward,
    _update,
    build_optimizer,
    fit,
    get_lr,
    set_lr,
    set_random_state,
)
from newsie.training.losses import HardLoss
from tests.training.test_loop import ended, forks, start_two
from tests.training.tiny_run import tiny_batches, tiny_model

__all__ = ["forks"]

CONFIG = FitConfig(
    epochs=1,
    batch_size=8,
    micro_batch_size=4,
    max_tokens=24,
    learning_rate=1e-3,
    head_learning_rate=5e-3,
    weight_decay=0.1,
    warmup_ratio=0.4,
    evaluations=100,  # after each of the 15 steps
)
STEPS = 15


class Draws(nn.Module):
    """A model whose logits contain a random number, as dropout's do; it keeps those numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"section": nn.Linear(1, 3), "mood": nn.Linear(1, 2)})
        self.drawn: list[float] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        number = torch.rand(1)
        self.drawn.append(number.item())
        return {task: head(number.expand(len(input_ids), 1)) for task, head in self.heads.items()}


def weights_by_step(directory: Path, config: FitConfig) -> Iterator[dict[str, Tensor]]:
    """All weights at the start, and after each step."""
    model = tiny_model()

    def now() -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in model.named_parameters()}

    seen = [now()]

    def evaluate(model: nn.Module) -> float:
        seen.append(now())
        return float(len(seen))

    fit(
        model,
        tiny_batches(config.batch_size),
        HardLoss({}),
        config,
        accelerator=Accelerator(cpu=True),
        directory=directory,
        evaluate=evaluate,
    )
    yield from seen


def test_schedule_by_hand() -> None:
    # 100 steps, 20 of them warming up: 1/20, 2/20 ... 1, then 80 steps down to 0.
    rates = [get_lr(step, 100, 0.2) for step in (0, 1, 9, 19, 20, 40, 60, 99, 100, 120)]
    expected = [0.05, 0.1, 0.5, 1, 1, 0.75, 0.5, 1 / 80, 0, 0]
    assert rates == pytest.approx(expected)
    # There is one step of warming up at least, and a run of one step learns at the peak.
    assert get_lr(0, 1, 0.0) == get_lr(0, 100, 0.0) == 1
    assert get_lr(5, 10, 1.0) == pytest.approx(0.6)


def test_heads_learn_faster_and_only_matrices_decay() -> None:
    model = tiny_model()
    optimizer = build_optimizer(model, CONFIG)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr"], group["peak_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        rate = 5e-3 if name.startswith("heads.") else 1e-3
        assert found[name] == (rate, rate, 0.1 if parameter.ndim > 1 else 0.0), name
    assert len(found) == len(names)


def test_each_group_gets_its_share_of_its_own_peak() -> None:
    optimizer = build_optimizer(tiny_model(), CONFIG)
    for factor in (0.5, 0.25, 1.0):  # of the peak, not of the rate before
        set_lr(optimizer, factor)
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(factor * group["peak_lr"])


def test_a_run_follows_the_schedule(tmp_path: Path) -> None:
    # Adam's first step moves each weight that has a gradient by the learning rate: a sixth of the peak here.
    # Later ones move at most a little more than that.
    weights = list(weights_by_step(tmp_path, CONFIG))
    assert len(weights) == STEPS + 1
    vectors = [name for name, x in weights[0].items() if x.ndim == 1]
    for step, (before, after) in enumerate(pairwise(weights)):
        factor = get_lr(step, STEPS, CONFIG.warmup_ratio)
        for name in vectors:
            peak = 5e-3 if name.startswith("heads.") else 1e-3
            moved = (after[name] - before[name]).abs().max().item()
            assert moved <= 1.5 * factor * peak, (step, name)
            if step == 0 and name.endswith("classifier.bias"):
                assert moved == pytest.approx(factor * peak, rel=1e-2)


def test_matrices_shrink_by_decay_where_there_is_no_gradient(tmp_path: Path) -> None:
    *_, before, _ = weights_by_step(tmp_path, CONFIG)
    first = {name: x.detach() for name, x in tiny_model().named_parameters()}
    factors = [get_lr(step, STEPS, CONFIG.warmup_ratio) for step in range(STEPS - 1)]
    kept = torch.tensor([1 - 1e-3 * factor * 0.1 for factor in factors]).prod()
    name = "encoder.embeddings.position_embeddings.weight"
    torch.testing.assert_close(before[name][-1], kept * first[name][-1])  # no text is that long
    assert (before[name][-1] != first[name][-1]).all()


def test_gradients_are_clipped_by_their_common_norm_and_forgotten() -> None:
    # The gradients (3, 4) have the norm 5: at most 1 leaves (0.6, 0.8), at most 10 leaves them alone.
    for most, expected in ((1.0, (0.6, 0.8)), (10.0, (3.0, 4.0))):
        model = nn.ParameterList([torch.zeros(1), torch.zeros(1)])
        for parameter, slope in zip(model.parameters(), (3.0, 4.0), strict=True):
            parameter.grad = torch.tensor([slope])
        config = replace(CONFIG, max_grad_norm=most)
        _update(model, torch.optim.SGD(model.parameters(), lr=1.0), config, Accelerator(cpu=True))
        moved = [-parameter.item() for parameter in model.parameters()]
        assert moved == pytest.approx(expected, rel=1e-4)
        assert all(parameter.grad is None for parameter in model.parameters())


def test_a_run_clips_by_its_own_limit(tmp_path: Path) -> None:
    # Adam divides by the size of the gradient plus 1e-8: gradients far below that move nothing.
    config = replace(CONFIG, max_grad_norm=1e-13, weight_decay=0.0)
    first, *_, last = weights_by_step(tmp_path, config)
    assert all(torch.allclose(last[name], x, atol=1e-4) for name, x in first.items())


def test_the_random_state_depends_on_seed_step_and_process() -> None:
    def draw(*numbers: int) -> float:
        set_random_state(*numbers)
        return torch.rand(1).item()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    others = [(1, 2, 3), (9, 2, 3), (1, 9, 3), (1, 2, 9), (2, 1, 3)]
    assert len({draw(*numbers) for numbers in others}) == len(others)


def test_a_resumed_run_draws_what_an_unbroken_one_draws(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def train(directory: Path, stop_at: int | None = None) -> list[float]:
        model, calls = Draws(), iter(range(100))

        def evaluate(model: nn.Module) -> float:
            if next(calls) == stop_at:
                raise StopError
            return 0.0

        config = replace(CONFIG, micro_batch_size=8, checkpoint_minutes=1e-9)
        options = {"accelerator": Accelerator(cpu=True), "directory": directory}
        with suppress(StopError):
            fit(model, tiny_batches(), HardLoss({}), config, evaluate=evaluate, **options)
        return model.drawn

    unbroken = train(tmp_path / "unbroken")
    assert len(set(unbroken)) == STEPS  # no step draws what another one did
    assert train(tmp_path / "broken", stop_at=6) == unbroken[:7]
    torch.rand(5)
    assert train(tmp_path / "broken") == unbroken[6:]  # the last checkpoint is that of step 6


def test_a_batch_has_the_gradient_of_all_its_pieces() -> None:
    batches = tiny_batches()
    indices, headline_only = next(batches.from_step(0))
    gradients = []
    for size in (8, 3):
        model = tiny_model()
        pieces = batches.micro_batches(indices, headline_only, micro_batch_size=size)
        value = _backward(model, pieces, HardLoss({}), Accelerator(cpu=True))
        gradients.append([x.grad for x in model.parameters()])
        with torch.no_grad():
            losses = [HardLoss({})(model(p.input_ids, p.attention_mask), p) for p in pieces]
        assert value == pytest.approx(sum(x.item() for x in losses), rel=1e-5)
        assert model.training
    for whole, cut in zip(*gradients, strict=True):
        torch.testing.assert_close(cut, whole, atol=1e-6, rtol=1e-4)


def backward_alone(directory: Path, environment: Mapping[str, str]) -> None:
    """The whole of a process: one process's part of the first batch; saves the gradients and the loss."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    model, batches = tiny_model(), tiny_batches()
    prepared = accelerator.prepare(model)
    indices, headline_only = next(batches.from_step(0))
    pieces = batches.micro_batches(
        indices,
        headline_only,
        micro_batch_size=3,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    value = _backward(prepared, pieces, HardLoss({}), accelerator)
    gradients = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}
    gradients["loss"] = torch.tensor(value)
    save_file(gradients, directory / f"{accelerator.num_processes}-{accelerator.process_index}")


@pytest.mark.slow
def test_processes_share_the_gradient_and_the_loss_of_one(
    forks: ForkServerContext, tmp_path: Path
) -> None:
    backward_alone(tmp_path, {})
    assert ended(*start_two(forks, tmp_path, target=backward_alone)) == [0, 0]
    one = load_file(tmp_path / "1-0")
    for rank in range(2):
        torch.testing.assert_close(load_file(tmp_path / f"2-{rank}"), one, atol=1e-5, rtol=1e-4)
