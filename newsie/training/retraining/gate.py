"""The promotion gate: the old student and the new one on the same articles, which neither learnt from.

What the old one answered must not get worse, and what is new must be worth its place:

- a task with gold labels here: no label may lose more than `max_fall` points of recall beyond chance,
  and the task no more than `max_task_fall` points of accuracy beyond chance (paired 95 % intervals);
- a task without: the new student must give the old one's label to `min_agreement` of the articles;
- a label that the file has no articles of, in a task that it teaches: with no gold labels of it here
  either, of the articles without any to which the old student answers that label, the new one must do so
  for `min_agreement`. Fewer than `MEASURED` of them measure nothing, and then it is not promoted;
- a task that the file teaches: there must be articles to measure it on, and accuracy must not be below
  that of TF-IDF and logistic regression on the same articles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.intervals import Estimate, paired, share
from newsie.errors import QualityGateError
from newsie.evaluation import (
    Interval,
    TaskMetrics,
    bootstrap_difference,
    calibration_difference,
    evaluate,
    expected_calibration_error,
    macro_f1,
)
from newsie.labels import IGNORE, LabelSpace

__all__ = ["Limits", "Promotion", "TaskReport", "compare_students"]

MEASURED = 10
"""Articles from which on they show whether the answers of a label are kept."""

FURTHER = ("macro-F1", "change", "ECE", "agreement")
"""The last columns of the table."""

Probabilities = Mapping[str, NDArray[np.floating[Any]]]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """What a student must keep to be promoted.

    Attributes:
        max_fall: points of recall that a label may lose.
        max_task_fall: points of accuracy that a task may lose.
        min_agreement: share of articles that must keep their label, where there are no gold labels.
    """

    max_fall: float = 2.0
    max_task_fall: float = 1.0
    min_agreement: float = 0.9


@dataclass(frozen=True)
class LabelReport:
    """Recall of a label before and after, and after - before with its paired interval.

    `before` and `change` are None for a label that the old student does not have.
    """

    support: int
    after: float
    before: float | None = None
    change: Estimate | None = None


@dataclass(frozen=True)
class KeptReport:
    """Articles without a gold label to which the old student answers a label, and the share to which the
    new one does; None of no articles."""

    support: int
    kept: Estimate | None


@dataclass(frozen=True)
class TaskReport:
    """A task before and after.

    Attributes:
        taught: whether the file has gold labels for it.
        after: the new student's metrics; None without gold labels.
        before: the old student's, on the articles whose label it has; None without any.
        change: after - before, accuracy on those articles, with its paired interval.
        f1_change: after - before, macro-F1 on those articles, with its paired bootstrap interval.
        calibration_change: likewise, expected calibration error.
        labels: label -> its report.
        baseline: accuracy of TF-IDF and logistic regression, and after - baseline with its interval;
            None for a task that is not taught.
        agreement: share of the articles without a gold label to which both give the same one; None for
            a new task, and where there are none.
        kept: label that was not learnt and has no gold labels -> whether its answers are kept.
        failures: why it is not good enough, in sentences; empty if it is.
    """

    taught: bool
    after: TaskMetrics | None
    before: TaskMetrics | None
    change: Estimate | None
    f1_change: Estimate | None
    calibration_change: Estimate | None
    labels: Mapping[str, LabelReport]
    baseline: tuple[float, Interval] | None
    agreement: Estimate | None
    kept: Mapping[str, KeptReport]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Promotion:
    """The verdict on a new student.

    Attributes:
        articles: test articles.
        limits: what it had to keep.
        tasks: the report of each task.
    """

    articles: int
    limits: Limits
    tasks: Mapping[str, TaskReport]

    @property
    def failures(self) -> list[str]:
        """Why it is not promoted; empty if it is."""
        return [text for report in self.tasks.values() for text in report.failures]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "promoted": not self.failures}

    def check(self) -> None:
        """Raise QualityGateError, with the table, unless the student is promoted."""
        if self.failures:
            reasons = "\n".join(f"  {text}" for text in self.failures)
            raise QualityGateError(f"the new student is not promoted:\n{reasons}\n{self.table()}")

    def table(self) -> str:
        """The figures of all tasks, for people."""
        header = ("task", "articles", "before", "after", "change", "TF-IDF", *FURTHER)
        rows = [header, *(_row(name, report) for name, report in self.tasks.items())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = ["  ".join(f"{x:<{w}}" for x, w in zip(r, widths, strict=True)) for r in rows]
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
        lines += [
            f"{name}: before and the changes are of the {r.before.support:,} articles whose label the old "
            f"student has, the rest of all {r.after.support:,}"
            for name, r in self.tasks.items()
            if r.before and r.after and r.before.support < r.after.support
        ]
        without = [n for n, r in self.tasks.items() if r.after is None and not r.taught]
        if without:
            lines.append(
                f"No gold labels here for {', '.join(without)}: the agreement of the new student with "
                "the old one stands in for its accuracy; --replay or --test FILE measures it."
            )
        return "\n".join(line.rstrip() for line in lines)


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
) -> Promotion:
    """Measure both on the same N articles.

    Args:
        old: the old student's probabilities, (N, C_old) by task.
        new: the new student's, (N, C) by task; its labels begin with the old ones.
        gold: (N,) class indices of the new label space; IGNORE where there is none.
        labels: the new label space.
        taught: the tasks that the file has gold labels for.
        baseline: probabilities of TF-IDF and logistic regression, (N, C), of these.
        limits: what must be kept.
        absent: task that is taught -> class indices of the old labels that there were no articles of.
    """
    absent = absent or {}
    tasks = {
        task.name: _report(
            task.name,
            task.labels,
            old.get(task.name),
            new[task.name],
            gold[task.name],
            baseline.get(task.name) if task.name in taught else None,
            absent.get(task.name, ()),
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
    limits: Limits,
) -> TaskReport:
    known = gold != IGNORE
    predicted = new.argmax(axis=1)
    before, change, f1_change, calibration_change, agreement = None, None, None, None, None
    kept: dict[str, KeptReport] = {}
    if old is not None:
        answers = old.argmax(axis=1)
        comparable = known & (gold < old.shape[1])  # gold labels that the old student has
        agreement = _kept(answers, predicted, ~known).kept
        if baseline is not None and agreement is None and not comparable.any():
            absent = range(old.shape[1])  # nothing at all measures what there was before
        kept = {
            labels[index]: _kept(answers, predicted, ~known & (answers == index))
            for index in absent
            if not (gold == index).any()
        }
        if comparable.any():
            before = evaluate(old[comparable], gold[comparable])
            change = _paired(answers, predicted, gold, comparable)
            f1_change = _f1_change(answers[comparable], predicted[comparable], gold[comparable])
            calibration_change = _calibration_change(
                old[comparable], new[comparable], gold[comparable]
            )
    reports = {
        label: _label_report(index, old, predicted, gold)
        for index, label in enumerate(labels)
        if (gold == index).any()
    }
    against = None
    if baseline is not None and known.any():
        theirs = baseline.argmax(axis=1)[known]
        difference = bootstrap_difference("accuracy", predicted[known], theirs, gold[known])
        against = float((theirs == gold[known]).mean()), difference
    report = TaskReport(
        taught=baseline is not None,
        after=evaluate(new[known], gold[known]) if known.any() else None,
        before=before,
        change=change,
        f1_change=f1_change,
        calibration_change=calibration_change,
        labels=reports,
        baseline=against,
        agreement=agreement,
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
    """Accuracy of new - old on some rows, with its paired interval."""
    was, now = old[rows] == gold[rows], new[rows] == gold[rows]
    return paired(int((now & ~was).sum()), int((was & ~now).sum()), int(rows.sum()))


def _kept(old: Indices, new: Indices, rows: NDArray[np.bool_]) -> KeptReport:
    """Some articles, and the share of them to which both answer the same."""
    support = int(rows.sum())
    return KeptReport(support, share(int((old[rows] == new[rows]).sum()), support))


def _f1_change(old: Indices, new: Indices, gold: Indices) -> Estimate:
    """Macro-F1 of new - old, with its paired interval."""
    found = bootstrap_difference("macro_f1", new, old, gold)
    return Estimate(macro_f1(new, gold) - macro_f1(old, gold), found.low, found.high)


def _calibration_change(
    old: NDArray[np.floating[Any]], new: NDArray[np.floating[Any]], gold: Indices
) -> Estimate:
    """Expected calibration error of new - old, with its paired interval."""
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
        if item.change is not None and _falls(item.change, limits.max_fall):
            found.append(
                f"{name}: {label} falls by {-100 * item.change.value:.1f} points of recall on "
                f"{item.support:,} articles; allowed are {limits.max_fall:g}"
            )
    if report.change is not None and _falls(report.change, limits.max_task_fall):
        found.append(
            f"{name}: accuracy falls by {-100 * report.change.value:.1f} points; allowed are "
            f"{limits.max_task_fall:g}"
        )
    same, after = report.agreement, report.after
    if report.before is None and same is not None and same.value < limits.min_agreement:
        found.append(
            f"{name}: the new student gives {same.value:.1%} of the articles the old one's label; asked "
            f"for are {limits.min_agreement:.0%} where there are no gold labels"
        )
    if report.taught and after is None:
        found.append(
            f"{name}: none of the articles to measure on has a label of it, so nothing shows that it is "
            "learnt; give more labelled articles, or some to measure on (--test FILE)"
        )
    if after is not None and report.baseline is not None and after.accuracy < report.baseline[0]:
        advice = "give more articles, look the labels over with newsie doctor, or train deeper "
        advice += "(--student, --full)"
        if report.kept:
            advice = (
                "give old articles, too, to tell the new labels from the old ones (--replay FILE)"
            )
        found.append(
            f"{name}: accuracy {after.accuracy:.1%} is below TF-IDF and logistic regression, "
            f"{report.baseline[0]:.1%}; {advice}"
        )
    return found


def _falls(change: Estimate, limit: float) -> bool:
    """Whether it is lower by more than some points, and lower beyond chance."""
    return 100 * change.value < -limit and change.high < 0


def _row(name: str, report: TaskReport) -> tuple[str, ...]:
    after, before = report.after, report.before
    return (
        name,
        f"{after.support:,}" if after else "",
        _percent(before.accuracy) if before else "",
        _percent(after.accuracy) if after else "",
        _change(report.change),
        _percent(report.baseline[0]) if report.baseline else "",
        _percent(after.macro_f1) if after else "",
        _change(report.f1_change),
        _calibration(before, after, report.calibration_change),
        _percent(report.agreement.value) if report.agreement else "",
    )


def _calibration(
    before: TaskMetrics | None, after: TaskMetrics | None, change: Estimate | None
) -> str:
    errors = [f"{m.expected_calibration_error:.3f}" for m in (before, after) if m]
    # Told in full: it is that of the articles that both can answer, and "after" may be of more.
    told = f", {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]" if change else ""
    return " -> ".join(errors) + told


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _change(change: Estimate | None) -> str:
    if change is None:
        return ""
    low, high = 100 * change.low, 100 * change.high
    return f"{100 * change.value:+.1f} [{low:+.1f}, {high:+.1f}]"
