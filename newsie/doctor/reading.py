"""Reading a file as training does: the articles, their row numbers, the label columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from newsie.data.articles import Article
from newsie.data.cleaning import clean_text, learn_site_suffixes, strip_site_suffix
from newsie.data.columns import Columns, find_column
from newsie.data.encoding import view_text
from newsie.data.formats import is_stream, open_records
from newsie.data.readers import MAX_FIELD_CHARS, ArticleReader, Problems
from newsie.data.records import BadRow
from newsie.errors import LabelError, ReadError
from newsie.labels import LabelRule, check_task_names

__all__ = ["LABEL_COLUMNS", "NewsFile", "find_rules", "read_file"]

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

GUESS_ROWS, GUESS_LABELS = 1_000, 60


@dataclass(frozen=True)
class NewsFile:
    """The usable articles of a file, with their row numbers.

    Attributes:
        path: the file.
        columns: the chosen columns.
        rules: task -> source of its labels.
        rows: number of rows read.
        problems: the rows that cannot be used.
        articles: N articles.
        numbers: N row numbers, 1-based; a header is not counted.
    """

    path: str
    columns: Columns
    rules: Mapping[str, LabelRule]
    rows: int
    problems: Problems
    articles: Sequence[Article]
    numbers: Sequence[int]

    @cached_property
    def site_suffixes(self) -> tuple[str, ...]:
        """The site names at the end of headlines, as training learns and removes them."""
        return learn_site_suffixes(
            [article.headline for article in self.articles],
            [article.publisher for article in self.articles],
        )

    @cached_property
    def headlines(self) -> list[str]:
        """The N headlines, cleaned, without site names."""
        suffixes = frozenset(self.site_suffixes)
        return [strip_site_suffix(clean_text(a.headline), suffixes) for a in self.articles]

    @cached_property
    def texts(self) -> list[str]:
        """The N texts, as models read them."""
        suffixes = frozenset(self.site_suffixes)
        return [view_text(article, "full", suffixes) for article in self.articles]

    def labels(self, task: str) -> list[str | None]:
        """Return the N labels of a task, with None for missing ones."""
        return [article.labels.get(task) for article in self.articles]

    def counts(self, task: str) -> dict[str, int]:
        """Return label -> number of articles, most frequent first."""
        found = Counter(label for label in self.labels(task) if label is not None)
        return dict(found.most_common())


def read_file(
    path: str | Path,
    rules: Mapping[str, LabelRule],
    columns: Mapping[str, str] | None = None,
) -> NewsFile:
    """Read all articles of a file.

    Raises:
        ReadError: the file cannot be read, has no usable row, or lacks a column.
    """
    reader = _open(path, columns, rules)
    articles, numbers = [], []
    for article in reader:
        articles.append(article)
        numbers.append(reader.number)
    for task, column in reader.missing_rules.items():
        raise _no_column(reader, task, column)
    if not articles:
        problem = reader.problems.summary()
        raise ReadError(path, f"no row of it can be used as an article. {problem}".strip())
    return NewsFile(
        reader.path,
        reader.columns,
        dict(rules),
        reader.rows,
        reader.problems,
        articles,
        numbers,
    )


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
    reader = _open(path, columns)
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


def _open(
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
            raise _no_column(reader, name, column)
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


def _no_column(reader: ArticleReader, task: str, column: str) -> ReadError:
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
