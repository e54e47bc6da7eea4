from __future__ import annotations

import numpy as np

from newsie.inference.prediction import Prediction
from tests.tiny import LABELS


def test_shown_in_a_short_line() -> None:
    answers = {"section": np.array([0.1, 0.2, 0.7]), "mood": np.array([0.5, 0.5])}
    assert repr(Prediction(LABELS, answers, truncated=False)) == (
        "Prediction(section=sports 0.70, mood=calm 0.50)"
    )
