"""Dithering of a revived student's weights before fitting, so that int8 keeps the updates.

A revived student's weights are integers times a step. Fitting moves most of them by less than half a step,
so rounding to int8 would undo the updates. Dithering first moves each weight by a random offset of at most
half a step. The rounded weight then equals the updated one on average,

    mean of round(w + d + u) = w + u,    d uniform in [-step / 2, step / 2), u the update,

and only the rounding noise of any int8 student remains (Schuchman 1964, "Dither signals and their effect
on quantization noise").
"""

from __future__ import annotations

import torch
from torch import nn

from newsie.graph.quantize import quantize_columns, quantize_rows

__all__ = ["dither"]


def dither(model: nn.Module, seed: int) -> None:
    """Move each weight of linear layers and embeddings at random within half an int8 step; zero rows stay.

    Args:
        model: a student in float32, as `revive_student` returns it; changed in place.
        seed: the seed of the random offsets.
    """
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        weight = module.weight.detach()  # (N, K)
        if isinstance(module, nn.Linear):
            _, scales = quantize_columns(weight.numpy().T)
        else:
            _, scales = quantize_rows(weight.numpy())
        steps = torch.from_numpy(scales.reshape(-1, 1)) * weight.any(dim=1, keepdim=True)
        weight += steps * (torch.rand(weight.shape, generator=random) - 0.5)
