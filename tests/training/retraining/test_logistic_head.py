from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import threadpoolctl  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression

from newsie.metrics.evaluation import negative_log_likelihood, softmax
from newsie.training.retraining.logistic_head import LinearFit, as_head, choose_linear, fit_linear


def articles(count: int, classes: int = 3, width: int = 8, seed: int = 0) -> tuple[np.ndarray, ...]:
    """States that tell the class, with noise; of very different scales."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(classes, width))
    y = random.integers(0, classes, count)
    return (centres[y] + random.normal(size=(count, width))) * np.arange(1, width + 1), y


def test_a_fit_is_that_of_scikit_learn() -> None:
    x, y = articles(300)
    deviations = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.hypot(deviations, np.median(deviations) / 2)
    theirs = LogisticRegression(C=1 / 10, tol=1e-8, max_iter=1_000).fit(z, y).predict_proba(z)
    ours = softmax(fit_linear(x, y, 3, penalty=10.0).logits(x))
    assert np.abs(ours - theirs).max() < 1e-3


def test_a_large_penalty_keeps_the_prior() -> None:
    x, y = articles(100)
    random = np.random.default_rng(1)
    prior = LinearFit(random.normal(size=(3, 8)), random.normal(size=3))
    kept = fit_linear(x, y, 3, penalty=1e12, prior=prior)
    np.testing.assert_allclose(kept.weights, prior.weights, atol=1e-6)
    free = fit_linear(x, y, 3, penalty=0.1, prior=prior)
    assert np.abs(free.weights - prior.weights).max() > 0.01


def test_the_penalty_is_large_where_nothing_is_to_be_learnt() -> None:
    x, y = articles(90)
    noise = np.random.default_rng(2).integers(0, 3, len(y))
    assert choose_linear(x, noise, 3).penalty > choose_linear(x, y, 3).penalty


def test_what_it_says_of_itself_is_true_of_other_articles() -> None:
    x, y = articles(400)
    found = choose_linear(x, y, 3)
    other, gold = articles(2_000, seed=1)
    accuracy = (found.fit.logits(other).argmax(axis=1) == gold).mean()
    assert found.accuracy == pytest.approx(accuracy, abs=0.05)
    logits = found.fit.logits(other)
    calibrated, raw = softmax(logits / found.temperature), softmax(logits)
    assert negative_log_likelihood(calibrated, gold) < negative_log_likelihood(raw, gold)


def test_labels_with_a_single_article_do_not_stop_it() -> None:
    x, y = articles(40)
    y[:] = np.where(y == 2, 0, y)
    y[0] = 2
    assert np.isfinite(choose_linear(x, y, 3).fit.logits(x)).all()


def head_logits(fit: LinearFit, x: np.ndarray) -> np.ndarray:
    head = as_head(fit)
    inner = np.maximum(x @ head.inner.T + head.inner_bias, 0)
    return np.asarray(inner @ head.outer.T + head.outer_bias)


def test_as_a_head_it_computes_the_same() -> None:
    random = np.random.default_rng(0)
    fit = LinearFit(random.normal(size=(4, 8)), random.normal(size=4))
    x = random.normal(size=(50, 8))
    np.testing.assert_allclose(head_logits(fit, x), fit.logits(x), atol=1e-5)


def test_more_labels_than_a_head_has_room_for_keep_what_matters_most() -> None:
    random = np.random.default_rng(0)
    # 20 labels in a head of 8 units; the weights have 4 directions and a little of the others.
    weights = random.normal(size=(20, 4)) @ random.normal(size=(4, 8))
    fit = LinearFit(weights + 1e-4 * random.normal(size=(20, 8)), random.normal(size=20))
    x = random.normal(size=(50, 8))
    np.testing.assert_allclose(head_logits(fit, x), fit.logits(x), atol=5e-3)


def test_states_that_hardly_move_get_no_large_weights() -> None:
    x, y = articles(300)
    x[:, 0] *= 1e-4  # it tells the class, too, but int8 would round it away
    weights = choose_linear(x, y, 3).fit.weights
    assert np.abs(weights[:, 0]).max() < 3 * np.abs(weights[:, 1:]).max()
    assert np.isfinite(fit_linear(np.zeros((6, 4)), y[:6], 3, penalty=1.0).bias).all()


def test_labels_that_no_article_has_keep_their_weights_and_their_share() -> None:
    x, y = articles(1_200, classes=4)
    of_before = y < 3
    prior = choose_linear(x[of_before], y[of_before], 3).fit  # the fourth is new
    rows = (y != 1) & (np.arange(len(y)) < 600)
    found = choose_linear(x[rows], y[rows], 4, prior=prior).fit
    np.testing.assert_array_equal(found.weights[1], prior.weights[1])
    assert found.bias[1] == prior.bias[1]
    test = np.arange(len(y)) >= 600

    def recall(fit: LinearFit, label: int) -> float:
        return float((fit.logits(x[test & (y == label)]).argmax(axis=1) == label).mean())

    assert recall(found, 1) > recall(prior, 1) - 0.05
    assert recall(found, 3) > 0.5
    forgetful = fit_linear(x[rows], y[rows], 4, penalty=1.0, prior=prior)
    assert recall(forgetful, 1) < 0.5 * recall(prior, 1)


def test_heads_are_fitted_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    minimize = scipy.optimize.minimize

    def look(*args: object, **options: object) -> object:
        pools = threadpoolctl.threadpool_info()
        threads.update(pool["num_threads"] for pool in pools if pool["user_api"] == "blas")
        return minimize(*args, **options)

    monkeypatch.setattr(scipy.optimize, "minimize", look)
    x, y = articles(60)
    with threadpoolctl.threadpool_limits(2):
        choose_linear(x, y, 3)
    assert threads == {1}


def test_weaker_penalties_are_not_tried_once_the_loss_rises() -> None:
    x, y = articles(90)
    noise = np.random.default_rng(2).integers(0, 3, len(y))
    lines: list[str] = []
    found = choose_linear(x, noise, 3, progress=lines.append)
    tried = [line.split(":")[0] for line in lines]
    assert tried[-2:] == [f"penalty {found.penalty:g}", f"penalty {found.penalty / 10:g}"]
    assert "penalty 0.1" not in tried
