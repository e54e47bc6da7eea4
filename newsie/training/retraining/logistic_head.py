"""Heads for a few articles: logistic regression on the hidden states of the frozen student.

The penalty is chosen by cross-validation. The regression is written as the two layers of a `Head`, so that
a quick student has the same form as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from newsie.errors import MissingExtraError
from newsie.graph.heads import HeadWeights
from newsie.metrics.baseline import deal_folds
from newsie.metrics.evaluation import fit_calibration_temperature, softmax

__all__ = ["FittedHead", "LinearFit", "as_head", "choose_linear", "fit_linear"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

PENALTIES = (1e4, 1e3, 1e2, 1e1, 1e0, 1e-1)
"""The values of lambda in lambda / 2 * |W|^2, added to the sum of the losses; states are standardised."""

MAX_CHOOSING = 2_000
"""The penalty is chosen on this many articles, or up to twice as many. The head is fitted on all."""

FOLDS = 5

TOLERANCE, CHOOSING_TOLERANCE = 1e-7, 1e-5
"""The solver stops when a step lowers the loss by less than this share. Losses differ by more than 1 % from
one penalty to the next, so a looser tolerance is enough to choose one, and takes half the time."""

FLOOR = 0.5
"""The floor of a state's deviation, in medians of all deviations; the squares of both are added. Some states
hardly vary. Divided by their deviation alone, they would get weights so large that int8 rounding decides."""


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear classifier with logits x W' + b.

    Attributes:
        weights: W, (C, F).
        bias: b, (C,).
    """

    weights: Floats
    bias: Floats

    def logits(self, x: NDArray[np.floating]) -> Floats:
        """Return the logits (N, C) of x (N, F)."""
        return np.asarray(x @ self.weights.T + self.bias, np.float64)


@dataclass(frozen=True)
class FittedHead:
    """A fit, with the penalty chosen for it and its scores on left-out articles.

    Attributes:
        fit: the fit on all articles.
        penalty: lambda.
        temperature: calibration temperature, fitted on left-out articles.
        loss: mean cross entropy on left-out articles.
        accuracy: accuracy on left-out articles.
    """

    fit: LinearFit
    penalty: float
    temperature: float
    loss: float
    accuracy: float


def fit_linear(
    x: NDArray[np.floating],
    y: Indices,
    classes: int,
    penalty: float,
    *,
    prior: LinearFit | None = None,
    absent: Sequence[int] = (),
    start: Floats | None = None,
) -> LinearFit:
    """Fit logistic regression by L-BFGS, which minimises

        sum_n -log softmax(x_n W' + b)[y_n]  +  penalty / 2 * |(W - W_0) s|^2

    where s is nearly the standard deviation of each column of x, so that its scale does not matter; see
    `FLOOR`.

    Old labels without articles would be unlearnt, since every article counts against them. Their weights are
    therefore frozen. Articles with an old label must leave them the probability that W_0 gives them (learning
    without forgetting). Articles with a new label are not compared with them.

    Args:
        x: (N, F).
        y: (N,) class indices.
        classes: C.
        penalty: lambda.
        prior: W_0 and b_0 of the old labels, which come first; the others get zeros. None means all zeros.
        absent: old labels that no article has.
        start: the solution to start from, see `_solve`.
    """
    return _solve(_Problem.of(x, y, classes, prior, absent), penalty, start)[0]


@dataclass(frozen=True)
class _Problem:
    """Standardised inputs, targets and the offset of the logits."""

    z: Floats  # (N, F + 1), the last column 1
    targets: Floats  # (N, C), rows that sum to 1
    offset: Floats  # (N, C), minus infinity where an article is not compared with a label
    free: NDArray[np.bool_]  # (C, 1), true for labels whose weights may change
    mean: Floats
    scale: Floats
    prior: LinearFit

    @classmethod
    def of(
        cls,
        x: NDArray[np.floating],
        y: Indices,
        classes: int,
        prior: LinearFit | None,
        absent: Sequence[int],
    ) -> _Problem:
        mean, scale = np.asarray(x.mean(axis=0, dtype=np.float64), np.float64), _scale(x)
        if prior is None:
            prior = LinearFit(np.zeros((0, x.shape[1])), np.zeros(0))
        known = len(prior.bias)
        new = classes - known
        whole = LinearFit(np.pad(prior.weights, ((0, new), (0, 0))), np.pad(prior.bias, (0, new)))
        z = np.hstack([(x - mean) / scale, np.ones((len(x), 1))])
        targets, offset, free = np.eye(classes)[y], whole.logits(x), np.ones((classes, 1), np.bool_)
        if absent:
            columns, of_before = np.array(absent), y < known
            kept = softmax(prior.logits(x))[:, columns] * of_before[:, None]
            targets *= 1 - kept.sum(axis=1, keepdims=True)
            targets[:, columns] = kept
            offset[np.ix_(~of_before, columns)] = -np.inf
            free[columns] = False
        return cls(z, targets, offset, free, mean, scale, whole)

    def mean_loss(self, logits: Floats) -> float:
        """Return the mean cross entropy of the targets and softmax(logits); logits are (N, C)."""
        p = softmax(np.where(np.isfinite(self.offset), logits, -np.inf))
        return float(-(self.targets * np.log(np.maximum(p, 1e-12))).sum(axis=1).mean())


def _scale(x: NDArray[np.floating]) -> Floats:
    """Return the scale (F,) of each column of x (N, F); it is above 0."""
    deviations = np.asarray(x.std(axis=0, dtype=np.float64), np.float64)
    floor = FLOOR * float(np.median(deviations))
    return np.hypot(deviations, floor) if floor else np.ones(len(deviations))


def _solve(
    problem: _Problem, penalty: float, start: Floats | None, tolerance: float = TOLERANCE
) -> tuple[LinearFit, Floats]:
    """Return the fit, and its solution (C, F + 1), from which the next one can start."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise MissingExtraError("fitting a head", error.name or "scipy", "train") from error
    shape = problem.offset.shape[1], problem.z.shape[1]
    targets = problem.targets
    penalised = np.append(np.ones(shape[1] - 1), 0.0)  # the bias is not

    def loss(flat: Floats) -> tuple[float, Floats]:
        d = flat.reshape(shape)
        logits = problem.offset + problem.z @ d.T
        p = softmax(logits)
        value = -(targets * np.log(np.maximum(p, 1e-300))).sum()
        slope = (p - targets).T @ problem.z + penalty * d * penalised
        return float(value + penalty / 2 * (d**2 * penalised).sum()), (slope * problem.free).ravel()

    begin = np.zeros(shape) if start is None else start
    found = minimize(
        loss,
        begin.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 200, "ftol": tolerance},
    ).x.reshape(shape)
    weights = found[:, :-1] / problem.scale
    bias = found[:, -1] - weights @ problem.mean
    prior = problem.prior
    return LinearFit(prior.weights + weights, prior.bias + bias), found


def choose_linear(
    x: NDArray[np.floating],
    y: Indices,
    classes: int,
    *,
    prior: LinearFit | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> FittedHead:
    """Fit logistic regression with the penalty that has the lowest loss on left-out articles.

    Penalties are tried from the strongest to the weakest, until the loss on left-out articles rises. Weak
    penalties take most of the time, and a head that already overfits would overfit more with a weaker one.

    Args:
        x: (N, F).
        y: (N,) class indices.
        classes: C.
        prior: the old weights, see `fit_linear`; those of labels without articles are kept.
        seed: seed of the folds.
        progress: called with a line of text after each penalty.
    """
    there = np.bincount(y, minlength=classes) > 0
    absent = np.flatnonzero(~there[: 0 if prior is None else len(prior.bias)]).tolist()
    rows = _sample(y, seed)
    gold = y[rows]
    problem = _Problem.of(x[rows], gold, classes, prior, absent)
    best, best_loss, best_logits = PENALTIES[0], np.inf, np.empty(0)
    with _one_thread():
        for penalty, logits in _held_out_logits(x[rows], gold, classes, prior, absent, seed):
            loss = problem.mean_loss(logits)
            if progress is not None:
                right = float((logits.argmax(axis=1) == gold).mean())
                progress(f"penalty {penalty:g}: {right:.1%} right of articles left out")
            if loss >= best_loss:
                break
            best, best_loss, best_logits = penalty, loss, logits
        fit = fit_linear(x, y, classes, best, prior=prior, absent=absent)
    return FittedHead(
        fit,
        best,
        fit_calibration_temperature(best_logits, gold),
        best_loss,
        float((best_logits.argmax(axis=1) == gold).mean()),
    )


def _held_out_logits(
    x: NDArray[np.floating],
    y: Indices,
    classes: int,
    prior: LinearFit | None,
    absent: Sequence[int],
    seed: int,
) -> Iterator[tuple[float, Floats]]:
    """Yield each penalty with the logits (N, C) of left-out articles."""
    present = np.bincount(y, minlength=classes)
    folds = int(np.clip(present[present > 0].min(), 2, FOLDS))
    fold = deal_folds(y, folds, seed)
    problems = [
        _Problem.of(x[fold != n], y[fold != n], classes, prior, absent) for n in range(folds)
    ]
    starts: list[Floats | None] = [None] * folds
    for penalty in PENALTIES:
        logits = np.zeros((len(y), classes))
        for number, problem in enumerate(problems):
            fit, starts[number] = _solve(problem, penalty, starts[number], CHOOSING_TOLERANCE)
            logits[fold == number] = fit.logits(x[fold == number])
        yield penalty, logits


def _one_thread() -> AbstractContextManager[object]:
    """Limit BLAS to one thread.

    The products here take a millisecond. A second thread that waits for a busy core would make each of
    thousands take a hundred.
    """
    try:
        import scipy.optimize  # noqa: F401  # it brings a BLAS of its own, which is limited only once loaded
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("fitting a head", error.name or "scipy", "train") from error
    return cast("AbstractContextManager[object]", threadpool_limits(1))


def _sample(y: Indices, seed: int) -> Indices:
    """Return the rows to choose the penalty on: all, or a stratified sample if there are many."""
    parts = max(1, len(y) // MAX_CHOOSING)
    return np.flatnonzero(deal_folds(y, parts, seed) == 0)


def as_head(fit: LinearFit) -> HeadWeights:
    """Return x W' + b as the two layers of a head of H units.

    Each z takes two units, since relu(z) - relu(-z) = z. With more than H / 2 labels, z are the H / 2
    largest singular directions of W, and the rest is left out.
    """
    classes, width = fit.weights.shape
    inner_weights, inner_bias, outer_weights = fit.weights, fit.bias, np.eye(classes)
    outer_bias = np.zeros(classes)
    if 2 * classes > width:
        u, s, v = np.linalg.svd(fit.weights, full_matrices=False)
        half = width // 2
        inner_weights, outer_weights = v[:half], u[:, :half] * s[:half]
        inner_bias, outer_bias = np.zeros(half), fit.bias
    units = len(inner_weights)
    inner, bias, outer = np.zeros((width, width)), np.zeros(width), np.zeros((classes, width))
    for side, sign in enumerate((1.0, -1.0)):
        place = slice(side * units, (side + 1) * units)
        inner[place], bias[place] = sign * inner_weights, sign * inner_bias
        outer[:, place] = sign * outer_weights
    return HeadWeights(*(v.astype(np.float32) for v in (inner, bias, outer, outer_bias)))
