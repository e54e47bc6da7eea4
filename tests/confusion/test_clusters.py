from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from newsie.confusion.clusters import cluster_labels, label_distances
from newsie.confusion.predictions import Answers, read_answers
from newsie.confusion.soft import soft_confusion


def paired_answers(articles: int = 600) -> Answers:
    """Labels 0 and 1 are much alike, 2 and 3 less so, 4 and 5 like none."""
    random = np.random.default_rng(0)
    gold = random.integers(0, 6, articles)
    logits = random.normal(0, 0.7, (articles, 6))
    rows = np.arange(articles)
    logits[rows, gold] += 4
    logits[rows, np.array([1, 0, 3, 2, 4, 5])[gold]] += np.array([3.7, 3.7, 2.6, 2.6, 0, 0])[gold]
    p = np.exp(logits)
    return read_answers("abcdef", p / p.sum(axis=1, keepdims=True), gold)


def test_distances_by_hand() -> None:
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    distances = label_distances(soft_confusion(read_answers("abc", p, [0, 1])))
    # (.3 + .2) of .6 + .5 + .3 + .2 crosses
    assert distances[0, 1] == distances[1, 0] == pytest.approx(1 - 2 * 0.5 / 1.6)
    assert distances[0, 2] == 1  # no article
    assert np.diagonal(distances).tolist() == [0, 0, 0]


def test_like_labels_are_merged_first() -> None:
    given = paired_answers()
    found = cluster_labels(given, soft_confusion(given))
    assert found is not None
    assert [cut.labels for cut in found.cuts] == [5, 4, 3, 2]
    assert found.cuts[0].groups == (("a", "b"),)
    assert found.cuts[1].groups == (("a", "b"), ("c", "d"))
    assert found.suggested == 5  # c and d are not near enough
    assert abs(found.order.index("a") - found.order.index("b")) == 1
    assert [merge.distance for merge in found.merges] == sorted(m.distance for m in found.merges)


def test_the_quality_of_each_cut_is_that_of_added_columns() -> None:
    given = paired_answers()
    found = cluster_labels(given, soft_confusion(given))
    assert found is not None
    for cut in found.cuts:
        group = {label: label for label in given.labels}
        group |= {label: labels[0] for labels in cut.groups for label in labels}
        names = sorted(set(group.values()))
        place = np.array([names.index(group[label]) for label in given.labels])
        p = np.zeros((len(given), len(names)))
        np.add.at(p.T, place, given.probabilities.T)
        gold, predicted = place[given.gold], p.argmax(axis=1)
        assert cut.accuracy is not None
        assert cut.accuracy.value == pytest.approx(accuracy_score(gold, predicted))
        assert cut.accuracy.low < cut.accuracy.value <= cut.accuracy.high
        assert cut.macro_f1 == pytest.approx(f1_score(gold, predicted, average="macro"))


def test_without_gold_labels() -> None:
    given = paired_answers()
    bare = read_answers(given.labels, given.probabilities)
    found = cluster_labels(bare, soft_confusion(bare))
    assert found is not None
    assert found.cuts[0].groups == (("a", "b"),)
    assert {(cut.accuracy, cut.macro_f1) for cut in found.cuts} == {(None, None)}


def test_many_labels_have_thirty_cuts() -> None:
    random = np.random.default_rng(0)
    p = random.dirichlet(np.full(60, 0.1), 500)
    given = read_answers([str(i) for i in range(60)], p, p.argmax(axis=1))
    found = cluster_labels(given, soft_confusion(given))
    assert found is not None
    assert len(found.merges) == 59
    assert 30 <= len(found.cuts) <= 31
    assert (found.cuts[0].labels, found.cuts[-1].labels) == (59, 2)


def test_two_labels_have_no_clusters() -> None:
    given = read_answers("ab", np.full((4, 2), 0.5))
    assert cluster_labels(given, soft_confusion(given)) is None
