"""Bootstraps and folds by their properties: what is drawn, how wide, of which articles."""

from __future__ import annotations

import numpy as np
import pytest

from newsie.labels import IGNORE
from newsie.metrics.baseline import BaselineConfig, deal_folds
from newsie.metrics.evaluation import (
    CALIBRATION_BINS,
    _influence,
    calibration_difference,
    confidence_bins,
    expected_calibration_error,
    macro_f1,
    paired_difference,
)
from newsie.training.calibration import calibrate, labelled_rows


def answers(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two labels, of which the first is the best one, and gold labels."""
    return np.stack([confidence, 1 - confidence], axis=1), np.where(right, 0, 1)


def test_there_are_fifteen_bins_unless_there_are_fewer_articles() -> None:
    assert CALIBRATION_BINS == 15
    assert [len(rows) for rows in confidence_bins(np.linspace(0.5, 1, 300))] == [20] * 15
    assert len(confidence_bins(np.linspace(0.5, 1, 4))) == 4
    # Ten pairs of neighbours, of which one is right each time: bins of two articles are nearly calibrated.
    confidence = np.repeat(np.linspace(0.5, 0.5 + 1e-6, 15), 2) + np.tile([0, 1e-9], 15)
    p, gold = answers(confidence, np.tile([True, False], 15))
    assert expected_calibration_error(p, gold) == pytest.approx(0, abs=1e-5)


def test_a_model_does_not_differ_from_itself_in_any_draw() -> None:
    random = np.random.default_rng(0)
    p, gold = answers(random.uniform(0.5, 1, 200), random.random(200) < 0.7)
    interval = calibration_difference(p, p, gold, resamples=200)
    assert (interval.low, interval.high) == (0, 0)


def test_articles_that_are_all_off_alike_leave_no_doubt() -> None:
    # One is 0.9 sure and always wrong, the other 0.9 sure and always right: errors of 0.9 and 0.1 in
    # every draw, however many articles it has.
    p, gold = answers(np.full(50, 0.9), np.zeros(50, bool))
    other = p[:, ::-1]
    interval = calibration_difference(p, other, gold, resamples=300)
    assert interval.low == pytest.approx(0.8)
    assert interval.high == pytest.approx(0.8)


def test_the_interval_is_as_wide_as_drawing_articles_makes_it() -> None:
    # Confidence 0.8 in one bin: the error is |0.8 - accuracy|, here 0.8 - 0.5, and far from 0. The other one
    # is always off by 0.1. Drawing N articles moves an accuracy of 1/2 by 1.96 * 0.5 / sqrt(N).
    count = 2_500
    right = np.arange(count) % 2 == 0
    p, gold = answers(np.full(count, 0.8), right)
    other = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    interval = calibration_difference(p, other, gold, resamples=2_000)
    assert (interval.low + interval.high) / 2 == pytest.approx(0.2, abs=0.003)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.5 / 50, rel=0.08)


def test_folds_hold_as_many_of_each_label_as_they_can() -> None:
    labels = np.repeat([0, 1, 2], [100, 7, 2])
    fold = deal_folds(labels, 5, seed=3)
    for label in range(3):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert (fold != deal_folds(labels, 5, seed=4)).any()


def test_published_figures_rest_on_this_baseline() -> None:
    config = BaselineConfig()
    assert (config.max_features, config.min_articles, config.longest_phrase) == (300_000, 2, 2)
    assert (config.inverse_penalty, config.solver, config.seed) == (20.0, "saga", 0)


def test_a_task_without_labels_keeps_the_temperature_that_is_given() -> None:
    logits = {task: np.zeros((5, 2), np.float32) for task in ("mood", "section", "topic")}
    labels = {task: np.full(5, IGNORE) for task in logits}
    found = calibrate(logits, labels, {"mood": 1.7, "section": 0.6})
    assert found == {"mood": 1.7, "section": 0.6, "topic": 1.0}


def test_rows_to_compare_on_are_drawn_at_random() -> None:
    labels = {"section": np.where(np.arange(2_000) % 2, 0, IGNORE)}
    rows = labelled_rows(labels, {"section": 200})
    assert len(rows) == 200
    assert (rows % 2 == 1).all()
    assert rows.mean() == pytest.approx(1_000, abs=150)  # of the first ones the mean would be 200
    assert rows.tolist() == labelled_rows(labels, {"section": 200}).tolist()
    assert rows.tolist() != labelled_rows(labels, {"section": 200}, seed=1).tolist()


def test_influences_are_the_slopes_of_macro_f1_in_the_weights_of_articles() -> None:
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 3, 30), random.integers(0, 4, 30)  # 3 is no gold label

    def weighted_f1(weights: np.ndarray) -> float:
        right = [weights[(labels == k) & (predicted == k)].sum() for k in range(3)]
        total = [weights[labels == k].sum() + weights[predicted == k].sum() for k in range(3)]
        return float(np.mean([2 * r / t for r, t in zip(right, total, strict=True)]))

    assert weighted_f1(np.ones(30)) == pytest.approx(macro_f1(predicted, labels))
    step = 1e-6
    for row, influence in enumerate(_influence(predicted, labels)):
        weights = np.ones(30)
        weights[row] += step
        slope = (weighted_f1(weights) - weighted_f1(np.ones(30))) / step
        assert influence == pytest.approx(slope, abs=1e-6)


def test_equal_answers_differ_by_two_articles_at_most() -> None:
    # 200 articles of each label, 200 of each predicted: an article is worth 2 / 400 / 2 of macro-F1, and
    # one for and one against have the variance of two such articles.
    labels = np.repeat([0, 1], 200)
    predicted = np.where(np.arange(400) % 4 == 0, 1 - labels, labels)
    found = paired_difference("macro_f1", predicted, predicted, labels)
    assert found.value == 0
    assert found.high == -found.low == pytest.approx(1.96 * (2 * 0.0025**2) ** 0.5, rel=1e-3)
