from __future__ import annotations

import numpy as np
import pytest

from newsie.errors import QualityGateError
from newsie.labels import IGNORE
from newsie.metrics.evaluation import softmax
from newsie.training.calibration import accuracy_lost, calibrate, check_quality, labelled_rows


def test_an_overconfident_model_is_cooled_by_what_it_was_heated_with() -> None:
    random = np.random.default_rng(0)
    honest = random.normal(size=(20_000, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(honest)])
    logits = {"section": (3 * honest).astype(np.float32), "mood": np.zeros((20_000, 2), np.float32)}
    found = calibrate(logits, {"section": labels, "mood": np.full(20_000, IGNORE)})
    assert found["section"] == pytest.approx(3, rel=0.05)
    assert found["mood"] == 1.0  # nobody answered


def test_rows_cover_each_task_and_no_more() -> None:
    labels = {
        "section": np.arange(100),
        "mood": np.where(np.arange(100) < 10, 1, IGNORE),
    }
    rows = labelled_rows(labels, {"section": 20, "mood": 5})
    assert (np.diff(rows) > 0).all()
    assert 20 <= len(rows) <= 25
    assert (rows < 10).sum() >= 5


def test_points_lost_by_hand() -> None:
    labels = {"section": np.array([0, 0, 1, 1, IGNORE])}
    before = {"section": np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 0]]}
    after = {"section": np.eye(2, dtype=np.float32)[[0, 1, 1, 1, 1]]}
    assert accuracy_lost(before, after, labels) == {"section": 25.0}
    assert accuracy_lost(after, before, labels) == {"section": -25.0}


def test_the_gate_names_the_task_and_the_limit() -> None:
    check_quality({"section": 0.5, "mood": -1.0}, 0.5)
    with pytest.raises(
        QualityGateError, match=r"0\.5 points of accuracy on mood:(?s:.)*\+0\.60"
    ) as caught:
        check_quality({"section": 0.1, "mood": 0.6}, 0.5)
    assert caught.value.exit_code == 3
