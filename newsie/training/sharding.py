"""Weights that are spread over several processes (FSDP: Zhao et al. 2023, arXiv 2304.11277), made whole.

Each process holds a slice of every weight. What is written to disk, and what is read from it, is
whole, so that a run may go on with another number of processes, sharded or not. For models that are
not sharded nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ["is_sharded", "make_whole", "slice_like", "whole"]


def is_sharded(model: nn.Module) -> bool:
    """Whether processes hold slices of the weights; then all of them must call the model together."""
    return isinstance(model, FSDPModule)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors put together from all processes, which must all call this."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in tensors.items()
    }


def slice_like(value: Tensor, wanted: Tensor) -> Tensor:
    """A whole tensor, sliced as another one of its shape is."""
    if not isinstance(wanted, DTensor) or value.shape != wanted.shape:
        return value
    return distribute_tensor(value.to(wanted.device), wanted.device_mesh, wanted.placements)


def make_whole(model: nn.Module) -> None:
    """Give every process the whole model, for good: it can be saved, and no longer trained."""
    if not is_sharded(model):
        return
    for place, value in whole(model.state_dict()).items():
        owner, _, name = place.rpartition(".")
        module = model.get_submodule(owner)
        if name in module._parameters:
            module.register_parameter(name, nn.Parameter(value.detach()))
