"""Gathering of weights that are sharded over several processes (FSDP: Zhao et al. 2023, arXiv 2304.11277).

Each process holds a slice of every weight. Files on disk contain whole weights, so that a run may resume
with another number of processes, sharded or not. For models that are not sharded, these functions do
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ["is_sharded", "make_whole", "slice_like", "whole"]


def is_sharded(model: nn.Module) -> bool:
    """Return True if processes hold slices of the weights; all of them must then call the model together."""
    return isinstance(model, FSDPModule)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather whole tensors from all processes, which must all call this."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in tensors.items()
    }


def slice_like(value: Tensor, wanted: Tensor) -> Tensor:
    """Return a whole tensor, sharded like another one of its shape."""
    if not isinstance(wanted, DTensor) or value.shape != wanted.shape:
        return value
    return distribute_tensor(value.to(wanted.device), wanted.device_mesh, wanted.placements)


def make_whole(model: nn.Module) -> None:
    """Give every process the whole model, in place. It can be saved, but no longer trained."""
    if not is_sharded(model):
        return
    for place, value in whole(model.state_dict()).items():
        owner, _, name = place.rpartition(".")
        module = model.get_submodule(owner)
        if name in module._parameters:
            module.register_parameter(name, nn.Parameter(value.detach()))
