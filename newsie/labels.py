"""Tasks and labels: the mapping between names and the class indices of the models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from newsie.errors import LabelError
from newsie.texts import name_fault

if TYPE_CHECKING:
    from newsie.data.articles import Article

__all__ = ["IGNORE", "LabelRule", "LabelSpace", "Task", "check_task_names"]

IGNORE = -100
"""The class index of an article without a label; the value that torch's cross entropy skips."""

MAX_LABELS, MAX_LABEL_CHARACTERS = 100_000, 1_000
"""The limits of a task, far above what a model can learn."""

_TASK_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = frozenset({"attention_mask", "headline", "id", "input_ids", "row", "truncated"})
"""Names of model inputs and of prediction columns, which a task of that name would overwrite."""


def check_task_names(names: Sequence[str]) -> None:
    """Check that the task names are valid and do not clash with each other or with reserved column names.

    Raises:
        LabelError: a name is not made of small letters, digits and "_" after a letter, is reserved by
            prediction files or models, or occurs twice.
    """
    for name in names:
        if not isinstance(name, str) or not _TASK_NAME.fullmatch(name):
            raise LabelError(
                "a task needs a name of small letters (a to z), digits and '_', a letter first; "
                f"given: {name!r}"
            )
        if name in _TAKEN:
            raise LabelError(
                f"a task cannot be called {name!r}: {', '.join(sorted(_TAKEN))} have a meaning in "
                "models and their answers; choose another name, and name the column in its rule"
            )
    if len(set(names)) != len(names):
        raise LabelError(f"each task once; given: {list(names)}")
    for name in names:
        # Prediction files have the columns TASK, TASK_score, TASK_2, TASK_2_score and so on.
        ours = re.compile(rf"{name}(_\d+)?(_score)?")
        for other in names:
            if other != name and ours.fullmatch(other):
                raise LabelError(
                    f"tasks cannot be called both {name!r} and {other!r}, which is a column of "
                    f"the answers to {name!r}; rename one of them"
                )


@dataclass(frozen=True)
class LabelRule:
    """The rule that reads the gold label of a task from the columns of a file.

    Attributes:
        column: the column that holds the label.
        where: the rule applies only to rows whose columns have these values, e.g. {"press": "tabloid"};
            a list of values means any of them.
        merge: label in the file -> label of the task, e.g. {"ARTS & CULTURE": "arts"}.
        drop: labels in the file that count as unlabelled.
    """

    column: str
    where: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    merge: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "drop", tuple(self.drop))  # makes equal rules compare equal

    def label(self, row: Mapping[str, str]) -> str | None:
        """Return the gold label of a row (column -> text), or None if the rule gives none."""
        for column, allowed in self.where.items():
            wanted = (allowed,) if isinstance(allowed, str) else allowed
            if row.get(column, "") not in wanted:
                return None
        value = row.get(self.column, "").strip()
        if not value or value in self.drop:
            return None
        return self.merge.get(value, value)

    def to_json(self) -> dict[str, Any]:
        """Return the rule as plain JSON values, which `LabelRule(**rule.to_json())` reads back."""
        return {
            "column": self.column,
            "where": {k: v if isinstance(v, str) else list(v) for k, v in self.where.items()},
            "merge": dict(self.merge),
            "drop": list(self.drop),
        }


@dataclass(frozen=True)
class Task:
    """One question about an article. The position of a label is its class index.

    Attributes:
        name: the task's name, e.g. "section"; see `check_task_names`.
        labels: the labels, in the order of the model's outputs.
        rule: the source of gold labels in a file; None means the column with the task's name.
    """

    name: str
    labels: tuple[str, ...]
    rule: LabelRule | None = None

    def __post_init__(self) -> None:
        check_task_names([self.name])
        self._check_labels()

    def _check_labels(self) -> None:
        if len(self.labels) > MAX_LABELS:
            raise LabelError(
                f"task {self.name!r} has {len(self.labels):,} labels; at most {MAX_LABELS:,} are allowed"
            )
        for label in self.labels:
            if fault := name_fault(label, MAX_LABEL_CHARACTERS):
                raise LabelError(
                    f"task {self.name!r}: the label {fault}; a label is one line of text: rename it"
                )
        if len(self.labels) < 2:
            raise LabelError(
                f"task {self.name!r} has {len(self.labels)} label(s) {list(self.labels)}; "
                "a task needs at least 2: give it articles of another label, or leave it out"
            )
        if len(set(self.labels)) != len(self.labels):
            twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
            raise LabelError(f"task {self.name!r} names {twice} more than once; each label once")

    def index(self, label: str) -> int:
        """Return the class index of a label.

        Raises:
            LabelError: the task lacks the label.
        """
        try:
            return self.labels.index(label)
        except ValueError:
            raise LabelError(
                f"task {self.name!r} has no label {label!r}; it has: {', '.join(self.labels)}"
            ) from None


@dataclass(frozen=True)
class LabelSpace:
    """All tasks of a model. Append-only: the meaning of a class index never changes.

    Attributes:
        tasks: the tasks, in the order of the model's heads.
    """

    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        if not self.tasks:
            raise LabelError("a label space needs at least one task; given: none")
        check_task_names(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""
        return tuple(task.name for task in self.tasks)

    def __getitem__(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise LabelError(f"no task {name!r}; there are: {', '.join(self.names)}")

    def encode(self, articles: Iterable[Article]) -> dict[str, NDArray[np.int64]]:
        """Return class indices by task, each (N,); IGNORE for an article without a label.

        Raises:
            LabelError: an article has a label that its task lacks.
        """
        columns: dict[str, list[int]] = {task.name: [] for task in self.tasks}
        index = {t.name: {label: i for i, label in enumerate(t.labels)} for t in self.tasks}
        for article in articles:
            for name, column in columns.items():
                label = article.labels.get(name)
                try:
                    column.append(IGNORE if label is None else index[name][label])
                except KeyError:
                    raise LabelError(
                        f"article {article.id!r} is labelled {label!r} in task {name!r}, which "
                        f"has: {', '.join(self[name].labels)}; map the label, drop it, or extend "
                        "the label space"
                    ) from None
        return {name: np.asarray(column, dtype=np.int64) for name, column in columns.items()}

    def extend(self, labels: Mapping[str, Iterable[str]]) -> LabelSpace:
        """Return a label space with further labels (task name -> labels) appended.

        Labels that a task already has keep their place; an unknown task is appended.
        """
        tasks = []
        for task in self.tasks:
            new = [label for label in labels.get(task.name, ()) if label not in task.labels]
            tasks.append(Task(task.name, (*task.labels, *new), task.rule))
        known = set(self.names)
        tasks += [Task(name, tuple(new)) for name, new in labels.items() if name not in known]
        return LabelSpace(tuple(tasks))

    def fingerprint(self) -> str:
        """Return the hex digest of the task names and labels in order; rules do not count."""
        content = json.dumps([[task.name, list(task.labels)] for task in self.tasks])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the label space as plain JSON values, for manifests."""
        return [
            {
                "name": task.name,
                "labels": list(task.labels),
                "rule": None if task.rule is None else task.rule.to_json(),
            }
            for task in self.tasks
        ]

    @classmethod
    def from_json(cls, content: Sequence[Mapping[str, Any]]) -> LabelSpace:
        """Return the label space that `to_json` wrote."""
        return cls(
            tuple(
                Task(
                    item["name"],
                    _as_list(item["labels"]),
                    None if item.get("rule") is None else LabelRule(**item["rule"]),
                )
                for item in content
            )
        )


def _as_list(labels: object) -> tuple[str, ...]:
    """Return labels as a tuple; reject text, whose letters would become labels."""
    if not isinstance(labels, list):
        raise LabelError(f"labels are given as {type(labels).__name__}; give a list")
    return tuple(labels)
