"""Off the grid of int8 before a revived student is fitted, so that int8 keeps what it learns.

A revived student's weights are integers times a step. Fitting moves most of them by less than half a step,
and int8 would move them back: the error of rounding is just what was learnt, and not noise. So each weight
begins at random within half a step of where it was. Then it is rounded up as often as its place between two
integers says,

    mean of round(w + d + u) = w + u,    d uniform in [-step / 2, step / 2), u the update,

and what is left is the noise that any student has in int8 (Schuchman 1964, "Dither signals and their effect
on quantization noise").
"""

from __future__ import annotations

import torch
from torch import nn

from newsie.training.quantization import quantize_columns, quantize_rows

__all__ = ["dither"]


def dither(model: nn.Module, seed: int) -> None:
    """Move the weights of products and embeddings within half a step of int8; rows of zeros stay.

    Args:
        model: a student in float32, as `revive_student` gives it; changed in place.
        seed: of the random moves.
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
