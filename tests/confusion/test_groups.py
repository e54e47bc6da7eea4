from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from newsie.confusion.groups import compare_groups
from newsie.confusion.matrix import ConfusionMatrix
from newsie.confusion.predictions import read_answers
from newsie.errors import InputError


def paper(name: str, right: int, confused: int) -> list[tuple[str, int, int]]:
    """Articles of label a: some right, some read as b."""
    return [(name, 0, 0)] * right + [(name, 0, 1)] * confused


ROWS = [
    *paper("Post", 40, 60),
    *paper("Herald", 90, 10),
    *paper("Leaflet", 3, 1),
    *paper("", 60, 0),
]
NAMES = [row[0] for row in ROWS]
GOLD = [row[1] for row in ROWS]
ANSWERS = read_answers("ab", np.array([[0.8, 0.2], [0.3, 0.7]])[[row[2] for row in ROWS]], GOLD)
PAIRS = ConfusionMatrix.from_labels("ab", GOLD, ANSWERS.predicted).most_confused()


def test_groups_by_hand() -> None:
    found = compare_groups(ANSWERS, NAMES, by="publisher", pairs=PAIRS)
    assert [(g.name, g.articles, g.accuracy.value) for g in found.groups] == [
        ("Herald", 100, 0.9),
        ("Post", 100, 0.4),
    ]
    post = found.groups[1]
    assert post.difference is not None
    assert post.difference.value == pytest.approx(0.4 - 153 / 164)
    assert post.difference.high < 0
    (pair,) = post.pairs
    assert (pair.gold, pair.predicted, pair.share.value) == ("a", "b", 0.6)
    assert pair.difference.value == pytest.approx(0.6 - 11 / 164)
    p = fisher_exact([[60, 40], [11, 153]]).pvalue
    assert pair.q_value == pytest.approx(2 * p)  # the smaller of two
    assert found.left_out == 1  # the leaflet


def test_months_are_in_order() -> None:
    months = [{"Post": "2024-02", "Herald": "2024-01"}.get(name, "") for name in NAMES]
    found = compare_groups(ANSWERS, months, by="month", pairs=PAIRS)
    assert [group.name for group in found.groups] == ["2024-01", "2024-02"]
    assert found.left_out == 0


def test_the_only_group_has_no_others_to_differ_from() -> None:
    (group,) = compare_groups(ANSWERS, ["Post"] * 264, by="publisher", pairs=PAIRS).groups
    assert (group.articles, group.difference, group.pairs) == (264, None, ())


def test_articles_without_a_name_are_no_group() -> None:
    names = [name or None for name in NAMES]
    found = compare_groups(ANSWERS, names, by="publisher", pairs=PAIRS)
    assert [group.name for group in found.groups] == ["Herald", "Post"]


def test_names_must_be_as_many_as_articles() -> None:
    with pytest.raises(InputError, match="2 names of groups for 264 articles"):
        compare_groups(ANSWERS, ["x", "y"], by="publisher", pairs=PAIRS)
