from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.overlap import NULLS, plant
from newsie.confusion.overlap import find_overlap, shared_mass
from newsie.confusion.predictions import read_answers

LABELS = [f"label {i}" for i in range(8)]


def draw(seed: int, articles: int = 4_000, null: str = "quasi-independent") -> np.ndarray:
    return NULLS[null](np.random.default_rng(seed), articles, len(LABELS))


def test_shared_mass_by_hand() -> None:
    p = np.array([[0.6, 0.3, 0.1, 0.0], [0.2, 0.5, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]])
    mass = shared_mass(read_answers("abcd", p)).sum(axis=0)
    assert mass[0] == pytest.approx([0, 0.4, 0.2, 0.1])
    assert mass[1] == pytest.approx([0.2, 0, 0.2, 0.1])
    assert not mass[2:].any()
    # The sum of min(p_a, p_b) over the articles that either leads.
    assert mass[0, 1] + mass[1, 0] == pytest.approx(np.minimum(p[:, 0], p[:, 1]).sum())


def test_a_rest_that_falls_by_frequency_alone_is_what_is_expected() -> None:
    # Whatever is first, the others get of the rest what their weights say.
    weights = np.array([1, 2, 3, 4, 5.0])
    p = np.tile(weights, (500, 1))
    first = np.arange(500) % 5
    p[np.arange(500), first] = 0
    p *= 0.3 / p.sum(axis=1, keepdims=True)
    p[np.arange(500), first] = 0.7
    found = find_overlap(read_answers("abcde", p))
    assert found is not None
    assert found.tested == 10
    assert [pair.lift.value for pair in found.pairs] == pytest.approx([1.0] * 10)
    assert found.overlapping == 0


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("seed", range(3))
def test_planted_overlaps_are_found_and_no_others(null: str, seed: int) -> None:
    pairs = [(0, 1), (2, 5)]
    p = plant(draw(seed, 20_000, null), pairs, 8)
    found = find_overlap(read_answers(LABELS, p))
    assert found is not None
    overlapping = {frozenset(pair.labels) for pair in found.pairs if pair.overlapping}
    assert overlapping <= {frozenset(LABELS[i] for i in pair) for pair in pairs}
    if null != "Dirichlet":  # whose rest is one label's mostly, so that tripling it moves little
        assert len(overlapping) == len(pairs) == found.overlapping
        assert {frozenset(pair.labels) for pair in found.pairs[:2]} == overlapping


def test_the_lift_of_a_planted_pair_is_what_was_planted() -> None:
    # Partners get three times their weight: p_b / others = 3 w_b / (others).
    weights = np.full(8, 1 / 8)
    first = np.arange(8_000) % 8
    p = np.tile(weights, (8_000, 1))
    p[first == 0, 1] *= 3
    p[first == 1, 0] *= 3
    p[np.arange(8_000), first] = 0
    p *= 0.4 / p.sum(axis=1, keepdims=True)
    p[np.arange(8_000), first] = 0.6
    found = find_overlap(read_answers(LABELS, p))
    assert found is not None
    assert found.pairs[0].labels == ("label 0", "label 1")
    assert found.pairs[0].lift.value == pytest.approx(3.0, rel=1e-6)
    assert found.pairs[0].shares == pytest.approx((3 / 9, 3 / 9))
    assert found.find("label 1", "label 0") == found.pairs[0]


@settings(max_examples=15)
@given(st.integers(0, 100), st.permutations(range(8)))
def test_the_order_of_labels_does_not_matter(seed: int, order: list[int]) -> None:
    p = plant(draw(seed, 500), [(0, 1)], 4)
    one = find_overlap(read_answers(LABELS, p))
    other = find_overlap(read_answers([LABELS[i] for i in order], p[:, order]))
    assert one is not None
    assert other is not None
    for pair in one.pairs:
        same = other.find(*pair.labels)
        assert same is not None
        assert same.mass == pytest.approx(pair.mass)
        assert same.lift.value == pytest.approx(pair.lift.value, rel=1e-6)
        assert same.q_value == pytest.approx(pair.q_value, rel=1e-4, abs=1e-12)
        assert same.articles == pair.articles


@pytest.mark.slow
def test_false_alarms_are_at_the_nominal_rate() -> None:
    """5 % of pairs at most where the supposed null is true; see benchmarks/overlap.py for a table."""
    for null in ("quasi-independent", "Dirichlet"):
        low = tested = wrong = 0
        for seed in range(40):
            found = find_overlap(read_answers(LABELS, draw(seed, 4_000, null)), minimum_lift=1)
            assert found is not None
            low += sum(pair.p_value <= 0.05 for pair in found.pairs)
            tested += len(found.pairs)
            wrong += found.overlapping > 0
        assert 0.01 <= low / tested <= 0.065  # no more than nominal, and not idle
        assert wrong <= 6  # of 40 runs, 5 % of which are 2


def test_where_nothing_can_be_told() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    assert find_overlap(read_answers("abcd", p)) is None
    p = np.random.default_rng(0).dirichlet(np.ones(8), 99)
    assert find_overlap(read_answers(LABELS, p)) is None


def test_a_model_without_doubt_shares_nothing() -> None:
    found = find_overlap(read_answers(LABELS, np.eye(8)[np.arange(200) % 8]))
    assert found is not None
    assert found.pairs == ()
    assert found.overlapping == 0
