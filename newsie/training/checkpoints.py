"""Checkpoints of a run, written atomically as safetensors and JSON; nothing is pickled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from newsie.atomic import new_directory, new_file
from newsie.training.sharding import slice_like, whole

__all__ = ["Checkpoints"]


class Checkpoints:
    """The checkpoints in one directory. Each new one replaces the previous one.

    Args:
        directory: a directory that belongs to one run alone.
        main: True if this process writes; all processes read.
    """

    def __init__(self, directory: Path, *, main: bool = True) -> None:
        self.directory = directory
        self.main = main
        self._best = directory / "best.safetensors"

    def save(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> None:
        """Write weights, optimizer and state atomically; all processes must call this."""
        weights, moments = whole(model.state_dict()), whole(_optimizer_tensors(optimizer))
        if not self.main:
            return
        target = self.directory / f"step-{state['step']:09d}"
        with new_directory(target, replace=True) as aside:
            _save(weights, aside / "model.safetensors")
            _save(moments, aside / "optimizer.safetensors")
            (aside / "state.json").write_text(json.dumps(state), encoding="utf-8")
        for older in self._all():
            if older != target:
                shutil.rmtree(older)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Restore the newest checkpoint into model and optimizer. Return its state, or None without one."""
        found = self._all()
        if not found:
            return None
        _load(model, found[-1] / "model.safetensors")
        _restore_optimizer(optimizer, load_file(found[-1] / "optimizer.safetensors"))
        state: dict[str, Any] = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
        return state

    def save_best(self, model: nn.Module) -> None:
        """Save the current weights as the best ones; all processes must call this."""
        weights = whole(model.state_dict())
        if self.main:
            self.directory.mkdir(parents=True, exist_ok=True)
            with new_file(self._best) as aside:
                _save(weights, aside)

    def load_best(self, model: nn.Module) -> None:
        """Restore the weights that `save_best` saved."""
        _load(model, self._best)

    def clear(self) -> None:
        """Remove all checkpoints, including those that a killed process left half-written."""
        for path in (*self._all(), *self.directory.glob(".step-*.aside")):
            shutil.rmtree(path)
        self._best.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        return sorted(self.directory.glob("step-*"))


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _load(model: nn.Module, path: Path) -> None:
    wanted = model.state_dict()
    found = load_file(path)
    model.load_state_dict({name: slice_like(x, wanted[name]) for name, x in found.items()})


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's moments, keyed by parameter index and name: "17.exp_avg" and so on."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [x for group in optimizer.param_groups for x in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = slice_like(value, parameters[int(index)])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
