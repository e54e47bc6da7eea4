from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from newsie.confusion import predictions as module
from newsie.confusion.predictions import read_answers
from newsie.errors import InputError, LabelError

LABELS = ("a", "b", "c")
P = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])


def test_the_two_best_labels() -> None:
    found = read_answers(LABELS, P, [0, 2, -100])
    assert found.predicted.tolist() == [0, 1, 2]
    assert found.second.tolist() == [1, 2, 0]  # the first of equal ones
    assert found.confidence == pytest.approx([0.7, 0.5, 0.4])
    assert found.runner_up == pytest.approx([0.2, 0.4, 0.3])
    assert found.labelled.tolist() == [0, 1]
    assert (len(found), found.classes) == (3, 3)


def test_gold_labels_by_name() -> None:
    assert read_answers(LABELS, P, ["c", None, ""]).gold.tolist() == [2, -100, -100]
    strings: Any = ["c", float("nan"), "a"]
    assert read_answers(LABELS, P, strings).gold.tolist() == [2, -100, 0]
    pandas = np.array(["c", np.nan, "a"], dtype=object)
    assert read_answers(LABELS, P, pandas).gold.tolist() == [2, -100, 0]
    mixed: Any = [0, None, 2]
    with pytest.raises(LabelError, match="not among the labels: 0, 2; allowed: a, b, c"):
        read_answers(LABELS, P, mixed)
    assert read_answers(LABELS, P).gold.tolist() == [-100] * 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types_of_probabilities(dtype: Any) -> None:
    assert read_answers(LABELS, P.astype(dtype)).predicted.tolist() == [0, 1, 2]


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(3), 50).astype(np.float32)
    np.save(tmp_path / "p.npy", p)
    gold, groups = random.integers(0, 3, 50), random.integers(-1, 4, 50)
    whole = read_answers(LABELS, p, gold)
    monkeypatch.setattr(module, "_CHUNK", 21)  # 7 articles
    pieces = read_answers(LABELS, np.load(tmp_path / "p.npy", mmap_mode="r"), gold)
    for name in ("predicted", "second", "confidence", "runner_up"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name))
    assert np.array_equal(pieces.columns([2, 0]), p[:, [2, 0]].T)
    expected = np.stack([(p[groups == group].astype(np.float64) ** 2).sum(0) for group in range(4)])
    assert pieces.sums(groups, 4, squared=True) == pytest.approx(expected)
    assert len(list(pieces.chunks())) == 8


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.4, 0.3], "article 1 .from 0. sum to 1.2 and not to 1; that is so for 1 of the 3"),
        ([0.5, np.nan, 0.5], "article 1 .from 0. hold nan"),
        ([np.inf, 0.0, 0.0], "article 1 .from 0. hold inf"),
        ([1.2, -0.2, 0.0], "article 1 .from 0. hold -0.2, and no probability is below 0"),
    ],
)
def test_rows_that_are_no_distribution(row: list[float], message: str) -> None:
    p = P.copy()
    p[1] = row
    with pytest.raises(InputError, match=message):
        read_answers(LABELS, p)


def test_rounded_probabilities_are_taken() -> None:
    assert len(read_answers(LABELS, P + 0.0003)) == 3


@pytest.mark.parametrize(
    ("labels", "p", "message"),
    [
        (("a",), np.ones((2, 1)), "nothing can be confused; give at least 2"),
        (("a", "b", "b"), P, "each label once"),
        (LABELS, P[:, :2], r"for 3 labels they must be \(N, 3\)"),
        (LABELS, P[0], r"must be \(N, 3\)"),
        (LABELS, np.empty((0, 3)), "there is no article"),
        (LABELS, np.eye(3, dtype=int), "of type int64"),
        (LABELS, [[0.5, 0.5, 0.0], [1.0, 0.0]], "probabilities are no array: .* inhomogeneous"),
        (LABELS, [[0.5, 0.5, None]], "of type object; give float32 or float64"),
    ],
)
def test_shapes(labels: tuple[str, ...], p: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_answers(labels, p)


def test_gold_labels_that_are_unknown() -> None:
    with pytest.raises(LabelError, match=r"'weather'; allowed: a, b, c, and None or ''"):
        read_answers(LABELS, P, ["a", "weather", "b"])
    with pytest.raises(LabelError, match=r"gold label 3 of article 1 .* allowed are 0 to 2"):
        read_answers(LABELS, P, [0, 3, 1])
    with pytest.raises(InputError, match=r"for 3 articles they must be \(3,\)"):
        read_answers(LABELS, P, [0, 1])
    ragged: Any = [[0], [1, 2], [0]]
    with pytest.raises(InputError, match="gold labels are no array"):
        read_answers(LABELS, P, ragged)
    with pytest.raises(InputError, match="of type float64"):
        read_answers(LABELS, P, [0.0, 1.0, 2.0])
