from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from newsie.errors import TrainingError
from newsie.training.config import FitConfig
from newsie.training.loop import History, fit, get_lr
from newsie.training.losses import HardLoss
from tests.training.tiny_run import run, tiny_batches, tiny_model

CONFIG = FitConfig(epochs=2, batch_size=8, micro_batch_size=8, max_tokens=24)
SCRIPT = Path(__file__).with_name("tiny_run.py")


ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "OMP_NUM_THREADS": "1",
}


def start(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(directory), *options], env=ENVIRONMENT
    )


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
def test_killed_and_resumed_equals_unbroken(tmp_path: Path) -> None:
    assert start(tmp_path / "unbroken").wait() == 0
    broken = tmp_path / "broken"
    kills = 0
    for further in (1, 2, 3):  # checkpoints beyond the last one that a killed run left
        process = start(broken, "--slow")
        reached = newest_step(broken)
        while process.poll() is None and newest_step(broken) < reached + further:
            time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 3, "the run ended before it could be killed: nothing was shown"
    assert start(broken).wait() == 0
    for name in ("final.safetensors", "best.safetensors"):
        expected, found = (load_file(tmp_path / d / name) for d in ("unbroken", "broken"))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    histories = [(tmp_path / d / "history.json").read_text() for d in ("unbroken", "broken")]
    assert histories[0] == histories[1]


def start_two(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    """The tiny run in two processes, without dropout, whose masks differ by process."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--master-port", str(free_port()), str(SCRIPT), str(directory)]
    command = [*torchrun, "--dropout", "0", *options]
    return subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True)


def kill_two(directory: Path, *options: str) -> None:
    run = start_two(directory, "--slow", *options)
    while run.poll() is None and newest_step(directory) < 5:
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait() != 0, "it ended before it could be killed"


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--sharded"]], ids=["copies", "slices"])
def test_two_processes_give_the_losses_of_one(tmp_path: Path, options: list[str]) -> None:
    assert start(tmp_path / "one", "--dropout", "0").wait() == 0
    if options:  # killed half-way, and made whole from the slices' checkpoint
        kill_two(tmp_path / "two", *options)
    assert start_two(tmp_path / "two", *options).wait() == 0
    assert (tmp_path / "one" / "processes").read_text() == "1"
    assert (tmp_path / "two" / "processes").read_text() == "2"
    one, two = (
        History.from_json(json.loads((tmp_path / d / "history.json").read_text()))
        for d in ("one", "two")
    )
    assert one.losses.keys() == two.losses.keys()
    for step, value in one.losses.items():
        assert two.losses[step] == pytest.approx(value, rel=1e-4)
    # AdamW turns rounding of a gradient near zero into a step of the learning rate.
    ours, theirs = (load_file(tmp_path / d / "final.safetensors") for d in ("one", "two"))
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight, atol=5e-3, rtol=1e-2)


def test_micro_batches_change_nothing_but_rounding(tmp_path: Path) -> None:
    whole, cut = (run(tmp_path / str(n), micro_batch_size=n, dropout=0.0) for n in (8, 3))
    for step, value in whole.losses.items():
        assert cut.losses[step] == pytest.approx(value, rel=1e-4)


def test_ends_with_the_best_weights_and_stops_early(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
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
    assert list(history.scores.values()) == [0.1, 0.9, 0.2, 0.3]
    assert torch.equal(next(model.parameters()), seen[1])


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
