from __future__ import annotations

import json
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from itertools import pairwise
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from newsie.errors import TrainingError
from newsie.training.config import FitConfig
from newsie.training.loop import History, fit, get_lr
from newsie.training.losses import HardLoss
from tests.training.tiny_run import run, run_alone, tiny_batches, tiny_model

CONFIG = FitConfig(epochs=2, batch_size=8, micro_batch_size=8, max_tokens=24)


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    """Makes real processes, in each of which torch is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([run.__module__])
    return context


def start(
    forks: ForkServerContext,
    directory: Path,
    target: Callable[..., None] = run_alone,
    **options: Any,
) -> BaseProcess:
    process = forks.Process(target=target, args=(directory,), kwargs=options)
    process.start()
    return process


def ended(*processes: BaseProcess) -> list[int | None]:
    """Exit codes of processes, once they have ended."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def newest_step(directory: Path) -> int:
    return max(
        (int(path.name.removeprefix("step-")) for path in directory.glob("step-*")), default=0
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [get_lr(step, 100, 0.1) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[100] == 0
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_a_model_learns(tmp_path: Path) -> None:
    history = run(tmp_path, epochs=15, checkpoint_minutes=9)
    values = list(history.losses.values())
    assert values[-1] < 0.8 * values[0]
    assert max(history.scores.values()) > 0.85


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(forks: ForkServerContext, tmp_path: Path) -> None:
    assert ended(start(forks, tmp_path / "unbroken")) == [0]
    broken = tmp_path / "broken"
    kills = 0
    for further in (1, 2, 3):  # checkpoints beyond the last one that a killed run left
        process = start(forks, broken, slow=True)
        reached = newest_step(broken)
        while process.is_alive() and newest_step(broken) < reached + further:
            time.sleep(0.02)
        process.kill()
        kills += ended(process) == [-signal.SIGKILL]
    assert kills == 3, "the run ended before it could be killed: nothing was shown"
    assert ended(start(forks, broken)) == [0]
    for name in ("final.safetensors", "best.safetensors"):
        expected, found = (load_file(tmp_path / d / name) for d in ("unbroken", "broken"))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    histories = [(tmp_path / d / "history.json").read_text() for d in ("unbroken", "broken")]
    assert histories[0] == histories[1]


def start_two(forks: ForkServerContext, directory: Path, **options: Any) -> list[BaseProcess]:
    """The tiny run in two processes, which find each other as those of torchrun do."""
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    together |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = [together | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return [start(forks, directory, environment=rank, **options) for rank in ranks]


def kill_two(forks: ForkServerContext, directory: Path, **options: Any) -> None:
    processes = start_two(forks, directory, slow=True, **options)
    while all(process.is_alive() for process in processes) and newest_step(directory) < 5:
        time.sleep(0.01)
    for process in processes:
        process.kill()
    assert -signal.SIGKILL in ended(*processes), "it ended before it could be killed"


@pytest.fixture(scope="module")
def one(forks: ForkServerContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run in one process, without dropout, whose masks differ by process."""
    directory = tmp_path_factory.mktemp("one")
    assert ended(start(forks, directory, dropout=0.0)) == [0]
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["copies", "slices"])
def test_two_processes_give_the_losses_of_one(
    forks: ForkServerContext, one: Path, tmp_path: Path, sharded: bool
) -> None:
    options = {"sharded": sharded, "dropout": 0.0}
    if sharded:  # killed half-way, and made whole from the slices' checkpoint
        kill_two(forks, tmp_path, **options)
    assert ended(*start_two(forks, tmp_path, **options)) == [0, 0]
    assert (one / "processes").read_text() == "1"
    assert (tmp_path / "processes").read_text() == "2"
    ours, theirs = (
        History.from_json(json.loads((directory / "history.json").read_text())).losses
        for directory in (one, tmp_path)
    )
    assert ours.keys() == theirs.keys()
    for step, value in ours.items():
        assert theirs[step] == pytest.approx(value, rel=1e-4)
    # AdamW turns rounding of a gradient near zero into a step of the learning rate.
    weights, others = (load_file(d / "final.safetensors") for d in (one, tmp_path))
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=5e-3, rtol=1e-2)


def test_micro_batches_change_nothing_but_rounding(tmp_path: Path) -> None:
    whole, cut = (run(tmp_path / str(n), micro_batch_size=n, dropout=0.0) for n in (8, 3))
    for step, value in whole.losses.items():
        assert cut.losses[step] == pytest.approx(value, rel=1e-4)


def test_ends_with_the_best_weights_and_stops_early(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.9, 0.2, 0.3, 0.4])  # of equal ones the last
    seen: list[torch.Tensor] = []

    def evaluate(model: torch.nn.Module) -> float:
        seen.append(next(model.parameters()).detach().clone())
        return next(scores)

    config = FitConfig(epochs=3, batch_size=8, max_tokens=24, evaluations=6, patience=2)
    model = tiny_model()
    history = fit(
        model,
        tiny_batches(),
        HardLoss({}),
        config,
        accelerator=Accelerator(cpu=True),
        directory=tmp_path,
        evaluate=evaluate,
    )
    assert history.stopped_early
    assert list(history.scores.values()) == [0.1, 0.9, 0.9, 0.2, 0.3]
    assert torch.equal(next(model.parameters()), seen[2])


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        next(model.heads.parameters())[0] = float("nan")
    with pytest.raises(TrainingError, match="the loss is nan at step 0; lower the learning rate"):
        fit(
            model,
            tiny_batches(),
            HardLoss({}),
            CONFIG,
            accelerator=Accelerator(cpu=True),
            directory=tmp_path,
        )
