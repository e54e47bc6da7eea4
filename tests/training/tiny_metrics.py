"""Figures over made-up answers, computed as real ones are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from newsie.training.evaluate_run import Question
from newsie.training.metrics_report import (
    BASELINE,
    SERVED,
    STUDENT,
    SYSTEMS,
    TEACHER,
    BodyPresence,
    Circumstances,
    Figures,
    SystemSize,
    TextSize,
)

ERRORS = {TEACHER: 20, STUDENT: 22, SERVED: 23, BASELINE: 40}
"""Wrong answers among 400."""


def tiny_figures(**errors: int) -> Figures:
    """Two questions; `errors` are wrong answers among 400 by system (student, baseline, ...)."""
    wrong = ERRORS | {{"tfidf": BASELINE}.get(name, name): n for name, n in errors.items()}
    questions = [
        question("wire", "headline + body", wrong),
        question("essays", "full text", dict.fromkeys(SYSTEMS, 200)),
    ]
    return Figures(
        Circumstances(
            recipe="tiny",
            command="newsie train tiny.toml --data DIR",
            date="2026-01-31",
            processor="A Processor",
            cores=2,
            commit="abc1234",
            packages={"torch": "2.9"},
            bundle="0123456789abcdef",
            max_tokens=64,
        ),
        (
            SystemSize(TEACHER, 22_000_000, None, 7200.0),
            SystemSize(STUDENT, 17_000_000, None, 3600.0),
            SystemSize(SERVED, None, 18_000_000, None),
        ),
        (TextSize("wire", 400, 300, 41), TextSize("essays", 400, 400, 812)),
        tuple(score for q in questions for score in q.scores()),
        tuple(difference for q in questions for difference in q.differences()),
        (BodyPresence("section", 300, 0.0123, 0.02, 0.1, "sports", 0.31, 0.33),),
        full_text="essays",
        notes=("Essays are labelled by us.",),
    )


def question(corpus: str, view: str, wrong: dict[str, int]) -> Question:
    """400 articles of three labels; the first ones are answered wrongly, and all just as surely."""
    labels = np.arange(400) % 3
    return Question(
        corpus, "section", view, labels, {s: answers(labels, wrong[s]) for s in SYSTEMS}
    )


def answers(labels: NDArray[np.int64], wrong: int) -> NDArray[np.float32]:
    given = np.where(np.arange(len(labels)) < wrong, (labels + 1) % 3, labels)
    return np.where(given[:, None] == np.arange(3), 0.9, 0.05).astype(np.float32)
