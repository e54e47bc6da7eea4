"""The tasks that a newsroom's file has gold labels for, with checks that the labels can be learnt."""

from __future__ import annotations

import difflib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from newsie.data.label_columns import find_rules
from newsie.data.label_names import closest_label, plain_label
from newsie.data.readers import ArticleReader
from newsie.errors import InputError, LabelError, ReadError
from newsie.labels import LabelRule, LabelSpace, Task

__all__ = ["MAX_LABELS", "MIN_ARTICLES", "Question", "extend_labels", "find_questions"]

MIN_ARTICLES = 4
"""The number of articles that a label needs. Articles with a rarer label count as unlabelled."""

MAX_LABELS = 1_000

KNOWN_SHARE = 0.5
"""A column with the name of a task extends it if the task knows the labels of this share of its articles."""


@dataclass(frozen=True)
class Question:
    """A task that a file has gold labels for.

    Attributes:
        name: the name of the task.
        rule: the column of its labels in the file, and their mapping to labels of the task.
        counts: label -> number of articles, for labels with enough articles, most frequent first.
        rare: the same for the labels that are left out.
        known: the labels that the base has for this task; empty for a new task.
    """

    name: str
    rule: LabelRule
    counts: Mapping[str, int]
    rare: Mapping[str, int]
    known: tuple[str, ...]

    @property
    def articles(self) -> int:
        """The number of articles with a label that is learnt."""
        return sum(self.counts.values())

    @property
    def new_labels(self) -> list[str]:
        """The labels that the base does not have, sorted."""
        return sorted(set(self.counts) - set(self.known))

    @property
    def doubtful(self) -> list[str]:
        """Warnings about new labels that may be known ones, misspelt in the file or in the mapping."""
        named = set(self.rule.merge.values())
        found = []
        for label in self.new_labels if self.known else ():
            if other := closest_label(label, self.known):
                found.append(
                    f"{label!r} is new, and nearly {other!r}, which the model knows; if it is the same: "
                    f"{_maps({label: other}, self.rule)}"
                )
            elif label in named:
                found.append(
                    f"--map names the label {label!r}, which the model does not know for this task, so it "
                    f"is new; it knows {_some(self.known)}"
                )
        return found

    def describe(self) -> str:
        """Return a line that says if the task is new, extended or known."""
        column = f"column {self.rule.column!r}, {self.articles:,} articles"
        if not self.known:
            return f"task {self.name}: new, {len(self.counts)} labels ({column})"
        new = self.new_labels
        added = f"extended by {', '.join(new)}" if new else "known, no new label"
        return f"task {self.name}: {added} ({column}); --task NAME={self.rule.column} makes it new"


def find_questions(
    file: str | Path,
    base: LabelSpace,
    *,
    tasks: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    mapping: Mapping[str, str] | None = None,
) -> list[Question]:
    """Return the tasks that a file has gold labels for.

    A column extends a task of the base if `tasks` says so (TASK=COLUMN), or if it has the task's name and
    the task knows the labels of half of its articles. Any other column is a new task.

    Args:
        file: articles with gold labels.
        base: the label space that is extended.
        tasks: columns of labels, as COLUMN or TASK=COLUMN; None means those with a usual name.
        columns: field of the article -> column, for columns without a usual name.
        mapping: label in the file -> label of the task.

    Raises:
        ReadError: the file cannot be read, or its labels cannot be learnt from.
        LabelError: the name of a task is not allowed, or most labels are unknown to the task of that name.
        InputError: the mapping names a label that no row has.
    """
    known = {task.name: task.rule or LabelRule(task.name) for task in base.tasks}
    rules = find_rules(file, tasks, known, columns)
    heads = nn.ModuleDict()  # its attributes' names cannot be names of heads
    if taken := [name for name in rules if hasattr(heads, name)]:
        raise LabelError(
            f"a task cannot be called {taken[0]!r}, a name that PyTorch uses; give it another one: "
            f"--task NAME={rules[taken[0]].column}"
        )
    if mapping:
        rules = {name: replace(rule, merge=dict(mapping)) for name, rule in rules.items()}
        _check_mapping(file, rules, mapping, columns)
    counts = _count(file, rules, columns)
    named = {item.partition("=")[0] for item in tasks or () if "=" in item}
    return [
        _question(str(file), name, rule, counts[name], base, asked=name in named)
        for name, rule in rules.items()
    ]


def extend_labels(base: LabelSpace, questions: Sequence[Question]) -> LabelSpace:
    """Return the base's tasks and labels in their order, followed by new labels and tasks."""
    labels = base.extend({question.name: sorted(question.counts) for question in questions})
    rules = {question.name: question.rule for question in questions if not question.known}
    return LabelSpace(
        tuple(Task(t.name, t.labels, rules.get(t.name, t.rule)) for t in labels.tasks)
    )


def _count(
    file: str | Path, rules: Mapping[str, LabelRule], columns: Mapping[str, str] | None
) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {name: Counter() for name in rules}
    for article in ArticleReader(file, columns=columns, rules=rules):
        for name, label in article.labels.items():
            counts[name][label] += 1
    return counts


def _check_mapping(
    file: str | Path,
    rules: Mapping[str, LabelRule],
    mapping: Mapping[str, str],
    columns: Mapping[str, str] | None,
) -> None:
    plain = {name: replace(rule, merge={}) for name, rule in rules.items()}
    found = set().union(*_count(file, plain, columns).values())
    for theirs in mapping:
        if theirs not in found:
            close = difflib.get_close_matches(theirs, sorted(found), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"--map names the label {theirs!r}, which no row of {file} has; it has: "
                f"{_some(sorted(found))}{hint}"
            )


def _question(
    path: str, name: str, rule: LabelRule, counts: Counter[str], base: LabelSpace, *, asked: bool
) -> Question:
    column, total = rule.column, counts.total()
    known = base[name].labels if name in base.names else ()
    if not total:
        raise ReadError(
            path,
            "no row has a label; is it the right column? Say which: --task COLUMN",
            column=column,
        )
    if known and not asked:
        _check_known(path, name, rule, counts, known)
    _check_spelling(path, name, rule, counts, known)
    kept = {label: n for label, n in counts.most_common() if n >= MIN_ARTICLES}
    rare = {label: n for label, n in counts.most_common() if n < MIN_ARTICLES}
    if len(kept) > MAX_LABELS or sum(rare.values()) > total / 2:
        raise ReadError(
            path,
            f"{len(counts):,} different labels in {total:,} articles; at most {MAX_LABELS:,} labels "
            f"are learnt, and {MIN_ARTICLES} articles are needed of each. If it is not the column of "
            "labels, name that one: --task COLUMN; or merge labels: --map theirs=ours",
            column=column,
        )
    if len(kept) < 2:
        shown = ", ".join(f"{label!r} ({n:,})" for label, n in counts.most_common(5))
        raise ReadError(
            path,
            f"{len(kept)} label(s) with {MIN_ARTICLES} articles or more: {shown}; two are needed to "
            "tell them apart. Add articles of another label, or name another column: --task COLUMN",
            column=column,
        )
    if all(map(_is_number, kept)):
        raise ReadError(
            path,
            f"the labels are numbers ({_some(sorted(kept))}), which tell nobody what an answer means; "
            f"name them: --map {min(kept)}=NAME and so on, or name a column of words: --task COLUMN",
            column=column,
        )
    return Question(name, rule, kept, rare, known)


def _check_known(
    path: str, name: str, rule: LabelRule, counts: Counter[str], known: Sequence[str]
) -> None:
    column = rule.column
    share = sum(n for label, n in counts.items() if label in known) / counts.total()
    if share < KNOWN_SHARE:
        strange = sorted(set(counts) - set(known))
        alike = {label: other for label in strange if (other := closest_label(label, known))}
        maps = _maps(dict(list(alike.items())[:8]), rule)
        raise LabelError(
            f"{path}, column {column!r}: the model has a task {name!r}, which knows the labels of "
            f"{share:.0%} of these articles; it does not know {_some(strange)}. If this is another "
            f"question, give it a name of its own: --task NAME={column}; if it is the same, "
            f"--task {name}={column} extends the task, and --map theirs=ours says what is called "
            f"otherwise{maps and f' (perhaps {maps})'}"
        )


def _check_spelling(
    path: str, name: str, rule: LabelRule, counts: Counter[str], known: Sequence[str]
) -> None:
    """Raise LabelError if new labels differ from known ones in case or spaces only."""
    plain = {plain_label(other): other for other in known}
    other = {
        label: plain[plain_label(label)]
        for label in sorted(set(counts) - set(known))
        if plain_label(label) in plain
    }
    if other:
        raise LabelError(
            f"{path}, column {rule.column!r}: {_some(list(other))} would be new labels of the task "
            f"{name!r}, which knows {_some(list(other.values()))}; say that they are the same: "
            f"{_maps(other, rule)}"
        )


def _maps(same: Mapping[str, str], rule: LabelRule) -> str:
    """Return the `--map` options that rename labels, including labels that are already mapped to them."""
    merged = {theirs: same[ours] for theirs, ours in rule.merge.items() if ours in same}
    own = {label: ours for label, ours in same.items() if label not in rule.merge.values()}
    return " ".join(f"--map {shlex.quote(f'{a}={b}')}" for a, b in {**own, **merged}.items())


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _some(labels: Sequence[str], count: int = 8) -> str:
    more = f" and {len(labels) - count:,} more" if len(labels) > count else ""
    return ", ".join(map(repr, labels[:count])) + more
