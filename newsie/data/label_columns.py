"""Detection of the columns that hold labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from newsie.data.columns import find_column
from newsie.data.formats import is_stream, open_records
from newsie.data.readers import MAX_FIELD_CHARS, ArticleReader
from newsie.data.records import BadRow
from newsie.errors import LabelError, ReadError
from newsie.labels import LabelRule, check_task_names

__all__ = ["LABEL_COLUMNS", "find_rules", "no_column", "open_twice"]

GUESS_ROWS, GUESS_LABELS = 1_000, 60
"""Rows that are read to guess label columns, and the most distinct values of one."""

LABEL_COLUMNS = (
    *("label", "category", "section", "topic", "desk", "class", "tag", "ressort"),
    *(
        "section_name",
        "news_desk",
        "article_section",
        "news_category",
        "kategorie",
        "rubrik",
        "rubrique",
    ),
)
"""The usual names of label columns, which are used if no column is given."""


def find_rules(
    path: str | Path,
    asked: Sequence[str] | None,
    known: Mapping[str, LabelRule] | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, LabelRule]:
    """Return the tasks of a file: the given ones, or else all that have a column with a usual name.

    Args:
        path: the file.
        asked: label columns, each as COLUMN or TASK=COLUMN; None means to find them.
        known: the tasks of the running student; their columns, and columns with their names, count too.
        columns: field of the article -> column.

    Raises:
        LabelError: a task name is not valid.
        ReadError: a given column does not exist, or no label column is found.
    """
    reader = open_twice(path, columns)
    if asked:
        return _asked_rules(reader, asked)
    known = known or {}
    tasks = {rule.column: task for task, rule in known.items() if not rule.where}
    taken = set(reader.columns.chosen().values())
    rules: dict[str, LabelRule] = {}
    for name in (*(rule.column for rule in known.values()), *known, *LABEL_COLUMNS):
        column = find_column(reader.column_names, name)
        if column is not None and column not in taken:
            taken.add(column)
            rules[tasks.get(name) or _task_name(column)] = LabelRule(column)
    if not rules:
        raise ReadError(path, f"no column of labels is found; {_describe_columns(reader)}")
    return rules


def open_twice(
    path: str | Path,
    columns: Mapping[str, str] | None,
    rules: Mapping[str, LabelRule] | None = None,
) -> ArticleReader:
    if is_stream(path):
        name = "stdin" if str(path) == "-" else path
        raise ReadError(
            name, "is read more than once here, and a pipe cannot be; save it and name it"
        )
    return ArticleReader(path, columns=columns, rules=rules)


def _asked_rules(reader: ArticleReader, asked: Sequence[str]) -> dict[str, LabelRule]:
    rules: dict[str, LabelRule] = {}
    for item in asked:
        name, equals, column = item.partition("=")
        column = column if equals else name
        found = find_column(reader.column_names, column)
        if found is None:
            raise no_column(reader, name, column)
        task = name if equals else _task_name(found)
        if task in rules:
            raise LabelError(f"--task names {task!r} twice; each task has one column of labels")
        rules[task] = LabelRule(found)
    check_task_names(list(rules))
    return rules


def _task_name(column: str) -> str:
    """Return a valid task name for a column: "Section Name" -> "section_name"."""
    name = re.sub(r"[^a-z0-9]+", "_", column.casefold()).strip("_")
    return name if re.match("[a-z]", name) else f"label_{name}".rstrip("_")


def no_column(reader: ArticleReader, task: str, column: str) -> ReadError:
    return ReadError(
        reader.path,
        f"there is no column {column!r} for the task {task!r}; {_describe_columns(reader)}",
    )


def _describe_columns(reader: ArticleReader) -> str:
    names = ", ".join(reader.column_names)
    guesses = _guess_columns(reader)
    example = next(iter(guesses), "COLUMN")
    hint = ""
    if guesses:
        shown = ", ".join(f"{column!r} ({n} different values)" for column, n in guesses.items())
        hint = f" Of these, {shown} could be labels."
    return f"its columns: {names}.{hint} Say which one it is: --task {example!r}"


def _guess_columns(reader: ArticleReader) -> dict[str, int]:
    """Return column -> number of distinct values in the first rows, for columns that may be labels."""
    taken = set(reader.columns.chosen().values())
    names = [name for name in reader.column_names if name not in taken]
    records = open_records(reader.path, max_field_chars=MAX_FIELD_CHARS)
    rows = [
        record.content
        for record in islice(records.read(names), GUESS_ROWS)
        if not isinstance(record.content, BadRow)
    ]
    found = {}
    for name in names:
        values = Counter(row.get(name, "").strip() for row in rows)
        values.pop("", None)
        if 2 <= len(values) <= GUESS_LABELS and len(values) <= values.total() / 3:
            found[name] = len(values)
    return found
