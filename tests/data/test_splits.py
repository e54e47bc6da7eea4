from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.data.splits import split_by_date, split_by_hash
from newsie.errors import InputError

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def test_the_shares_are_about_right() -> None:
    split = split_by_hash([f"article-{i}" for i in range(20_000)], FRACTIONS)
    shares = {name: float(np.mean(split == name)) for name in FRACTIONS}
    assert shares == pytest.approx(FRACTIONS, abs=0.01)


def test_golden_values() -> None:
    """A split that changes between versions would leak test articles into training.

    printf '0\\0a' | b2sum -l 64 begins with 15 for "a", 5d for "b", then 00, 14, c3, fc: the first
    four are below one half of 100.
    """
    split = split_by_hash(["a", "b", "c", "d", "e", "f"], {"train": 0.5, "test": 0.5})
    assert split.tolist() == ["train", "train", "train", "train", "test", "test"]


@given(st.lists(st.text(min_size=1), unique=True), st.lists(st.text(min_size=1), unique=True))
def test_adding_articles_moves_nobody(ids: list[str], more: list[str]) -> None:
    before = split_by_hash(ids, FRACTIONS)
    after = split_by_hash([*ids, *more], FRACTIONS)
    assert after[: len(ids)].tolist() == before.tolist()


def test_another_seed_is_another_division() -> None:
    ids = [str(i) for i in range(1000)]
    same = np.mean(split_by_hash(ids, FRACTIONS) == split_by_hash(ids, FRACTIONS, seed=1))
    assert 0.5 < same < 0.8  # .8² + .1² + .1² = .66 by chance


def test_a_group_is_never_divided() -> None:
    ids = [str(i) for i in range(1000)]
    groups = np.arange(1000) // 10 * 10
    split = split_by_hash(ids, FRACTIONS, groups=groups)
    assert (split == split[groups]).all()
    assert len(set(split.tolist())) == 3


def test_a_share_may_be_zero_or_one() -> None:
    ids = [str(i) for i in range(100)]
    assert set(split_by_hash(ids, {"train": 1.0, "test": 0.0}).tolist()) == {"train"}
    assert set(split_by_hash(ids, {"train": 0.0, "test": 1.0}).tolist()) == {"test"}
    assert split_by_hash([], {"train": 1.0}).shape == (0,)


@pytest.mark.parametrize(
    "fractions", [{}, {"train": 0.5}, {"train": 0.9, "test": 0.2}, {"train": 1.5, "test": -0.5}]
)
def test_fractions_must_sum_to_one(fractions: dict[str, float]) -> None:
    with pytest.raises(InputError, match="sum to 1"):
        split_by_hash(["a"], fractions)


def test_an_id_is_needed() -> None:
    with pytest.raises(InputError, match="number 2 has no id"):
        split_by_hash(["a", ""], FRACTIONS)


def test_a_group_for_each() -> None:
    with pytest.raises(InputError, match="1 ids but 2 groups"):
        split_by_hash(["a"], FRACTIONS, groups=np.array([0, 1]))


def test_by_date_the_end_belongs_to_the_next() -> None:
    dates = ["2021-12-31T23:59:59Z", "2022-01-01", "2022-06-30", "2022-07-01T00:00:00+00:00"]
    bounds = {"train": "2022-01-01", "validation": "2022-07-01", "test": None}
    split = split_by_date(dates, bounds)
    assert split.tolist() == ["train", "validation", "validation", "test"]


def test_by_date_zones_count() -> None:
    bounds = {"train": "2022-01-01", "test": None}
    split = split_by_date(["2022-01-01T01:00:00+02:00", "2021-12-31T23:00:00-02:00"], bounds)
    assert split.tolist() == ["train", "test"]


@pytest.mark.parametrize(
    ("dates", "message"),
    [([None], "number 1 has no date"), (["2022-01-01", "1 May"], "number 2 has the date '1 May'")],
)
def test_by_date_each_needs_a_date(dates: list[str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_by_date(dates, {"train": "2022-01-01", "test": None})


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "each split needs an end"),
        ({"train": "2022-01-01", "test": "2023-01-01"}, "the last, which has None"),
        ({"train": None, "test": None}, "the last, which has None"),
        ({"a": "2022-01-01", "b": "2022-01-01", "c": None}, "must rise"),
        ({"train": "soon", "test": None}, "bound number 1 has the date 'soon'"),
    ],
)
def test_by_date_bounds_must_make_sense(bounds: dict[str, str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_by_date(["2022-01-01"], bounds)
