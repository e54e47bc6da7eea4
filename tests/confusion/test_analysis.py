from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.confusion import draw_answers
from newsie.confusion.analysis import Analysis, analyse
from newsie.errors import InputError, LabelError

LABELS = [f"label {i}" for i in range(6)]


def draw(articles: int = 600, seed: int = 0, labels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(labels, 0.4), articles)
    drawn = (np.cumsum(p, axis=1) < random.random((articles, 1))).sum(axis=1)
    return p, np.minimum(drawn, labels - 1)


def test_all_there_is_with_gold_labels() -> None:
    found = analyse(LABELS, *draw(), groups=["2024-01", "2024-02"] * 300, by="month")
    assert found.left_out == ()
    for name in ("matrix", "calibration", "suspects", "macro_f1", "overlap", "clusters", "groups"):
        assert getattr(found, name) is not None, name
    assert found.groups is not None
    assert [group.name for group in found.groups.groups] == ["2024-01", "2024-02"]


def test_the_document_is_plain_json_without_nan() -> None:
    p, gold = draw()
    gold[gold == 5] = 0  # a row without articles
    found = analyse(LABELS, p, gold, groups=["x"] * 600).to_json("section")
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert found["soft"]["mean"][5] == [None] * 6
    assert found["hard"]["counts"] == analyse(LABELS, p, gold).matrix.counts.tolist()  # type: ignore[union-attr]
    assert found["hard"]["labels"][5]["recall"] is None
    assert (found["task"], found["labelled"]) == ("section", 600)


def test_every_field_of_a_task_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "confusion.md").read_text("utf-8")
    part = text[text.index("A task:") : text.index("A comparison")]
    for name in analyse(LABELS, *draw()).to_json("section"):
        assert f" {name}" in part, name


def test_without_gold_labels() -> None:
    found = analyse(LABELS, draw()[0], groups=["x"] * 600)
    for name in ("matrix", "calibration", "suspects", "macro_f1", "groups"):
        assert getattr(found, name) is None, name
    assert found.overlap is not None
    assert found.soft.rows == "predicted"
    assert "There are no gold labels to go by" in found.left_out[0]
    assert "what merging would bring are left out" in found.left_out[0]
    assert "which takes gold labels" in found.left_out[1]
    document = found.to_json()
    assert (document["hard"], document["accuracy"], document["confused"]) == (None, None, [])


def test_what_is_left_out_is_told() -> None:
    p, gold = draw(80, labels=2)
    gold[:30] = -100
    found = analyse("ab", p, gold).left_out
    assert found[0].startswith("30 of 80 articles have no gold label")
    assert "with 2 labels" in found[1]
    assert "fewer than three labels" in found[2]
    assert "it takes 100 articles and not 80" in analyse(LABELS, *draw(80)).left_out[0]


def test_one_article() -> None:
    found = analyse(LABELS, draw(1)[0], [3])
    assert found.matrix is not None
    assert found.matrix.counts.sum() == 1
    json.dumps(found.to_json(), allow_nan=False)


def test_bad_input() -> None:
    p, gold = draw(10)
    with pytest.raises(InputError, match="there is no article"):
        analyse(LABELS, p[:0])
    with pytest.raises(InputError, match="at least 2"):
        analyse(["a"], np.ones((5, 1)))
    with pytest.raises(InputError, match="sum to 2 and not to 1"):
        analyse(LABELS, p * 2, gold)
    with pytest.raises(InputError, match="no number"):
        analyse(LABELS, np.where(p == p.max(), np.nan, p), gold)
    with pytest.raises(LabelError, match="'weather'"):
        analyse(LABELS, p, ["weather"] * 10)
    with pytest.raises(InputError, match="2 names of groups for 10 articles"):
        analyse(LABELS, p, gold, groups=["x", "y"])


@settings(max_examples=8)
@given(st.integers(0, 50), st.permutations(range(6)))
def test_the_order_of_labels_does_not_matter(seed: int, order: list[int]) -> None:
    p, gold = draw(300, seed)
    one = analyse(LABELS, p, gold)
    other = analyse([LABELS[i] for i in order], p[:, order], np.argsort(order)[gold])
    assert {frozenset(pair.labels): _facts(pair) for pair in one.pairs} == {
        frozenset(pair.labels): _facts(pair) for pair in other.pairs
    }
    assert one.calibration == other.calibration
    assert one.clusters is not None
    assert other.clusters is not None
    assert [_groups(cut.groups) for cut in one.clusters.cuts] == [
        _groups(cut.groups) for cut in other.clusters.cuts
    ]


def _facts(pair: object) -> tuple[object, ...]:
    from newsie.confusion.pairs import LabelPair

    assert isinstance(pair, LabelPair)
    assert pair.merged is not None
    return (
        pair.confusions,
        pair.verdict,
        round(pair.merged.macro_f1_after, 9),
        {article.row for article in pair.border},
    )


def _groups(groups: tuple[tuple[str, ...], ...]) -> set[frozenset[str]]:
    return {frozenset(group) for group in groups}


def test_mapped_float32_gives_the_figures_of_float64(tmp_path: Path) -> None:
    draw_answers(tmp_path, 3_000, 8)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    gold = np.load(tmp_path / "gold.npy")
    labels = [str(i) for i in range(8)]
    one, other = analyse(labels, mapped, gold), analyse(labels, np.asarray(mapped, float), gold)
    assert _accuracy(one) == _accuracy(other) > 0.6
    assert one.soft.mean == pytest.approx(other.soft.mean, abs=1e-6)
    assert one.overlap is not None
    assert other.overlap is not None
    lifts = [
        [pair.lift.value for pair in found.overlap.pairs] for found in (one, other) if found.overlap
    ]
    assert lifts[0] == pytest.approx(lifts[1], rel=1e-4)


def _accuracy(analysis: Analysis) -> float:
    assert analysis.matrix is not None
    assert analysis.matrix.accuracy is not None
    return analysis.matrix.accuracy.value
