from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.errors import InputError
from newsie.evaluation import (
    Interval,
    accuracy,
    bootstrap_difference,
    bootstrap_interval,
    brier_score,
    calibration_difference,
    confidence_bins,
    evaluate,
    evaluate_predictions,
    expected_calibration_error,
    fit_calibration_temperature,
    macro_f1,
    negative_log_likelihood,
    softmax,
)
from newsie.labels import IGNORE, LabelSpace, Task
from newsie.prediction import Prediction


def some(n: int = 500, c: int = 5, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities (N, C) and labels drawn from them."""
    random = np.random.default_rng(seed)
    p = softmax(2 * random.normal(size=(n, c)))
    y = np.array([random.choice(c, p=row) for row in p])
    return p, y


# --- golden values, by hand -----------------------------------------------------------------------

P = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]]
Y = [0, 1, 1, 0]  # predicted: 0, 1, 0, 2


def test_accuracy_by_hand() -> None:
    assert accuracy([0, 1, 0, 2], Y) == 0.5


def test_macro_f1_by_hand() -> None:
    # label 0: TP 1, FP 1, FN 1 -> 1/2; label 1: TP 1, FP 0, FN 1 -> 2/3; label 2 is not in gold
    assert macro_f1([0, 1, 0, 2], Y) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_negative_log_likelihood_by_hand() -> None:
    wanted = -(math.log(0.7) + math.log(0.6) + math.log(0.4) + math.log(0.2)) / 4
    assert negative_log_likelihood(P, Y) == pytest.approx(wanted)


def test_an_impossible_gold_label_is_infinitely_unlikely() -> None:
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == math.inf


def test_brier_score_by_hand() -> None:
    wanted = (
        (0.09 + 0.04 + 0.01) + (0.01 + 0.16 + 0.09) + (0.25 + 0.36 + 0.01) + (0.64 + 0.04 + 0.36)
    )
    assert brier_score(P, Y) == pytest.approx(wanted / 4)


def test_calibration_error_by_hand() -> None:
    # By confidence: .5 wrong, .6 wrong | .65 right, .7 right -> |0 - 1.1|/4 + |2 - 1.35|/4
    p = [[0.7, 0.2, 0.1], [0.3, 0.1, 0.6], [0.5, 0.4, 0.1], [0.1, 0.65, 0.25]]
    assert expected_calibration_error(p, [0, 0, 1, 1], bins=2) == pytest.approx((1.1 + 0.65) / 4)
    assert expected_calibration_error(p, [0, 0, 1, 1], bins=1) == pytest.approx(0.45 / 4)


def test_calibration_error_has_no_empty_bins() -> None:
    assert expected_calibration_error([[0.9, 0.1]], [0], bins=15) == pytest.approx(0.1)


def test_calibration_error_does_not_depend_on_the_order_of_equals() -> None:
    p = np.tile([0.8, 0.2], (1_000, 1))
    y = np.repeat([0, 1], [800, 200])
    assert expected_calibration_error(p, y) == pytest.approx(0)
    assert expected_calibration_error(p, y[::-1]) == pytest.approx(0)


def test_softmax_by_hand() -> None:
    assert softmax([[0.0, math.log(3)], [1e4, 0.0]]).tolist() == [[0.25, 0.75], [1.0, 0.0]]


# --- against scikit-learn -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

    p, y = some(60, 8, seed)  # few enough that some labels are missing
    predicted = p.argmax(axis=1)
    present = np.unique(y)
    assert accuracy(predicted, y) == pytest.approx(accuracy_score(y, predicted))
    assert macro_f1(predicted, y) == pytest.approx(
        f1_score(y, predicted, labels=present, average="macro", zero_division=0)
    )
    assert negative_log_likelihood(p, y) == pytest.approx(log_loss(y, p, labels=range(8)))
    assert brier_score(p, y) == pytest.approx(
        brier_score_loss(y, p, labels=range(8), scale_by_half=False)
    )


# --- properties -----------------------------------------------------------------------------------


def test_articles_without_a_gold_label_count_nowhere() -> None:
    p, y = some()
    wide = np.concatenate([p, p[:50]]), np.concatenate([y, np.full(50, IGNORE)])
    assert evaluate(*wide) == evaluate(p, y)
    assert fit_calibration_temperature(*wide) == fit_calibration_temperature(p, y)


def test_perfect_answers() -> None:
    found = evaluate(np.eye(3), [0, 1, 2])
    assert (found.accuracy, found.macro_f1, found.brier_score) == (1.0, 1.0, 0.0)
    assert found.expected_calibration_error == found.negative_log_likelihood == 0.0
    assert found.accuracy_interval == Interval(1.0, 1.0)


def test_a_single_gold_label() -> None:
    found = evaluate([[0.9, 0.1], [0.4, 0.6]], [0, 0])
    assert found.accuracy == 0.5
    assert found.macro_f1 == pytest.approx(2 / 3)
    assert found.macro_f1_interval.high == 1.0


def test_calibrated_answers_have_a_small_error_and_sure_ones_a_large_one() -> None:
    p, y = some(20_000)
    assert expected_calibration_error(p, y) < 0.02
    sharper = softmax(3 * np.log(p))
    assert expected_calibration_error(sharper, y) > 0.1


@given(st.integers(0, 1000))
def test_metrics_do_not_depend_on_the_order(seed: int) -> None:
    p, y = some(40, 4, seed)
    order = np.random.default_rng(seed).permutation(len(y))
    for metric in (negative_log_likelihood, brier_score, expected_calibration_error):
        assert metric(p[order], y[order]) == pytest.approx(metric(p, y))
    assert macro_f1(p[order].argmax(1), y[order]) == pytest.approx(macro_f1(p.argmax(1), y))


# --- calibration temperature ----------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_the_temperature_that_was_applied_is_found(temperature: float) -> None:
    p, y = some(20_000)
    found = fit_calibration_temperature(temperature * np.log(p), y)
    assert found == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_is_better() -> None:
    p, y = some(200, seed=3)
    z = 2.2 * np.log(p)
    found = fit_calibration_temperature(z, y)
    best = negative_log_likelihood(softmax(z / found), y)
    for other in (0.97 * found, 1.03 * found, 0.5, 1.0, 4.0):
        assert best <= negative_log_likelihood(softmax(z / other), y)


def test_temperatures_stay_within_bounds() -> None:
    assert fit_calibration_temperature([[9.0, 0.0], [0.0, 9.0]], [0, 1]) == pytest.approx(0.05)
    assert fit_calibration_temperature([[9.0, 0.0], [0.0, 9.0]], [1, 0]) == pytest.approx(20)


def test_large_logits_do_not_overflow() -> None:
    assert 0.05 <= fit_calibration_temperature([[1e30, -1e30], [1.0, 0.0]], [0, 1]) <= 20


# --- bootstrap ------------------------------------------------------------------------------------


def test_intervals_hold_the_value_and_narrow_with_more_articles() -> None:
    widths = []
    for n in (200, 5_000):
        p, y = some(n)
        predicted = p.argmax(axis=1)
        interval = bootstrap_interval("accuracy", predicted, y)
        share = accuracy(predicted, y)
        assert interval.low < share < interval.high
        # the normal approximation of the binomial distribution
        error = 1.96 * math.sqrt(share * (1 - share) / n)
        assert interval.high - interval.low == pytest.approx(2 * error, rel=0.1)
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0] / 4


def test_drawing_counts_is_drawing_articles() -> None:
    p, y = some(300, 4)
    predicted = p.argmax(axis=1)
    random, drawn = np.random.default_rng(1), []
    for _ in range(2_000):
        rows = random.integers(0, len(y), len(y))
        drawn.append(macro_f1(predicted[rows], y[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    interval = bootstrap_interval("macro_f1", predicted, y)
    assert interval.low == pytest.approx(low, abs=0.01)
    assert interval.high == pytest.approx(high, abs=0.01)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    p, y = some(1_000)
    predicted = p.argmax(axis=1)
    better = np.where(np.arange(len(y)) % 20 == 0, y, predicted)  # one answer in 20 put right
    difference = bootstrap_difference("accuracy", better, predicted, y)
    assert 0 < difference.low < accuracy(better, y) - accuracy(predicted, y) < difference.high
    alone = bootstrap_interval("accuracy", predicted, y)
    assert difference.high - difference.low < (alone.high - alone.low) / 2
    assert bootstrap_difference("macro_f1", predicted, predicted, y) == Interval(0.0, 0.0)


def test_a_paired_difference_is_that_of_the_articles() -> None:
    p, y = some(400)
    predicted, other = p.argmax(axis=1), some(400, seed=9)[0].argmax(axis=1)
    right = (predicted == y).astype(float) - (other == y)
    rows = np.random.default_rng(0).integers(0, len(right), (2_000, len(right)))
    low, high = np.quantile(right[rows].mean(axis=1), [0.025, 0.975])
    found = bootstrap_difference("accuracy", predicted, other, y)
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


def test_a_difference_of_calibration_is_that_of_the_articles() -> None:
    p, y = some(400)
    surer = softmax(3 * np.log(p))
    found = calibration_difference(surer, p, y)
    errors = expected_calibration_error(surer, y), expected_calibration_error(p, y)
    assert 0 < found.low < errors[0] - errors[1] < found.high

    drawn = np.random.default_rng(0).integers(0, len(y), (2_000, len(y)))
    values = []
    for scores in (surer, p):
        confidence = scores.max(axis=1)
        gap = confidence - (scores.argmax(axis=1) == y)
        inside = [np.isin(drawn, rows) for rows in confidence_bins(confidence)]
        values.append(sum(np.abs((gap[drawn] * rows).sum(axis=1)) for rows in inside) / len(y))
    low, high = np.quantile(values[0] - values[1], [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)
    assert calibration_difference(p, p, y) == Interval(0.0, 0.0)


def test_bootstraps_can_be_repeated() -> None:
    p, y = some(100)
    predicted = p.argmax(axis=1)
    first = bootstrap_interval("macro_f1", predicted, y, seed=1)
    assert first == bootstrap_interval("macro_f1", predicted, y, seed=1)
    assert first != bootstrap_interval("macro_f1", predicted, y, seed=2)


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([[0.5, 0.5]], [IGNORE], "nothing to measure"),
        (np.empty((0, 2)), [], "nothing to measure"),
        ([[0.5, 0.5]], [2], "there are 2 labels"),
        ([[0.5, 0.5]], [-1], "start at 0"),
        ([[0.5, 0.5]], [0, 1], "must be"),
        ([0.5, 0.5], [0, 1], "must be"),
        ([[math.nan, 0.5]], [0], "not a finite number"),
    ],
)
def test_wrong_input_is_named(p: Any, y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(p, y)


def test_wrong_input_to_the_bootstrap() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        bootstrap_interval("accuracy", [], [])
    with pytest.raises(InputError, match="between 0 and 1"):
        bootstrap_interval("accuracy", [1], [1], confidence=95)


# --- predictions ----------------------------------------------------------------------------------

LABELS = LabelSpace((Task("section", ("arts", "sports")), Task("mood", ("calm", "loud"))))


def prediction(section: float, mood: float) -> Prediction:
    return Prediction(
        LABELS,
        {"section": np.array([1 - section, section]), "mood": np.array([1 - mood, mood])},
        False,
    )


def test_predictions_are_compared_with_gold_labels() -> None:
    found = evaluate_predictions(
        [
            (Article("a", labels={"section": "sports"}), prediction(0.9, 0.5)),
            (Article("b", labels={"section": "sports"}), prediction(0.2, 0.5)),
            (Article("c", labels={"section": "weather"}), prediction(0.2, 0.5)),
            (Article("d", labels={"section": "weather", "mood": "odd"}), prediction(0.2, 0.5)),
            (Article("e"), prediction(0.2, 0.5)),
        ],
        LABELS,
    )
    assert found.articles == 5
    assert set(found.tasks) == {"section"}
    assert (found.tasks["section"].support, found.tasks["section"].accuracy) == (2, 0.5)
    assert found.unknown_labels == {"section": {"weather": 2}, "mood": {"odd": 1}}
    assert found.to_json()["tasks"]["section"]["accuracy_interval"]["low"] == 0.0


def test_no_predictions() -> None:
    found = evaluate_predictions([], LABELS)
    assert (found.articles, found.tasks, found.unknown_labels) == (0, {}, {})
