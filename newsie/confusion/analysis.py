"""The analysis of one task's predictions, with or without gold labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from newsie.confusion.cells import Cell, find_cells
from newsie.confusion.clusters import Clusters, cluster_labels
from newsie.confusion.document import as_json
from newsie.confusion.groups import Groups, compare_groups
from newsie.confusion.label_issues import Suspects, describe_suspects, find_suspects
from newsie.confusion.matrix import ConfusionMatrix
from newsie.confusion.merging import tally
from newsie.confusion.overlap import MINIMUM_ARTICLES, MINIMUM_LABELS, Overlap, find_overlap
from newsie.confusion.pairs import LabelPair, examine_pairs
from newsie.confusion.predictions import Answers, read_answers
from newsie.confusion.reliability import Calibration, calibration
from newsie.confusion.soft import SoftConfusion, soft_confusion
from newsie.metrics.estimates import Estimate
from newsie.printable import one_line

__all__ = ["SUSPECTS", "Analysis", "analyse"]

SUSPECTS = 1_000
"""The maximum number of suspect rows listed."""

_CONFUSED = 200  # directions of confusion listed
_DRIFTING = 8  # directions of confusion compared by group
_ABSENT = 30  # labels that do not occur, listed by name


@dataclass(frozen=True, eq=False)
class Analysis:
    """The analysis of one task: what its probabilities say about its labels.

    Attributes:
        answers: the predictions that were analysed.
        matrix: hard confusion. `matrix`, `calibration` and `suspects` are None without gold labels.
        calibration: how far the probabilities can be trusted.
        suspects: articles whose gold label is likely wrong.
        macro_f1: macro-F1 with its interval; None without gold labels.
        soft: mean probabilities by gold label, or by predicted label without gold labels.
        overlap: the labels that share probability mass; None if there is too little data to test.
        pairs: the most confused pairs, each with a reason and advice.
        cells: example articles for the cells of the table.
        clusters: the dendrogram; None if fewer than three labels occur.
        groups: the comparison by publisher or month, if requested.
        left_out: sentences that say what is missing, and why.
    """

    answers: Answers
    matrix: ConfusionMatrix | None
    calibration: Calibration | None
    suspects: Suspects | None
    macro_f1: Estimate | None
    soft: SoftConfusion
    overlap: Overlap | None
    pairs: tuple[LabelPair, ...]
    cells: tuple[Cell, ...]
    clusters: Clusters | None
    groups: Groups | None
    left_out: tuple[str, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """The labels that occur neither as gold nor as predicted (see `Answers.occurring`)."""
        return _absent(self.answers)

    def to_json(self, task: str = "") -> dict[str, Any]:
        """Return the analysis as plain JSON values; `docs/confusion.md` describes them."""
        matrix, suspects = self.matrix, self.suspects
        content = {
            "task": task,
            "labels": self.answers.labels,
            "absent": self.absent,
            "articles": len(self.answers),
            "labelled": len(self.answers.labelled),
            "accuracy": matrix.accuracy if matrix else None,
            "macro_f1": self.macro_f1,
            "hard": {"counts": matrix.counts, "labels": matrix.label_metrics()} if matrix else None,
            "soft": {
                name: getattr(self.soft, name)
                for name in ("rows", "mean", "standard_error", "support")
            },
            "confused": self._confused(),
            "suspects": {
                "articles": len(suspects.rows),
                "examined": len(suspects.examined_rows),
                "sure": len(suspects.sure_rows),
                "expected": suspects.expected,
                "beyond_chance": suspects.beyond_chance,
                "sentence": describe_suspects(self.answers, suspects),
                "rows": suspects.rows[:SUSPECTS],
            }
            if suspects
            else None,
        }
        same = ("overlap", "pairs", "cells", "clusters", "calibration", "groups", "left_out")
        found: dict[str, Any] = as_json(content | {name: getattr(self, name) for name in same})
        return found

    def _confused(self) -> list[dict[str, Any]]:
        if self.matrix is None:
            return []
        index = {label: i for i, label in enumerate(self.answers.labels)}
        return [
            {
                "gold": pair.gold,
                "predicted": pair.predicted,
                "articles": pair.articles,
                "share": pair.share,
                "mean_probability": self.soft.estimate(index[pair.gold], index[pair.predicted]),
            }
            for pair in self.matrix.most_confused(_CONFUSED)
        ]


def analyse(
    labels: Sequence[str],
    probabilities: ArrayLike,
    gold: ArrayLike | Sequence[str | None] | None = None,
    *,
    groups: Sequence[str | None] | None = None,
    by: str = "publisher",
    pairs: int = 12,
) -> Analysis:
    """Analyse the predictions for one task.

    Args:
        labels: C names.
        probabilities: (N, C) float32 or float64, rows summing to 1; may be memory-mapped. `suspects` needs a
            model that was not trained on these articles.
        gold: (N,) class indices with -100 for no label, or names with None or "" for no label.
            None limits the analysis to the probabilities alone.
        groups: (N,) publisher or month of each article; "" or None if unknown.
        by: the kind of group: "publisher" or "month".
        pairs: the number of pairs to examine.

    Raises:
        InputError: there are no articles or fewer than two labels, the shapes do not match, or a row is not a
            distribution.
        LabelError: a gold label is not among the labels.
        MissingExtraError: scipy or cleanlab is not installed.
    """
    answers = read_answers(labels, probabilities, gold)
    rows = answers.labelled
    matrix = trust = suspects = macro_f1 = compared = None
    if len(rows):
        y, predicted = answers.gold[rows], answers.predicted[rows]
        matrix = ConfusionMatrix.from_labels(labels, y, predicted)
        trust = calibration(answers.confidence[rows], predicted == y)
        suspects = find_suspects(answers)
        blocks = np.unique(answers.blocks[rows], return_inverse=True)[1]
        macro_f1 = tally(y, predicted, blocks, answers.classes).macro_f1
        if groups is not None:
            confused = matrix.most_confused(_DRIFTING)
            compared = compare_groups(answers, groups, by=by, pairs=confused)
    soft, overlap = soft_confusion(answers), find_overlap(answers)
    return Analysis(
        answers=answers,
        matrix=matrix,
        calibration=trust,
        suspects=suspects,
        macro_f1=macro_f1,
        soft=soft,
        overlap=overlap,
        pairs=examine_pairs(answers, matrix, overlap, suspects, count=pairs),
        cells=find_cells(answers),
        clusters=cluster_labels(answers, soft),
        groups=compared,
        left_out=tuple(_left_out(answers, suspects, asked_groups=groups is not None)),
    )


def _absent(answers: Answers) -> tuple[str, ...]:
    return tuple(answers.labels[i] for i in np.flatnonzero(~answers.occurring))


def _left_out(answers: Answers, suspects: Suspects | None, *, asked_groups: bool) -> list[str]:
    said, rows = [], answers.labelled
    if not len(rows):
        said.append(
            "There are no gold labels to go by, so how often labels are confused, which are wrong, "
            "calibration and what merging would bring are left out; what is here comes from the "
            "probabilities alone."
        )
        if asked_groups:
            said.append("Groups are compared by their accuracy, which takes gold labels.")
    elif len(rows) < len(answers):
        said.append(
            f"{len(answers) - len(rows):,} of {len(answers):,} articles have no gold label that the model "
            "knows; they count only where probabilities alone are looked at."
        )
    if answers.classes < MINIMUM_LABELS:
        said.append(
            f"Overlap in the probabilities is left out: with {answers.classes} labels, what one "
            "does not get goes to the few others whatever they mean; it takes "
            f"{MINIMUM_LABELS} labels."
        )
    elif len(answers) < MINIMUM_ARTICLES:
        said.append(
            f"Overlap in the probabilities is left out: it takes {MINIMUM_ARTICLES} articles and not "
            f"{len(answers)}."
        )
    if answers.occurring.sum() < 3:
        said.append("Clusters are left out: fewer than three labels occur.")
    if absent := _absent(answers):
        said.append(_absent_sentence(answers, absent))
    if suspects is not None and len(suspects.examined_rows) < len(rows):
        said.append(
            f"Wrong labels were looked for in {len(suspects.examined_rows):,} of {len(rows):,} "
            "articles, evenly spaced."
        )
    return said


def _absent_sentence(answers: Answers, absent: Sequence[str]) -> str:
    names = [one_line(label) for label in absent[:_ABSENT]]
    more = f" and {len(absent) - _ABSENT:,} more" if len(absent) > _ABSENT else ""
    never = "neither as gold label nor as answer" if len(answers.labelled) else "as answer"
    verb = "does not occur" if len(absent) == 1 else "do not occur"
    return (
        f"{len(absent):,} of {answers.classes:,} labels {verb}, {never}, and have no row: "
        f"{', '.join(names)}{more}."
    )
