from __future__ import annotations

import numpy as np

from newsie.metrics.evaluation import softmax
from newsie.training.retraining.logistic_head import LinearFit, _Problem


def test_a_label_without_articles_keeps_the_probability_that_it_had() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 4)), random.choice([0, 2, 3], 30)  # 1 has none, 3 is new
    prior = LinearFit(random.normal(size=(3, 4)), random.normal(size=3))
    problem = _Problem.of(x, y, 4, prior, [1])
    np.testing.assert_allclose(problem.targets.sum(axis=1), 1)
    before = y < 3
    kept = softmax(prior.logits(x))[:, 1]
    np.testing.assert_allclose(problem.targets[before, 1], kept[before])
    np.testing.assert_allclose(problem.targets[before, y[before]], 1 - kept[before])
    # An article with a new label is not compared with it.
    assert (problem.offset[~before, 1] == -np.inf).all()
    assert not problem.targets[~before, 1].any()
    assert problem.free.ravel().tolist() == [True, False, True, True]
