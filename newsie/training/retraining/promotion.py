"""The promotion gate, which compares the old student and the new one on the same held-out articles.

A student is not promoted if it is shown to be worse:

- Tasks with gold labels in the test articles: no label may lose more than `max_fall` points of recall, and
  the task no more than `max_task_fall` points of accuracy, beyond chance (paired 95 % intervals).
- Tasks without gold labels: the new student must predict the old one's label for `min_agreement` of the
  articles, allowing for chance.
- Labels of a taught task that neither the file nor the test articles have: among the articles without a
  gold label for which the old student predicts the label, the new one must predict it for `min_agreement`.
  With fewer than `MEASURED` such articles nothing is measured, and the student is not promoted.
- Tasks that the file teaches: there must be test articles, and accuracy must not be below that of TF-IDF
  with logistic regression, or of the old student, beyond chance.

A student is proven if, in each task that the file teaches, its accuracy is above that of TF-IDF, and of the
old student if that has the task, beyond chance. `FEW` articles or fewer neither fail a student nor prove it:
even if all of them changed, this could be chance (sign test).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.errors import QualityGateError
from newsie.labels import IGNORE, LabelSpace
from newsie.metrics.estimates import Estimate, paired, share
from newsie.metrics.evaluation import (
    TaskMetrics,
    calibration_difference,
    evaluate,
    expected_calibration_error,
    paired_difference,
)
from newsie.printable import one_line

__all__ = ["Limits", "Promotion", "TaskReport", "compare_students"]

MEASURED = 10
"""The number of articles needed to measure whether the predictions of a label are kept."""

FEW = 5
"""The number of articles up to which no difference is significant: 5 of 5 have p = 0.06 in a sign test."""

TF_IDF, OLD = "TF-IDF", "the old student"
"""The models that a new student must beat to be proven."""

FURTHER = ("macro-F1", "change", "ECE", "agreement")
"""The last columns of the table."""

Probabilities = Mapping[str, NDArray[np.floating[Any]]]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """The limits that a student must keep to be promoted.

    Attributes:
        max_fall: points of recall that a label may lose.
        max_task_fall: points of accuracy that a task may lose.
        min_agreement: share of articles that must keep their label if there are no gold labels.
    """

    max_fall: float = 2.0
    max_task_fall: float = 1.0
    min_agreement: float = 0.9


@dataclass(frozen=True)
class LabelReport:
    """The recall of a label before and after, and after - before with its paired interval.

    `before` and `change` are None for a label that the old student does not have.
    """

    support: int
    after: float
    before: float | None = None
    change: Estimate | None = None


@dataclass(frozen=True)
class KeptReport:
    """The agreement of the new student with the old one on one label.

    Attributes:
        support: articles without a gold label for which the old student predicts the label.
        kept: share of these for which the new student predicts it; None without articles.
    """

    support: int
    kept: Estimate | None


@dataclass(frozen=True)
class TaskReport:
    """The metrics of a task before and after.

    Attributes:
        taught: True if the file has gold labels for it.
        after: the new student's metrics; None without gold labels.
        before: the old student's metrics on the articles whose label it has; None without any.
        after_same: the new student's metrics on those same articles.
        change: after_same - before, accuracy, with its paired interval.
        f1_change: after_same - before, macro-F1, with its paired interval.
        calibration_change: after_same - before, expected calibration error, with its bootstrap interval.
        labels: label -> its report.
        baseline: accuracy of TF-IDF and logistic regression; None for a task that is not taught.
        gains: "TF-IDF" and, if it has the task, "the old student" -> the new student's accuracy minus that
            model's on all articles with a gold label, with its paired interval; empty for a task that is
            not taught.
        unmeasured: labels without a test article, in a task that has test articles.
        never_predicted: labels that some test article has but that are predicted for none.
        silent: labels predicted for no test article and for none of the articles they were learnt from.
        agreement: share of the articles without a gold label for which both students predict the same one;
            None for a new task, and if there are no such articles.
        agreement_articles: number of articles without a gold label.
        kept: label that was not learnt and has no gold labels -> whether its predictions are kept.
        failures: the reasons why the task is not good enough, as sentences; empty if it is.
    """

    taught: bool
    after: TaskMetrics | None
    before: TaskMetrics | None
    after_same: TaskMetrics | None
    change: Estimate | None
    f1_change: Estimate | None
    calibration_change: Estimate | None
    labels: Mapping[str, LabelReport]
    baseline: float | None
    gains: Mapping[str, Estimate]
    unmeasured: tuple[str, ...]
    never_predicted: tuple[str, ...]
    silent: tuple[str, ...]
    agreement: Estimate | None
    agreement_articles: int
    kept: Mapping[str, KeptReport]
    failures: tuple[str, ...]

    @property
    def proven(self) -> bool:
        """True if all gains are beyond chance, or if the task is not taught."""
        measured = self.after is not None and self.after.support > FEW
        return not self.taught or (measured and all(gain.low > 0 for gain in self.gains.values()))


@dataclass(frozen=True)
class Promotion:
    """The verdict on a new student.

    Attributes:
        articles: number of test articles.
        limits: the limits that it had to keep.
        tasks: the report of each task.
    """

    articles: int
    limits: Limits
    tasks: Mapping[str, TaskReport]

    @property
    def failures(self) -> list[str]:
        """The reasons why the student is not promoted; empty if it is."""
        return [text for report in self.tasks.values() for text in report.failures]

    @property
    def proven(self) -> bool:
        """True if every task that the file teaches is shown to beat the old student and TF-IDF."""
        return not self.failures and all(report.proven for report in self.tasks.values())

    def to_json(self) -> dict[str, Any]:
        """Return the promotion as plain JSON values."""
        return {**asdict(self), "promoted": not self.failures, "proven": self.proven}

    def check(self) -> None:
        """Raise QualityGateError, with the table, unless the student is promoted."""
        if self.failures:
            reasons = "\n".join(f"  {one_line(text)}" for text in self.failures)
            raise QualityGateError(f"the new student is not promoted:\n{reasons}\n{self.table()}")

    def table(self) -> str:
        """Return the figures of all tasks as a readable table."""
        header = ("task", "articles", "before", "after", "change", "TF-IDF", *FURTHER)
        rows = [header, *(row for name, r in self.tasks.items() for row in _rows(name, r))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = ["  ".join(f"{x:<{w}}" for x, w in zip(r, widths, strict=True)) for r in rows]
        gains = [
            text
            for name, report in self.tasks.items()
            if report.taught
            for text in _gains(name, report)
        ]
        if gains:
            lines += ["gains in accuracy, in points with 95 % intervals:", *gains]
        lines += [text for name, report in self.tasks.items() for text in _gaps(name, report)]
        fallen = [
            f"  {name}, {label}: recall {_percent(found.before)} -> {_percent(found.after)} of "
            f"{found.support:,} articles, {_change(found.change)}"
            for name, report in self.tasks.items()
            for label, found in report.labels.items()
            if found.change is not None and 100 * found.change.value < -self.limits.max_fall
        ]
        if fallen:
            lines += ["labels that fall, in points with 95 % intervals:", *fallen]
        kept = [
            f"  {name}, {label}: {_percent(found.kept.value)} of {found.support:,} articles"
            for name, report in self.tasks.items()
            for label, found in report.kept.items()
            if found.kept is not None
        ]
        if kept:
            lines += [
                "labels without articles to learn or to measure; what keeps them, of the articles without "
                "a gold label that had them:",
                *kept,
            ]
        without = [n for n, r in self.tasks.items() if r.after is None and not r.taught]
        if without:
            lines.append(
                f"No gold labels here for {', '.join(without)}: the agreement of the new student with "
                "the old one stands in for its accuracy; --replay or --test FILE measures it."
            )
        return "\n".join(one_line(line.rstrip()) for line in lines)


def compare_students(
    old: Probabilities,
    new: Probabilities,
    gold: Mapping[str, Indices],
    labels: LabelSpace,
    *,
    taught: Sequence[str],
    baseline: Mapping[str, NDArray[np.floating[Any]]],
    limits: Limits,
    absent: Mapping[str, Sequence[int]] | None = None,
    silent: Mapping[str, Sequence[str]] | None = None,
) -> Promotion:
    """Compare two students on the same N articles.

    Args:
        old: the old student's probabilities, (N, C_old) by task.
        new: the new student's, (N, C) by task; its labels begin with the old ones.
        gold: (N,) class indices of the new label space; IGNORE without a gold label.
        labels: the new label space.
        taught: the tasks that the file has gold labels for.
        baseline: probabilities of TF-IDF and logistic regression for the taught tasks, (N, C) by task.
        limits: the limits to keep.
        absent: taught task -> class indices of the old labels that no article was learnt from.
        silent: task -> see `TaskReport`.
    """
    absent, silent = absent or {}, silent or {}
    tasks = {
        task.name: _report(
            task.name,
            task.labels,
            old.get(task.name),
            new[task.name],
            gold[task.name],
            baseline.get(task.name) if task.name in taught else None,
            absent.get(task.name, ()),
            tuple(silent.get(task.name, ())),
            limits,
        )
        for task in labels.tasks
    }
    return Promotion(len(next(iter(new.values()))), limits, tasks)


def _report(
    name: str,
    labels: Sequence[str],
    old: NDArray[np.floating[Any]] | None,
    new: NDArray[np.floating[Any]],
    gold: Indices,
    baseline: NDArray[np.floating[Any]] | None,
    absent: Sequence[int],
    silent: tuple[str, ...],
    limits: Limits,
) -> TaskReport:
    known = gold != IGNORE
    predicted = new.argmax(axis=1)
    before, after_same, change, f1_change, calibration_change = None, None, None, None, None
    agreement = None
    gains: dict[str, Estimate] = {}
    if baseline is not None and known.any():
        gains[TF_IDF] = _paired(baseline.argmax(axis=1), predicted, gold, known)
    kept: dict[str, KeptReport] = {}
    if old is not None:
        answers = old.argmax(axis=1)
        comparable = known & (gold < old.shape[1])  # gold labels that the old student has
        if gains:
            gains[OLD] = _paired(answers, predicted, gold, known)
        agreement = _kept(answers, predicted, ~known).kept
        if baseline is not None and agreement is None and not comparable.any():
            absent = range(old.shape[1])  # nothing else measures the old labels
        kept = {
            labels[index]: _kept(answers, predicted, ~known & (answers == index))
            for index in absent
            if not (gold == index).any()
        }
        if comparable.any():
            before = evaluate(old[comparable], gold[comparable])
            after_same = evaluate(new[comparable], gold[comparable])
            change = _paired(answers, predicted, gold, comparable)
            f1_change = paired_difference(
                "macro_f1", predicted[comparable], answers[comparable], gold[comparable]
            )
            calibration_change = _calibration_change(
                old[comparable], new[comparable], gold[comparable]
            )
    reports = {
        label: _label_report(index, old, predicted, gold)
        for index, label in enumerate(labels)
        if (gold == index).any()
    }
    after = evaluate(new[known], gold[known]) if known.any() else None
    theirs = baseline.argmax(axis=1)[known] if gains and baseline is not None else None
    report = TaskReport(
        taught=baseline is not None,
        after=after,
        before=before,
        after_same=after_same,
        change=change,
        f1_change=f1_change,
        calibration_change=calibration_change,
        labels=reports,
        baseline=None if theirs is None else float((theirs == gold[known]).mean()),
        gains=gains,
        unmeasured=tuple(x for x in labels if x not in reports) if after else (),
        never_predicted=tuple(
            label
            for index, label in enumerate(labels)
            if label in reports and label not in silent and not (predicted == index).any()
        ),
        silent=silent,
        agreement=agreement,
        agreement_articles=int((~known).sum()),
        kept=kept,
        failures=(),
    )
    failures = (*_failures(name, report, limits), *_kept_failures(name, report, limits))
    return replace(report, failures=failures)


def _label_report(
    index: int, old: NDArray[np.floating[Any]] | None, predicted: Indices, gold: Indices
) -> LabelReport:
    rows = gold == index
    after = float((predicted[rows] == index).mean())
    if old is None or index >= old.shape[1]:
        return LabelReport(int(rows.sum()), after)
    before = old.argmax(axis=1)
    return LabelReport(
        int(rows.sum()),
        after,
        float((before[rows] == index).mean()),
        _paired(before, predicted, gold, rows),
    )


def _paired(old: Indices, new: Indices, gold: Indices, rows: NDArray[np.bool_]) -> Estimate:
    """Return the accuracy of new - old on some rows, with its paired interval."""
    was, now = old[rows] == gold[rows], new[rows] == gold[rows]
    return paired(int((now & ~was).sum()), int((was & ~now).sum()), int(rows.sum()))


def _kept(old: Indices, new: Indices, rows: NDArray[np.bool_]) -> KeptReport:
    """Return the number of some articles, and the share for which both predict the same label."""
    support = int(rows.sum())
    return KeptReport(support, share(int((old[rows] == new[rows]).sum()), support))


def _calibration_change(
    old: NDArray[np.floating[Any]], new: NDArray[np.floating[Any]], gold: Indices
) -> Estimate:
    """Return the expected calibration error of new - old, with its paired interval."""
    found = calibration_difference(new, old, gold)
    change = expected_calibration_error(new, gold) - expected_calibration_error(old, gold)
    return Estimate(change, found.low, found.high)


def _kept_failures(name: str, report: TaskReport, limits: Limits) -> Iterator[str]:
    unmeasured = [label for label, item in report.kept.items() if item.support < MEASURED]
    if unmeasured:
        yield (
            f"{name}: nothing shows whether the answers {', '.join(unmeasured)} are kept: there are no "
            "articles with these labels to learn from, and none to measure on; give old ones (--replay "
            "FILE), or some to measure on (--test FILE), or take it as it is (--force)"
        )
    for label, item in report.kept.items():
        if label not in unmeasured and item.kept and item.kept.high < limits.min_agreement:
            yield (
                f"{name}: of {item.support:,} articles without a label here to which the old student "
                f"answers {label}, the new one does for {item.kept.value:.1%}; asked for are "
                f"{limits.min_agreement:.0%}. Old articles with that label keep it: --replay FILE"
            )


def _failures(name: str, report: TaskReport, limits: Limits) -> list[str]:
    found = []
    for label, item in report.labels.items():
        if _falls(item.change, item.support, limits.max_fall):
            assert item.change is not None
            found.append(
                f"{name}: {label} falls by {-100 * item.change.value:.1f} points of recall on "
                f"{item.support:,} articles; allowed are {limits.max_fall:g}"
            )
    if report.before and _falls(report.change, report.before.support, limits.max_task_fall):
        assert report.change is not None
        found.append(
            f"{name}: accuracy falls by {-100 * report.change.value:.1f} points; allowed are "
            f"{limits.max_task_fall:g}"
        )
    same, after = report.agreement, report.after
    enough = report.agreement_articles > FEW
    if report.before is None and same and enough and same.high < limits.min_agreement:
        found.append(
            f"{name}: the new student gives {same.value:.1%} of the articles the old one's label; asked "
            f"for are {limits.min_agreement:.0%} where there are no gold labels"
        )
    if report.taught and after is None:
        found.append(
            f"{name}: none of the articles to measure on has a label of it, so nothing shows that it is "
            "learnt; give more labelled articles, or some to measure on (--test FILE)"
        )
    for rival, gain in report.gains.items():
        if _falls(gain, 0 if after is None else after.support, 0.0):
            found.append(_below(name, report, rival, gain))
    return found


def _below(name: str, report: TaskReport, rival: str, gain: Estimate) -> str:
    """Return the sentence that a student is worse than another model beyond chance, with advice."""
    assert report.after is not None
    advice = "give more articles, look the labels over with newsie doctor, or train deeper "
    advice += "(--student, --full)"
    if report.kept:
        advice = "give old articles, too, to tell the new labels from the old ones (--replay FILE)"
    return (
        f"{name}: accuracy {report.after.accuracy:.1%} is below {rival}, "
        f"{report.after.accuracy - gain.value:.1%}, on {report.after.support:,} articles; {advice}"
    )


def _falls(change: Estimate | None, articles: int, limit: float) -> bool:
    """Return True if a change is a fall by more than `limit` points that is beyond chance."""
    if change is None or articles <= FEW:
        return False
    return 100 * change.value < -limit and change.high < 0


def _gains(name: str, report: TaskReport) -> Iterator[str]:
    """Yield a line for each rival that says if a taught task has improved on it."""
    articles = report.after.support if report.after else 0
    for rival, gain in report.gains.items():
        verdict = "shown" if gain.low > 0 else "NOT shown"
        if articles <= FEW:
            verdict = f"NOT shown, {articles} articles are too few to show anything"
        elif gain.high < 0:
            verdict = "a loss"
        yield f"  {name}, over {rival}: {_change(gain)} on {articles:,} articles: {verdict}"


def _gaps(name: str, report: TaskReport) -> Iterator[str]:
    """Yield notes on the labels that the figures of a task leave out."""
    if report.after and report.unmeasured:
        total = report.after.measured + len(report.unmeasured)
        yield (
            f"{name}: macro-F1 is over {report.after.measured:,} of {total:,} labels; not measured, "
            f"without a test article: {', '.join(report.unmeasured)}"
        )
    if report.silent:
        yield (
            f"{name}: never predicted, not even for the articles that it was learnt from: "
            f"{', '.join(report.silent)}"
        )
    if report.never_predicted:
        yield (
            f"{name}: predicted for no test article, though some have it: "
            f"{', '.join(report.never_predicted)}"
        )


def _rows(name: str, report: TaskReport) -> Iterator[tuple[str, ...]]:
    """Yield the table rows of a task.

    All columns of a row are about the same articles: first those whose label the old student has, then all
    of them, if there are more.
    """
    before, same, after = report.before, report.after_same, report.after
    more = bool(before and after and before.support < after.support)
    baseline = _percent(report.baseline)
    shown = same or after
    yield (
        name,
        f"{shown.support:,}" if shown else "",
        _percent(before.accuracy) if before else "",
        _percent(shown.accuracy) if shown else "",
        _change(report.change),
        "" if more else baseline,
        _percent(shown.macro_f1) if shown else "",
        _change(report.f1_change),
        _calibration(before, shown, report.calibration_change),
        _percent(report.agreement.value) if report.agreement else "",
    )
    if more and after:
        cells = _percent(after.accuracy), "", baseline, _percent(after.macro_f1), ""
        ece = f"{after.expected_calibration_error:.3f}"
        yield (f"{name}, with new labels", f"{after.support:,}", "", *cells, ece, "")


def _calibration(
    before: TaskMetrics | None, after: TaskMetrics | None, change: Estimate | None
) -> str:
    errors = [f"{m.expected_calibration_error:.3f}" for m in (before, after) if m]
    told = f", {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]" if change else ""
    return " -> ".join(errors) + told


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _change(change: Estimate | None) -> str:
    if change is None:
        return ""
    low, high = 100 * change.low, 100 * change.high
    return f"{100 * change.value:+.1f} [{low:+.1f}, {high:+.1f}]"
