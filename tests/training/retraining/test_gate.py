from __future__ import annotations

import json

import numpy as np
import pytest

from newsie.errors import QualityGateError
from newsie.labels import IGNORE, LabelSpace, Task
from newsie.training.retraining.gate import Limits, Promotion, compare_students

SPACE = LabelSpace((Task("old", ("a", "b")), Task("new", ("x", "y"))))
N = 400


def sure(labels: np.ndarray) -> np.ndarray:
    """(N, 2) probabilities that are 0.9 for the given label."""
    return np.where(np.arange(2) == labels[:, None], 0.9, 0.1)


def flip(labels: np.ndarray, rows: slice) -> np.ndarray:
    flipped = labels.copy()
    flipped[rows] = 1 - flipped[rows]
    return flipped


def verdict(
    *,
    old: np.ndarray,
    after: np.ndarray,
    new: np.ndarray,
    baseline: np.ndarray,
    gold: bool = True,
) -> Promotion:
    truth = np.arange(N) % 2
    return compare_students(
        {"old": sure(old)},
        {"old": sure(after), "new": sure(new)},
        {"old": truth if gold else np.full(N, IGNORE), "new": truth},
        SPACE,
        taught=["new"],
        baseline={"new": sure(baseline)},
        limits=Limits(),
    )


TRUTH = np.arange(N) % 2


def test_one_that_keeps_and_learns_is_promoted() -> None:
    found = verdict(
        old=flip(TRUTH, slice(0, 40)),
        after=flip(TRUTH, slice(0, 40)),
        new=flip(TRUTH, slice(0, 20)),
        baseline=flip(TRUTH, slice(0, 30)),
    )
    assert not found.failures
    found.check()
    report = found.tasks["new"]
    assert report.after is not None
    assert report.after.accuracy == pytest.approx(0.95)
    assert report.baseline is not None
    assert report.baseline[0] == pytest.approx(0.925)
    assert found.tasks["old"].change is not None
    assert found.tasks["old"].change.value == 0
    assert json.loads(json.dumps(found.to_json()))["promoted"] is True


def test_a_label_that_falls_stops_it_with_the_table() -> None:
    # 20 more of 200 articles of label "a" are wrong: 10 points of recall, 5 of accuracy.
    found = verdict(old=TRUTH, after=flip(TRUTH, slice(0, 40, 2)), new=TRUTH, baseline=TRUTH)
    assert len(found.failures) == 2
    with pytest.raises(QualityGateError, match="not promoted") as caught:
        found.check()
    assert caught.value.exit_code == 3
    text = str(caught.value)
    assert "old: a falls by 10.0 points of recall on 200 articles; allowed are 2" in text
    assert "old: accuracy falls by 5.0 points; allowed are 1" in text
    assert "100.0 %  95.0 %" in text
    assert found.tasks["old"].labels["b"].change.value == 0  # type: ignore[union-attr]


def test_a_fall_within_chance_is_none() -> None:
    # 5 of 200 articles: 2.5 points, and the 95 % interval reaches 0 where 1 goes the other way.
    after = flip(TRUTH, slice(0, 10, 2))
    old = flip(TRUTH, slice(100, 106, 2))
    found = verdict(old=old, after=after, new=TRUTH, baseline=TRUTH)
    assert not found.failures


def test_one_below_tf_idf_is_not_promoted() -> None:
    found = verdict(
        old=TRUTH, after=TRUTH, new=flip(TRUTH, slice(0, 30)), baseline=flip(TRUTH, slice(0, 20))
    )
    [failure] = found.failures
    assert "new: accuracy 92.5% is below TF-IDF and logistic regression, 95.0%" in failure


def test_a_new_task_that_nothing_measures_is_not_promoted() -> None:
    truth = np.arange(N) % 2
    found = compare_students(
        {"old": sure(truth)},
        {"old": sure(truth), "new": sure(truth)},
        {"old": truth, "new": np.full(N, IGNORE)},
        SPACE,
        taught=["new"],
        baseline={"new": sure(truth)},
        limits=Limits(),
    )
    [failure] = found.failures
    assert "new: none of the articles to measure on has a label of it" in failure
    assert "No gold labels" not in found.table()
    assert "before and the changes" not in found.table()


def test_without_gold_labels_agreement_stands_in_and_this_is_said() -> None:
    same = verdict(
        old=TRUTH, after=flip(TRUTH, slice(0, 20)), new=TRUTH, baseline=TRUTH, gold=False
    )
    assert not same.failures
    assert "No gold labels here for old: the agreement" in same.table()
    assert "95.0 %" in same.table()
    other = verdict(
        old=TRUTH, after=flip(TRUTH, slice(0, 60)), new=TRUTH, baseline=TRUTH, gold=False
    )
    [failure] = other.failures
    assert "gives 85.0% of the articles the old one's label; asked for are 90%" in failure


def test_labels_that_the_old_one_does_not_have_are_not_compared() -> None:
    space = LabelSpace((Task("old", ("a", "b", "c")),))
    gold = np.arange(90) % 3
    new = np.where((gold == 2)[:, None], [0.25, 0.25, 0.5], np.eye(3)[gold])
    old = np.where(np.arange(2) == np.minimum(gold, 1)[:, None], 0.9, 0.1)
    found = compare_students(
        {"old": old}, {"old": new}, {"old": gold}, space, taught=[], baseline={}, limits=Limits()
    )
    report = found.tasks["old"]
    assert report.before is not None
    assert report.before.support == 60
    assert report.labels["c"].before is None
    assert report.labels["c"].after == 1
    assert report.calibration_change is not None
    assert report.calibration_change.value == pytest.approx(-0.1)  # although those of "c" are worse
    assert "0.100 -> 0.167, -0.100 [" in found.table()
    assert "old: before and the changes are of the 60 articles whose label the old" in found.table()


def extended(after: np.ndarray, gold: np.ndarray, absent: list[int], new: int = 3) -> Promotion:
    """A task of labels a, b and c that gets a fourth, `after` in place of what was answered: 300 articles,
    100 of each label."""
    space = LabelSpace((Task("old", ("a", "b", "c", "d")),))
    before = np.arange(300) % 3
    return compare_students(
        {"old": np.eye(3)[before]},
        {"old": np.eye(4)[after]},
        {"old": gold},
        space,
        taught=["old"],
        baseline={"old": np.eye(4)[np.full(300, new)]},
        limits=Limits(),
        absent={"old": absent},
    )


def test_labels_that_nothing_measures_stop_it() -> None:
    answers = np.arange(300) % 3
    gold = np.where(answers == 2, 3, answers)  # no "c", and all articles have a label
    [failure] = extended(gold, gold, absent=[2]).failures
    assert "old: nothing shows whether the answers c are kept" in failure
    assert all(option in failure for option in ("--replay", "--test", "--force"))
    assert not extended(gold, gold, absent=[]).failures
    new = np.full(300, 3)
    below, _ = extended(answers, new, absent=[0, 1, 2]).failures  # no new label is ever answered
    assert "give old articles, too, to tell the new labels from the old ones (--replay" in below


def test_labels_that_were_not_learnt_are_measured_where_there_are_no_gold_labels() -> None:
    answers = np.arange(300) % 3
    gold = np.where(answers == 2, IGNORE, answers)
    found = extended(answers, gold, absent=[2])
    assert not found.failures
    assert found.tasks["old"].kept["c"].support == 100
    assert "old, c: 100.0 % of 100 articles" in found.table()
    after = np.where((answers == 2) & (np.arange(300) < 60), 0, answers)  # 20 of 100
    [failure] = extended(after, gold, absent=[2]).failures
    assert "answers c, the new one does for 80.0%; asked for are 90%" in failure


def test_articles_of_new_labels_do_not_count_as_lost() -> None:
    answers = np.arange(300) % 3
    new = np.arange(300) < 150
    gold = np.where(new, 3, IGNORE)
    found = extended(np.where(new, 3, answers), gold, absent=[0, 1, 2])
    assert not found.failures
    agreement = found.tasks["old"].agreement
    assert agreement is not None
    assert agreement.value == 1


def test_the_table_gives_macro_f1_and_calibration_before_and_after() -> None:
    after = flip(TRUTH, slice(0, 40, 2))
    found = verdict(old=TRUTH, after=after, new=TRUTH, baseline=TRUTH)
    change = found.tasks["old"].f1_change
    assert change is not None
    assert change.value == pytest.approx(-0.05, abs=0.001)
    assert change.low < change.value < change.high < 0
    calibration = found.tasks["old"].calibration_change
    assert calibration is not None
    assert calibration.value == pytest.approx(-0.05)
    assert calibration.low < calibration.value < calibration.high
    interval = f"[{calibration.low:+.3f}, {calibration.high:+.3f}]"
    assert f"0.100 -> 0.050, -0.050 {interval}" in found.table()
