from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from newsie.training import soft_labels
from newsie.training.soft_labels import compute_soft_labels, load_soft_labels
from tests.training.ray_run import SHARD_ARTICLES, header
from tests.training.tiny_run import tiny_batches, tiny_model

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_node_that_dies_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_run = [sys.executable, "-m", "tests.training.ray_run", str(tmp_path / "ray")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    out = subprocess.run(
        ray_run, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, check=True
    ).stdout.split()
    shards = -(-header().articles // SHARD_ARTICLES)
    assert int(out[out.index("after") + 1]) < shards - 1, "it was killed too late to lose a shard"
    assert int(out[out.index("alive") + 1]) == 1

    monkeypatch.setattr(soft_labels, "SHARD_ARTICLES", SHARD_ARTICLES)
    tokens = tiny_batches().data.tokens["full"]
    compute_soft_labels(
        [tiny_model()], tokens, header(), tmp_path / "alone", device=torch.device("cpu")
    )
    found, wanted = (load_soft_labels(tmp_path / d).logits for d in ("ray", "alone"))
    for task, logits in wanted.items():
        np.testing.assert_allclose(found[task], logits, atol=2e-3)
