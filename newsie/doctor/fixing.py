"""Fixing a file automatically where no judgement is needed, with a log of every change.

- Rows that cannot be read, or have no text, are left out.
- A label with several spellings gets the most frequent one.
- One of several articles with exactly the same text is kept. If only the others have a label, it
  gets theirs. If their labels differ, it gets none, because only a person can decide.
The rest is left to people: likely wrong labels, near duplicates, foreign texts and so on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from newsie.atomic import new_file
from newsie.data.label_names import spellings
from newsie.doctor.examination import Examination
from newsie.doctor.label_checks import spelled
from newsie.doctor.rewriting import Edit, Left, check_target, rewrite
from newsie.errors import InputError
from newsie.texts import plural

__all__ = ["Fixed", "Plan", "fix", "plan"]


@dataclass(frozen=True)
class Plan:
    """The planned changes to a file.

    Attributes:
        edits: row number -> the changes in the row, or its removal.
        reasons: row number -> the reasons, one sentence per change.
        numbers: the rows that can be used; all others are left out.
    """

    edits: Mapping[int, Edit]
    reasons: Mapping[int, list[str]]
    numbers: frozenset[int]


@dataclass
class Fixed:
    """The result of fixing a file.

    Attributes:
        output: the fixed file.
        log: the log of every change, one JSON object per line.
        rows: number of rows written.
        left_out: number of rows left out.
        relabelled: number of labels changed, added or removed.
    """

    output: Path
    log: Path
    rows: int = 0
    left_out: int = 0
    relabelled: int = 0

    def describe(self) -> str:
        """Return a sentence that describes the result."""
        return (
            f"{plural(self.rows, 'row', 'rows')} written to {self.output}; "
            f"{plural(self.left_out, 'row', 'rows')} left out and "
            f"{plural(self.relabelled, 'label', 'labels')} changed, each of them in {self.log}"
        )


@dataclass
class _Draft:
    """An unfinished plan: labels by column, and rows to leave out."""

    cells: dict[int, dict[str, str]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    reasons: dict[int, list[str]] = field(default_factory=dict)

    def set_cell(self, number: int, column: str, value: str, reason: str) -> None:
        self.cells.setdefault(number, {})[column] = value
        self.reasons.setdefault(number, []).append(reason)

    def drop(self, number: int, reason: str) -> None:
        self.dropped.add(number)
        self.reasons.setdefault(number, []).append(reason)


def plan(examination: Examination) -> Plan:
    """Return the changes that `fix` would make."""
    draft = _Draft()
    labels = {task: _spell(examination, task, draft) for task in examination.file.rules}
    for found in examination.copies.exact:
        _keep_first(examination, found, labels, draft)
    edits = {
        number: Edit(number in draft.dropped, draft.cells.get(number, {}))
        for number in draft.reasons
    }
    return Plan(edits, draft.reasons, frozenset(examination.file.numbers))


def _spell(examination: Examination, task: str, draft: _Draft) -> list[str | None]:
    """Return the labels of a task, each in its most frequent spelling, and draft these changes."""
    file = examination.file
    better = spellings(file.counts(task))
    for number, label in zip(file.numbers, file.labels(task), strict=True):
        if label in better:
            reason = f"label {label!r} is written {better[label]!r} elsewhere"
            draft.set_cell(number, file.rules[task].column, better[label], reason)
    return spelled(file, task)


def _keep_first(
    examination: Examination,
    found: Any,
    labels: Mapping[str, list[str | None]],
    draft: _Draft,
) -> None:
    file = examination.file
    first, *again = found
    kept = file.numbers[first]
    for i in again:
        draft.drop(file.numbers[i], f"the same as row {kept}, word for word")
    for task, given in labels.items():
        different = {given[i] for i in found} - {None}
        column = file.rules[task].column
        if len(different) > 1:
            shown = ", ".join(f"row {file.numbers[i]}: {given[i]!r}" for i in found)
            draft.set_cell(kept, column, "", f"its copies have different labels: {shown}")
        elif different and given[first] is None:
            (label,) = different
            draft.set_cell(kept, column, label or "", "it had no label, a copy of it had")


def fix(examination: Examination, output: Path) -> Fixed:
    """Write a fixed copy of the file, and a log of every change next to it (OUTPUT.log.jsonl).

    The columns, their order and the format stay the same. Unchanged rows are written as they were.

    Raises:
        InputError: the output is the file itself, or has another format.
    """
    source = Path(examination.file.path)
    check_target(source, output)
    todo = plan(examination)
    log = output.with_name(f"{output.name}.log.jsonl")
    if log.exists() and log.samefile(source):
        raise InputError(f"{log} is the file that is examined; name another output")
    done = Fixed(output, log)
    with new_file(log) as aside, aside.open("w", encoding="utf-8") as stream:
        for change in rewrite(source, output, todo.edits, todo.numbers):
            if change is None:
                done.rows += 1
                continue
            for entry in _entries(change, todo, done):
                stream.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
    return done


def _entries(left: Left, todo: Plan, done: Fixed) -> Iterator[dict[str, Any]]:
    """Yield the lines of the log about one row."""
    if left.dropped:
        done.left_out += 1
        reasons = todo.reasons.get(left.number) or [left.reason]
        yield {
            "row": left.number,
            "action": "left out",
            "reason": "; ".join(reasons),
            "content": left.content,
        }
        return
    done.rows += 1
    for column, (before, after) in left.changed.items():
        done.relabelled += 1
        yield {
            "row": left.number,
            "action": "label changed" if after else "label taken away",
            "reason": "; ".join(todo.reasons[left.number]),
            "column": column,
            "before": before,
            "after": after,
        }
