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
from newsie.inference.prediction import Prediction
from newsie.labels import IGNORE, LabelSpace, Task
from newsie.metrics.estimates import Interval, share
from newsie.metrics.evaluation import (
    accuracy,
    brier_score,
    calibration_difference,
    confidence_bins,
    evaluate,
    evaluate_predictions,
    expected_calibration_error,
    fit_calibration_temperature,
    macro_f1,
    macro_f1_estimate,
    negative_log_likelihood,
    paired_difference,
    softmax,
)


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
    assert (found.classes, found.measured, found.never_predicted) == (3, 3, ())
    assert found.accuracy_interval.low == pytest.approx(0.4385, abs=1e-4)  # Wilson, 3 of 3
    assert found.accuracy_interval.high == found.macro_f1_interval.high == 1.0
    assert found.macro_f1_interval.low < 0.5


def test_labels_that_are_not_measured_or_never_predicted_are_told() -> None:
    found = evaluate(np.eye(4)[[0, 0, 1, 3]], [0, 2, 2, IGNORE])
    assert (found.classes, found.measured, found.never_predicted) == (4, 2, (2,))


@pytest.mark.parametrize(("right", "low", "high"), [(5, 0.5655, 1.0), (0, 0.0, 0.4345)])
def test_five_articles_do_not_make_a_certainty(right: int, low: float, high: float) -> None:
    found = evaluate(np.tile([0.9, 0.1], (5, 1)), np.full(5, 0 if right else 1))
    assert found.accuracy_interval.low == pytest.approx(low, abs=1e-4)
    assert found.accuracy_interval.high == pytest.approx(high, abs=1e-4)
    assert found.macro_f1_interval.high - found.macro_f1_interval.low > 0.3


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


# --- intervals ------------------------------------------------------------------------------------


def answers(n: int, classes: int, right: float, random: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Predicted and gold labels, the n-th label n times rarer than the first."""
    prior = 1 / np.arange(1, classes + 1)
    y = random.choice(classes, n, p=prior / prior.sum())
    wrong = (y + random.integers(1, classes, n)) % classes
    return np.where(random.random(n) < right, y, wrong), y


@pytest.mark.parametrize(
    ("n", "classes", "right"),
    [(5, 2, 0.9), (20, 2, 0.99), (20, 6, 0.9), (60, 6, 0.97), (60, 14, 0.8), (240, 41, 0.95)],
)
def test_intervals_of_macro_f1_hold_the_true_value_as_often_as_they_say(
    n: int, classes: int, right: float
) -> None:
    random = np.random.default_rng(0)
    truth = label_f1(*answers(100_000, classes, right, random), classes)
    held, runs = 0, 300
    for _ in range(runs):
        predicted, y = answers(n, classes, right, random)
        interval = macro_f1_estimate(predicted, y)
        # Macro-F1 is the mean over the labels that occur.
        held += interval.low <= truth[np.unique(y)].mean() <= interval.high
    assert held / runs >= 0.925  # 0.95 less two standard errors of 300 runs


def label_f1(predicted: NDArray[Any], y: NDArray[Any], classes: int) -> NDArray[Any]:
    """(C,) F1 of each label."""
    right = np.bincount(y[predicted == y], minlength=classes)
    return (
        2 * right / (np.bincount(predicted, minlength=classes) + np.bincount(y, minlength=classes))
    )


@pytest.mark.parametrize(("n", "classes"), [(6, 2), (60, 6), (300, 14), (1_000, 14)])
def test_intervals_of_a_difference_of_macro_f1_do_too(n: int, classes: int) -> None:
    random = np.random.default_rng(1)

    def both(n: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        p, y = answers(n, classes, 0.85, random)
        changed = random.random(n) < 0.2
        return p, np.where(changed, random.integers(0, classes, n), p), y

    p, q, y = both(100_000)
    truth = label_f1(p, y, classes) - label_f1(q, y, classes)
    held, runs = 0, 300
    for _ in range(runs):
        one, two, gold = both(n)
        found = paired_difference("macro_f1", one, two, gold)
        held += found.low <= truth[np.unique(gold)].mean() <= found.high
    assert held / runs >= 0.92


def test_intervals_narrow_with_more_articles() -> None:
    widths = []
    for n in (200, 5_000):
        p, y = some(n)
        found = evaluate(p, y)
        assert found.accuracy_interval.low < found.accuracy < found.accuracy_interval.high
        wilson = share(int((p.argmax(axis=1) == y).sum()), n)
        assert wilson is not None
        assert found.accuracy_interval == wilson.interval
        assert found.macro_f1_interval.low < found.macro_f1 < found.macro_f1_interval.high
        widths.append(found.macro_f1_interval.high - found.macro_f1_interval.low)
    assert widths[1] < widths[0] / 4


def test_the_interval_of_macro_f1_is_near_that_of_a_bootstrap_where_there_are_many_articles() -> (
    None
):
    p, y = some(2_000, 4)
    predicted = p.argmax(axis=1)
    random, drawn = np.random.default_rng(1), []
    for _ in range(1_000):
        rows = random.integers(0, len(y), len(y))
        drawn.append(macro_f1(predicted[rows], y[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = macro_f1_estimate(predicted, y)
    assert found.value == pytest.approx(macro_f1(predicted, y))
    assert found.low <= low + 0.002
    assert found.high >= high - 0.002
    assert found.high - found.low < 1.5 * (high - low)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    p, y = some(1_000)
    predicted = p.argmax(axis=1)
    better = np.where(np.arange(len(y)) % 20 == 0, y, predicted)  # one answer in 20 put right
    difference = paired_difference("accuracy", better, predicted, y)
    assert difference.value == pytest.approx(accuracy(better, y) - accuracy(predicted, y))
    assert 0 < difference.low < difference.value < difference.high
    alone = evaluate(p, y).accuracy_interval
    assert difference.high - difference.low < (alone.high - alone.low) / 2


def test_a_paired_difference_of_macro_f1_is_that_of_a_bootstrap() -> None:
    p, y = some(1_000)
    predicted, other = p.argmax(axis=1), some(1_000, seed=9)[0].argmax(axis=1)
    random, drawn = np.random.default_rng(0), []
    for _ in range(1_000):
        rows = random.integers(0, len(y), len(y))
        drawn.append(macro_f1(predicted[rows], y[rows]) - macro_f1(other[rows], y[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = paired_difference("macro_f1", predicted, other, y)
    assert found.low == pytest.approx(low, abs=0.008)
    assert found.high == pytest.approx(high, abs=0.008)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_same_answers_do_not_differ_and_few_articles_do_not_prove_it(metric: Any) -> None:
    found = paired_difference(metric, [0, 1, 0, 1, 1], [0, 1, 0, 1, 1], [0, 1, 0, 1, 0])
    assert found.value == 0
    assert found.low < -0.1 < 0.1 < found.high


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


def test_each_article_weighs_as_often_as_it_is_drawn() -> None:
    # One bin: ECE is |mean gap|, and the difference of the two a mean of gaps, whose error is known.
    p = np.tile([0.9, 0.1], (400, 1))
    q = np.tile([0.6, 0.4], (400, 1))
    y = (np.arange(400) % 4 == 0).astype(int)  # 75 % right: gaps of 0.15 and -0.15
    found = calibration_difference(p, q, y)
    # The difference is (mean gap of p) + (mean gap of q): twice the error of the share of right ones.
    half = 2 * 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert found.low == pytest.approx(-half, rel=0.12)
    assert found.high == pytest.approx(half, rel=0.12)


def test_a_bootstrap_can_be_repeated() -> None:
    p, y = some(100)
    q = softmax(2 * np.log(p))
    first = calibration_difference(p, q, y, seed=1)
    assert first == calibration_difference(p, q, y, seed=1)
    assert first != calibration_difference(p, q, y, seed=2)


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


def test_wrong_input_to_intervals() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        macro_f1_estimate([], [])
    with pytest.raises(InputError, match="between 0 and 1"):
        calibration_difference([[1.0, 0.0]], [[1.0, 0.0]], [1], confidence=95)


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
    assert found.to_json()["tasks"]["section"]["accuracy_interval"]["low"] < 0.1


def test_no_predictions() -> None:
    found = evaluate_predictions([], LABELS)
    assert (found.articles, found.tasks, found.unknown_labels) == (0, {}, {})
