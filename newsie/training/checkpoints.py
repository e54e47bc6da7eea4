"""Checkpoints of a run: written aside and renamed, in safetensors and JSON, nothing pickled."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = ["Checkpoints", "write_directory", "write_text"]


class Checkpoints:
    """The checkpoints in one directory; the newest replaces the one before.

    Args:
        directory: belongs to one run alone.
        main: whether this process writes; all of them read.
    """

    def __init__(self, directory: Path, *, main: bool = True) -> None:
        self.directory = directory
        self.main = main
        self._best = directory / "best.safetensors"

    def save(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> None:
        """Write weights, optimizer and state as one unit."""
        if not self.main:
            return
        target = self.directory / f"step-{state['step']:09d}"
        with write_directory(target) as aside:
            _save(model.state_dict(), aside / "model.safetensors")
            _save(_optimizer_tensors(optimizer), aside / "optimizer.safetensors")
            write_text(aside / "state.json", json.dumps(state))
        for older in self._all():
            if older != target:
                shutil.rmtree(older)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Restore the newest checkpoint into model and optimizer; None when there is none."""
        found = self._all()
        if not found:
            return None
        model.load_state_dict(load_file(found[-1] / "model.safetensors"))
        _restore_optimizer(optimizer, load_file(found[-1] / "optimizer.safetensors"))
        state: dict[str, Any] = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
        return state

    def save_best(self, model: nn.Module) -> None:
        """Keep the present weights as the best."""
        if self.main:
            self.directory.mkdir(parents=True, exist_ok=True)
            aside = self._best.with_suffix(".aside")
            _save(model.state_dict(), aside)
            aside.replace(self._best)

    def load_best(self, model: nn.Module) -> None:
        """Restore the weights that `save_best` kept."""
        model.load_state_dict(load_file(self._best))

    def _all(self) -> list[Path]:
        return sorted(p for p in self.directory.glob("step-*") if p.suffix != ".aside")


class write_directory:  # noqa: N801 - used like a function
    """Context manager: a new directory that gets its final name only when the block succeeds."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.aside = target.with_name(target.name + ".aside")

    def __enter__(self) -> Path:
        shutil.rmtree(self.aside, ignore_errors=True)
        self.aside.mkdir(parents=True)
        return self.aside

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:
            shutil.rmtree(self.aside, ignore_errors=True)
            return
        for path in self.aside.rglob("*"):
            if path.is_file():
                _sync(path)
        self.aside.replace(self.target)
        _sync(self.target.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step: the old content or the new, never half of it."""
    aside = path.with_name(path.name + ".aside")
    aside.write_text(text, encoding="utf-8")
    _sync(aside)
    aside.replace(path)


def _sync(path: Path) -> None:
    """Wait until a file or directory is on the disk: a rename may otherwise overtake the content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments by position of the parameter: "17.exp_avg" and so on."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
