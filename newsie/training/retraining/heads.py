"""A head for a few articles: logistic regression on what the frozen student makes of them.

How much it is regularised is chosen by cross-validation on the articles at hand. The regression is
written as the two layers of a `Head`, so that a quick student is a student like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from newsie.baseline import deal_folds
from newsie.errors import MissingExtraError
from newsie.evaluation import fit_calibration_temperature, softmax
from newsie.training.retraining.frozen import HeadWeights

__all__ = ["FittedHead", "LinearFit", "as_head", "choose_linear", "fit_linear"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

PENALTIES = (1e4, 1e3, 1e2, 1e1, 1e0, 1e-1)
"""Lambda of lambda / 2 * |W|^2 beside the sum of the losses; states are standardised."""

MAX_CHOOSING = 2_000
"""Articles on which the penalty is chosen, or up to twice as many; the head is then fitted on all."""

FOLDS = 5

TOLERANCE, CHOOSING_TOLERANCE = 1e-7, 1e-5
"""The solver stops when a step lowers the loss by less than this share. The loss that chooses the penalty
differs by more than 1 % from one penalty to the next, so a looser one is enough there, in half the time."""

FLOOR = 0.5
"""Added to the deviation of a state, as squares, in medians of all deviations. Some states hardly move; by
their deviation alone they would get weights so large that the rounding of int8 decides."""


@dataclass(frozen=True)
class LinearFit:
    """Logits x W' + b, fitted.

    Attributes:
        weights: W, (C, F).
        bias: b, (C,).
    """

    weights: Floats
    bias: Floats

    def logits(self, x: NDArray[np.floating]) -> Floats:
        """(N, F) -> (N, C)."""
        return np.asarray(x @ self.weights.T + self.bias, np.float64)


@dataclass(frozen=True)
class FittedHead:
    """A fit, and how it was chosen.

    Attributes:
        fit: on all articles.
        penalty: lambda.
        temperature: calibration temperature, from articles that each fit had not seen.
        loss: mean cross entropy on those.
        accuracy: on those.
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
    """Logistic regression, minimised by L-BFGS:

        sum_n -log softmax(x_n W' + b)[y_n]  +  penalty / 2 * |(W - W_0) s|^2

    where s is nearly the standard deviation of each column of x, so that none weighs more for its scale:
    see `FLOOR`.

    Labels that are there before and that no article has would be unlearnt by this, since every article
    speaks against them. Their weights stay as they are, and so does what they weigh beside the others:
    an article with a label of before must leave them the probability that W_0 gives them (learning
    without forgetting), one with a new label is not compared with them.

    Args:
        x: (N, F).
        y: (N,) class indices.
        classes: C.
        penalty: lambda.
        prior: W_0 and b_0 of the first labels, those of before; zeros for the others. None: for all.
        absent: labels of before that no article has.
        start: where to begin, see `_solve`.
    """
    return _solve(_Problem.of(x, y, classes, prior, absent), penalty, start)[0]


@dataclass(frozen=True)
class _Problem:
    """Standardised articles and what is added to their logits."""

    z: Floats  # (N, F + 1), the last column 1
    targets: Floats  # (N, C), rows that sum to 1
    offset: Floats  # (N, C), minus infinity where an article is not compared with a label
    free: NDArray[np.bool_]  # (C, 1): whether the weights of a label may change
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
        """Mean cross entropy of the targets with softmax(logits), (N, C)."""
        p = softmax(np.where(np.isfinite(self.offset), logits, -np.inf))
        return float(-(self.targets * np.log(np.maximum(p, 1e-12))).sum(axis=1).mean())


def _scale(x: NDArray[np.floating]) -> Floats:
    """(N, F) -> (F,), above 0."""
    deviations = np.asarray(x.std(axis=0, dtype=np.float64), np.float64)
    floor = FLOOR * float(np.median(deviations))
    return np.hypot(deviations, floor) if floor else np.ones(len(deviations))


def _solve(
    problem: _Problem, penalty: float, start: Floats | None, tolerance: float = TOLERANCE
) -> tuple[LinearFit, Floats]:
    """The fit, and its solution (C, F + 1) to begin the next one from."""
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
    """Logistic regression with the penalty that does best on articles left out.

    Penalties are tried from the strongest to the weakest, until the loss on left-out articles rises: weak
    penalties take most of the time, and a head that overfits already overfits more with a weaker one.

    Args:
        x: (N, F).
        y: (N,) class indices.
        classes: C.
        prior: what there is to begin with, see `fit_linear`; its labels that no article has are kept.
        seed: of the folds.
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
    """Each penalty with the (N, C) logits of each article by a fit that had not seen it."""
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
    """Compute on one thread: the products here take a millisecond, and a second thread that has to wait
    for a busy core makes each of thousands take a hundred."""
    try:
        import scipy.optimize  # noqa: F401  # it brings a BLAS of its own, which is limited only once loaded
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("fitting a head", error.name or "scipy", "train") from error
    return cast("AbstractContextManager[object]", threadpool_limits(1))


def _sample(y: Indices, seed: int) -> Indices:
    """Rows to choose on: all, or as many as are enough, of each label in proportion."""
    parts = max(1, len(y) // MAX_CHOOSING)
    return np.flatnonzero(deal_folds(y, parts, seed) == 0)


def as_head(fit: LinearFit) -> HeadWeights:
    """x W' + b as the two layers of a head of H units: relu(z) - relu(-z) = z, two units for each z.

    Where there are more than H / 2 labels, z are the H / 2 directions in which W answers most (its
    singular vectors), and the rest is left out.
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
