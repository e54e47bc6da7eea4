from __future__ import annotations

import numpy as np
import torch
from torch import nn

from newsie.graph.quantize import quantize_columns
from newsie.training.dithering import dither


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """What int8 holds of a weight (N, K)."""
    integers, scales = quantize_columns(weight.numpy().T)
    return torch.from_numpy(np.ascontiguousarray((integers * scales).T))


def on_the_grid(rows: int, columns: int) -> nn.Linear:
    torch.manual_seed(3)  # another seed than the one of the moves, which would be in step with it
    layer = nn.Linear(columns, rows)
    layer.weight.data = rounded(layer.weight.data)
    return layer


def kept(layer: nn.Linear) -> float:
    """The share of a small update that is left in int8: a fifth of a step, up or down."""
    weight = layer.weight.detach().clone()
    _, scales = quantize_columns(weight.numpy().T)
    up_or_down = torch.randint(0, 2, weight.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    update = up_or_down * 0.4 * torch.from_numpy(scales)[:, None]
    left = rounded(weight + update) - rounded(weight)
    return float((left * update).sum() / (update**2).sum())


def test_int8_keeps_what_is_learnt_after_dithering_and_loses_it_before() -> None:
    layer = on_the_grid(64, 128)
    assert kept(layer) < 0.3
    dither(layer, seed=0)
    assert 0.8 < kept(layer) < 1.2


def test_a_weight_stays_within_half_a_step_and_zeros_stay() -> None:
    layer = on_the_grid(16, 32)
    layer.weight.data[3] = 0
    before = layer.weight.detach().clone()
    _, scales = quantize_columns(before.numpy().T)
    dither(layer, seed=0)
    moved = (layer.weight.detach() - before).abs()
    assert (moved <= torch.from_numpy(scales)[:, None] / 2 + 1e-7).all()
    assert not moved[3].any()
    assert moved[4].any()


def test_the_same_seed_moves_alike_and_embeddings_move_by_rows() -> None:
    tables = [nn.Embedding(4, 4, _weight=torch.eye(4)) for _ in range(3)]
    for table, seed in zip(tables, (0, 0, 1), strict=True):
        dither(table, seed)
    first, same, other = (table.weight for table in tables)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert (first - torch.eye(4)).abs().max() <= 0.5 / 127
