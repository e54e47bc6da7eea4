from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from newsie.training.checkpoints import Checkpoints


def trained() -> tuple[nn.Linear, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_restores_weights_moments_and_state(tmp_path: Path) -> None:
    model, optimizer = trained()
    Checkpoints(tmp_path).save(model, optimizer, {"step": 3})
    fresh = nn.Linear(4, 3)
    fresh_optimizer = torch.optim.AdamW(fresh.parameters(), lr=0.1)
    assert Checkpoints(tmp_path).load(fresh, fresh_optimizer) == {"step": 3}
    assert torch.equal(fresh.weight, model.weight)
    for ours, theirs in zip(
        optimizer.state_dict()["state"].values(),
        fresh_optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert ours.keys() == theirs.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_nothing_saved_is_none_and_the_newest_replaces_the_older(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load(model, optimizer) is None
    for step in (9, 10, 200):
        checkpoints.save(model, optimizer, {"step": step})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000200"]


def test_a_half_written_checkpoint_is_not_taken(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, optimizer, {"step": 1})
    (tmp_path / ".step-000000002.aside").mkdir()
    assert checkpoints.load(model, optimizer) == {"step": 1}


def test_other_processes_do_not_write(tmp_path: Path) -> None:
    model, optimizer = trained()
    Checkpoints(tmp_path, main=False).save(model, optimizer, {"step": 1})
    Checkpoints(tmp_path, main=False).save_best(model)
    assert not list(tmp_path.iterdir())


def test_best_weights_come_back(tmp_path: Path) -> None:
    model, _ = trained()
    best = model.weight.detach().clone()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(model)
    nn.init.zeros_(model.weight)
    checkpoints.load_best(model)
    assert torch.equal(model.weight, best)


def test_of_two_checkpoints_the_newer_one_is_loaded(tmp_path: Path) -> None:
    # A run that is killed before it removes the older one leaves both.
    model, optimizer = trained()
    older, newer = Checkpoints(tmp_path / "a"), Checkpoints(tmp_path / "b")
    older.save(model, optimizer, {"step": 9})
    with torch.no_grad():
        model.weight.add_(1)
    newer.save(model, optimizer, {"step": 10})
    (tmp_path / "a" / "step-000000009").rename(tmp_path / "b" / "step-000000009")
    fresh = nn.Linear(4, 3)
    fresh_optimizer = torch.optim.AdamW(fresh.parameters(), lr=0.1)
    assert newer.load(fresh, fresh_optimizer) == {"step": 10}
    assert torch.equal(fresh.weight, model.weight)
