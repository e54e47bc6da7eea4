from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.overlap import NULLS, plant
from newsie.confusion import label_issues as suspects
from newsie.confusion.analysis import Analysis, analyse
from newsie.confusion.pairs import LabelPair

LABELS = ("a", "b", "c", "d")


def probabilities(rows: Sequence[Sequence[float]], counts: Sequence[int]) -> np.ndarray:
    return np.repeat(np.array(rows), counts, axis=0)


def pair_of(analysis: Analysis, *labels: str) -> LabelPair:
    (found,) = (pair for pair in analysis.pairs if set(pair.labels) == set(labels))
    return found


def analyse_rows(
    *rows: tuple[int, str, Sequence[float]], pairs: int = 12
) -> tuple[Analysis, np.ndarray]:
    """(articles, gold label, probabilities of a, b, c, d) -> their analysis."""
    p = probabilities([row[2] for row in rows], [row[0] for row in rows])
    gold = np.repeat([LABELS.index(row[1]) for row in rows], [row[0] for row in rows])
    return analyse(LABELS, p, gold, pairs=pairs), p


EASY = (
    (300, "a", (0.96, 0.02, 0.01, 0.01)),
    (300, "b", (0.02, 0.96, 0.01, 0.01)),
    (300, "c", (0.01, 0.01, 0.96, 0.02)),
    (300, "d", (0.01, 0.01, 0.02, 0.96)),
)


def test_articles_that_are_of_both_are_an_overlap() -> None:
    close = ((40, "a", (0.4, 0.5, 0.05, 0.05)), (40, "b", (0.5, 0.4, 0.05, 0.05)))
    analysis, _ = analyse_rows(*EASY, *close)
    found = pair_of(analysis, "a", "b")
    assert (found.verdict, found.confusions) == ("overlap", 80)
    assert found.evidence is not None
    assert found.merged is not None
    assert (found.evidence.shared, found.evidence.suspect, found.evidence.neither) == (80, 0, 0)
    assert found.evidence.a_as_b is not None
    assert found.evidence.a_as_b.value == pytest.approx(40 / 340)
    # Read as b: 300 articles that give a .02, and 40 that give it .4; and the reverse.
    assert found.evidence.expected == pytest.approx(2 * (300 * 0.02 + 40 * 0.4), rel=1e-5)
    # With 4 labels overlap cannot be tested, and the verdict rests on what the model sees.
    assert found.sentences[-1].endswith("is not known.")
    assert found.advice.action == "merge"
    assert found.merged.macro_f1_after == 1
    assert found.merged.gain.low > 0
    assert found.advice.sentence == (
        "Merge a and b, or allow both labels: together they are found with an F1 of 1.00, alone with "
        "0.88 and 0.88."
    )
    assert found.sentences[0] == (
        "12 % of a articles are read as b, and 12 % of b articles are read as a: 80 articles, where "
        "the model expects 44."
    )


def test_to_be_rid_of_a_bad_label_is_no_reason_to_merge() -> None:
    """c is never found; merging it with a raises macro-F1, but not what is found of a."""
    lost = (300, "c", (0.2, 0.3, 0.1, 0.4))
    close = ((30, "a", (0.3, 0.1, 0.4, 0.2)), (30, "c", (0.4, 0.1, 0.3, 0.2)))
    analysis, _ = analyse_rows(*EASY[:2], lost, EASY[3], *close)
    found = pair_of(analysis, "a", "c")
    assert found.verdict == "overlap"
    assert found.merged is not None
    assert found.merged.macro_f1_after > found.merged.macro_f1_before + 0.1
    assert found.merged.gain.high < 0
    assert found.advice.action == "allow two labels"


def test_the_only_two_labels_are_never_merged_nor_both_allowed() -> None:
    p = probabilities([(0.9, 0.1), (0.4, 0.6), (0.6, 0.4), (0.1, 0.9)], [50, 30, 30, 50])
    (found,) = analyse(("calm", "loud"), p, [0] * 80 + [1] * 80).pairs
    assert found.evidence is not None
    assert found.evidence.shared == found.confusions == 60
    assert (found.verdict, found.merged, found.advice.action) == ("unclear", None, "look")
    assert "with two labels only" in found.advice.sentence


@pytest.mark.parametrize(
    ("count", "verdict", "action"), [(4, "unclear", "look"), (5, "overlap", "merge")]
)
def test_few_articles_do_not_tell_why(count: int, verdict: str, action: str) -> None:
    few = (
        (count - count // 2, "a", (0.4, 0.5, 0.05, 0.05)),
        (count // 2, "b", (0.5, 0.4, 0.05, 0.05)),
    )
    found = pair_of(analyse_rows(*EASY, *few)[0], "a", "b")
    assert (found.confusions, found.verdict) == (count, verdict)
    assert (found.advice.action == "look") == (action == "look")
    assert ("too few to tell why" in found.advice.sentence) == (count < 5)


def test_an_overlap_that_is_tested_and_not_found_is_unclear() -> None:
    """Mistakes spread over all pairs alike: in each the model sees both, but none stands out."""
    random = np.random.default_rng(0)
    p = random.dirichlet(np.full(6, 0.5), 2_000)
    gold = np.array([random.choice(6, p=row) for row in p])
    analysis = analyse("abcdef", p, gold)
    assert len(analysis.pairs) == 12
    for pair in analysis.pairs:
        assert pair.evidence is not None
        assert pair.evidence.shared > pair.confusions / 2
        assert (pair.verdict, pair.advice.action) == ("unclear", "look")
        assert "not an overlap" in pair.sentences[-1]
        assert "do not overlap beyond chance" in pair.advice.sentence


def test_the_verdict_does_not_turn_with_the_size_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suspects, "MAX_EXAMINED", 400)
    wrong = ((40, "a", (0.01, 0.97, 0.01, 0.01)), (10, "a", (0.3, 0.6, 0.05, 0.05)))
    analysis, _ = analyse_rows(*EASY, *wrong)
    found = pair_of(analysis, "a", "b")
    assert found.evidence is not None
    e = found.evidence
    assert (found.verdict, found.confusions) == ("noise", 50)
    assert e.suspect + e.shared + e.neither == e.examined < 20
    assert f"of the {e.examined} of these that were examined" in found.sentences[1]


def test_a_part_of_a_larger_label_is_no_reason_to_merge() -> None:
    analysis, _ = analyse_rows(*EASY, (60, "a", (0.4, 0.5, 0.05, 0.05)))
    found = pair_of(analysis, "a", "b")
    assert (found.verdict, found.advice.action) == ("overlap", "allow two labels")


def test_labels_that_the_model_is_sure_are_wrong_are_noise() -> None:
    analysis, _ = analyse_rows(*EASY, (30, "a", (0.01, 0.97, 0.01, 0.01)))
    found = pair_of(analysis, "a", "b")
    assert found.verdict == "noise"
    assert found.evidence is not None
    assert found.evidence.suspect == len(found.advice.rows) > 15
    assert found.advice.action == "relabel"
    assert set(found.advice.rows) <= set(range(1_200, 1_230))
    assert found.evidence.suspect + found.evidence.shared + found.evidence.neither == 30
    assert found.evidence.examined == 30


def test_a_label_with_few_articles_that_are_lost_is_scarce() -> None:
    few = (25, "a", (0.1, 0.85, 0.03, 0.02))
    analysis, _ = analyse_rows(*EASY[1:], few, (5, "a", EASY[0][2]))
    found = pair_of(analysis, "a", "b")
    assert found.verdict == "scarce"
    assert (found.advice.action, "of a to learn from" in found.advice.sentence) == ("collect", True)
    assert (
        found.sentences[-1]
        == "a has only 30 articles, where the median label has 300, and is given to 5 articles."
    )


def test_a_label_that_is_hardly_ever_given_is_scarce() -> None:
    lost = (290, "a", (0.2, 0.7, 0.05, 0.05))
    analysis, _ = analyse_rows(*EASY[1:], lost, (10, "a", EASY[0][2]))
    assert pair_of(analysis, "a", "b").verdict == "scarce"


def test_mistakes_that_are_neither_are_unclear() -> None:
    odd = ((40, "a", (0.05, 0.6, 0.2, 0.15)), (40, "b", (0.6, 0.05, 0.2, 0.15)))
    analysis, _ = analyse_rows(*EASY, *odd)
    found = pair_of(analysis, "a", "b")
    assert (found.verdict, found.advice.action) == ("unclear", "look")


def test_the_articles_nearest_the_border() -> None:
    rows = [(1, "a", (0.3 + x, 0.5 - x, 0.1, 0.1)) for x in (0.0, 0.05, 0.1, 0.15)]
    analysis, _ = analyse_rows(*EASY, *rows)
    border = pair_of(analysis, "a", "b").border
    assert [article.row for article in border[:4]] == [1_202, 1_201, 1_203, 1_200]
    assert border[0].probabilities == pytest.approx((0.4, 0.4))
    assert (border[1].gold, border[1].predicted) == ("a", "b")
    assert len(border) == 8


def test_separability_is_the_area_under_the_curve() -> None:
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(4), 500)
    gold = random.integers(0, 4, 500)
    found = pair_of(analyse(LABELS, p, gold), "b", "d")
    assert found.evidence is not None
    rows = np.isin(gold, [1, 3])
    ratio = (p[:, 1] / (p[:, 1] + p[:, 3]))[rows]
    assert found.labels == ("b", "d")
    assert found.evidence.separability == pytest.approx(roc_auc_score(gold[rows] == 1, ratio))


def test_without_gold_labels_pairs_that_overlap_are_told() -> None:
    drawn = NULLS["quasi-independent"](np.random.default_rng(0), 5_000, 8)
    analysis = analyse("abcdefgh", plant(drawn, [(0, 1)], 8))
    (pair,) = analysis.pairs
    assert (pair.labels, pair.verdict) == (("a", "b"), "overlap")
    assert (pair.evidence, pair.merged, pair.advice.action) == (None, None, "look")
    assert pair.sentences[0].startswith("a and b are the best two labels of ")
    assert "frequencies alone" in pair.sentences[1]
    assert {article.gold for article in pair.border} == {None}


def test_pairs_are_as_many_as_asked_for() -> None:
    random = np.random.default_rng(0)
    p, gold = random.dirichlet(np.ones(4), 200), random.integers(0, 4, 200)
    assert len(analyse(LABELS, p, gold, pairs=2).pairs) == 2
    confusions = [pair.confusions for pair in analyse(LABELS, p, gold).pairs]
    assert confusions == sorted(confusions, reverse=True)
    assert len(confusions) == 6
