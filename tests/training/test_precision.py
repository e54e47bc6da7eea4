from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from newsie.training import precision
from newsie.training.precision import choose_precision, measure_gflops


@pytest.mark.parametrize(("bf16", "chosen"), [(300.0, "bf16"), (110.0, "fp32"), (50.0, "fp32")])
def test_the_faster_one_is_kept_for_the_run(
    bf16: float, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = {torch.float32: 100.0, torch.bfloat16: bf16}
    monkeypatch.setattr(precision, "measure_gflops", lambda dtype, device: speed[dtype])
    record = tmp_path / "precision.json"
    assert choose_precision("auto", record) == chosen
    assert json.loads(record.read_text())["gflops"]["bf16"] == bf16
    # A resumed run computes as it did before, whatever a new measurement would say.
    monkeypatch.setattr(precision, "measure_gflops", lambda dtype, device: 1 / speed[dtype])
    assert choose_precision("auto", record) == chosen


def test_what_is_asked_for_is_not_measured(tmp_path: Path) -> None:
    assert choose_precision("bf16", tmp_path / "precision.json") == "bf16"
    assert not list(tmp_path.iterdir())


def test_a_measurement_is_a_speed() -> None:
    assert 0.01 < measure_gflops(torch.float32, torch.device("cpu"), repeats=1) < 1e6
