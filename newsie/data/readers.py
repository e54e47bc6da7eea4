"""Reading articles from files. Training and classifying use the same reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from newsie.data.articles import Article
from newsie.data.cleaning import clean_start
from newsie.data.columns import (
    MAX_COLUMNS,
    Columns,
    Names,
    check_width,
    count_known,
    find_alternatives,
    find_column,
    find_columns,
)
from newsie.data.formats import is_stream, open_records
from newsie.data.nested import NestedError, label_of, text_of
from newsie.data.problems import Problem, Problems
from newsie.data.records import BadRow, RecodedRow, Row
from newsie.errors import InputError
from newsie.labels import LabelRule

__all__ = ["ArticleReader", "Problem", "Problems", "read_articles"]

MAX_FIELD_CHARS = 10_000_000
SHOWN_COLUMNS = 5

MISSING = frozenset(
    {
        *(
            "",
            "#N/A",
            "#N/A N/A",
            "#NA",
            "-1.#IND",
            "-1.#QNAN",
            "-NaN",
            "-nan",
            "1.#IND",
            "1.#QNAN",
        ),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
"""The cells that count as empty, as in pandas' `read_csv`."""

_LONGEST_MISSING = max(map(len, MISSING))
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
"""The characters that cleaning never removes from the start of a text."""

_TOO_MANY_COLUMNS = f"row with columns beyond the first {MAX_COLUMNS:,}, which are not read"
_MARKED_EMPTY = "cell read as empty: it holds a mark such as NaN, null or N/A"


class ArticleReader:
    """An iterable of the articles of a source. Each iteration starts at the first row.

    Formats: .csv, .tsv, .json, .jsonl, .ndjson, .txt (one headline per line), also with .gz and
    .zst; .parquet, .arrow, .feather; a folder with one folder of .txt files per label (column
    "label"); `hub:owner/name[:split]`; "-", a pipe or an open stream, which is read once and whose
    format is detected from its content.

    A row that cannot be used is skipped and counted: rows == articles + len(problems). If the
    column of a field is empty, the next one with a usual name is read (see `find_alternatives`).

    Args:
        source: path, "hub:...", "-" or an open stream of bytes or text.
        columns: field of the article -> column, for columns without a usual name; only that one is read.
        fields: the fields of the article to read, the others are left empty; None means all.
        rules: task -> source of its gold labels.
        strict: raise ReadError at the first row that cannot be used, instead of skipping it.
        max_field_chars: rows with a longer field are skipped.
        name: the name of a stream, for messages and, by its ending, for the format ("upload.csv").
        max_bytes: the most bytes that a stream may hold, decompressed; None means no limit.

    Attributes:
        columns: the columns chosen.
        alternatives: field -> the columns that are read if the chosen one is empty.
        column_names: all columns of the source; for JSON, those of the rows read so far.
        rows: number of rows read so far.
        number: 1-based number of the row of the last article.
        problems: the rows that were skipped so far, and those that were read in an unusual way.
        cut_off: the place where the source is damaged or ends early, after which nothing was read; None
            if it was read to its end.
        label_counts: task -> number of articles with a label so far.

    Raises:
        ReadError: the source cannot be read, or has no column with text.
        MissingExtraError: the format needs a package that is not installed.
    """

    def __init__(
        self,
        source: str | Path | IO[Any],
        *,
        columns: Mapping[str, str] | None = None,
        fields: Collection[str] | None = None,
        rules: Mapping[str, LabelRule] | None = None,
        strict: bool = False,
        max_field_chars: int = MAX_FIELD_CHARS,
        name: str | None = None,
        max_bytes: int | None = None,
    ) -> None:
        is_path = isinstance(source, str | Path) and str(source) != "-"
        self.path = str(source) if is_path else name or "stdin"
        self._again = isinstance(source, str | Path) and not is_stream(source)
        self._rules = dict(rules or {})
        self._named = sorted({c for r in self._rules.values() for c in (*r.where, r.column)})
        self._fixed = dict(columns or {})
        self._records = open_records(
            source,
            max_field_chars=max_field_chars,
            name=name,
            known=self._fixed.values(),
            max_bytes=max_bytes,
        )
        self.strict, self.max_field_chars = strict, max_field_chars
        check_width(self._records.columns, self.path)
        self._names = Names(self._records.columns)
        self._only = fields
        self.columns = self._find_columns(columns)
        self._choose()
        self._reset()

    def _reset(self) -> None:
        self.rows = self.number = 0
        if self._records.notes is not None:
            self._records.notes.clear()
            self.problems = Problems(notes=self._records.notes)
        else:
            self.problems = Problems()
        self.cut_off: Problem | None = None
        self.label_counts: Counter[str] = Counter()

    @property
    def column_names(self) -> list[str]:
        """All columns of the source; for JSON, those of the rows read so far."""
        return list(self._names)

    @property
    def share(self) -> float | None:
        """The share of the source read so far, from 0 to 1, or None if unknown."""
        return None if self._records.share is None else self._records.share()

    @property
    def missing_rules(self) -> dict[str, str]:
        """The missing columns: task -> column, for each rule whose column this source does not have."""
        return {
            task: column
            for task, rule in self._rules.items()
            for column in (*rule.where, rule.column)
            if find_column(self._names, column) is None
        }

    @property
    def empty_rules(self) -> dict[str, str]:
        """The rules without labels: task -> column, for each column that gave no label in the rows so far."""
        missing = self.missing_rules
        return {
            task: rule.column
            for task, rule in self._rules.items()
            if task not in missing and self.rows and not self.label_counts[task]
        }

    def __iter__(self) -> Iterator[Article]:
        if self.rows and not self._again:
            raise InputError(f"{self.path} can be read only once; keep the articles in a list")
        self._reset()
        for number, row in self._records.read(self._wanted):
            self.rows += 1
            article = row if isinstance(row, BadRow) else self._article(row)
            if isinstance(article, Article):
                self.problems.recoded += isinstance(row, RecodedRow)
                self.number = number
                yield article
                continue
            bad = article
            problem = Problem(self.path, number, bad.column, bad.reason, bad.detail)
            self.cut_off = problem if bad.last else None
            if self.strict:
                raise problem.error()
            self.problems.add(problem)

    def describe_columns(self) -> str:
        """Describe the columns that are read, those of gold labels included. If there is no headline or no
        body, also list the columns that may contain it."""
        others = [
            f"{', '.join(map(repr, names))} where {self._fields[field]!r} is empty"
            for field, names in self.alternatives.items()
        ]
        gold = [
            f"{task} <- {self._rule_columns[rule.column]!r}"
            for task, rule in self._rules.items()
            if rule.column in self._rule_columns
        ]
        labels = [f"gold labels: {', '.join(gold)}"] if gold else []
        chosen = "; ".join([self.columns.describe(), *others, *labels])
        found = find_columns(self._names, self._fields, path=self.path).chosen().values()
        taken = {*self._wanted, *found}
        left = [repr(name) for name in self._names if name not in taken]
        if not left or (self.columns.headline and self.columns.body):
            return chosen
        missing = "headline" if self.columns.headline is None else "body"
        more = ", ..." if len(left) > SHOWN_COLUMNS else ""
        return f"{chosen}; no {missing} among: {', '.join(left[:SHOWN_COLUMNS])}{more}"

    def _find_columns(self, overrides: Mapping[str, str] | None) -> Columns:
        """Return the columns of the fields that are read."""
        found = find_columns(self._names, overrides, path=self.path)
        if self._only is None:
            return found
        return replace(found, **{name: None for name in found.chosen() if name not in self._only})

    def _choose(self) -> None:
        """Choose the columns to read, for the fields and for the rules."""
        self._fields = self.columns.chosen()
        found = {name: find_column(self._names, name) for name in self._named}
        self._rule_columns = {name: column for name, column in found.items() if column is not None}
        others = find_alternatives(self._names, self.columns, self._fixed)
        self.alternatives = {field: names for field, names in others.items() if names}
        self._chains = {
            field: (column, *others.get(field, ())) for field, column in self._fields.items()
        }
        read = (column for chain in self._chains.values() for column in chain)
        self._wanted = tuple(dict.fromkeys((*read, *self._rule_columns.values())))

    def _add_columns(self, row: Row) -> None:
        """Add columns that the first rows of a JSON source did not have."""
        unknown = [name for name in row if name not in self._names]
        new = Names(unknown[: MAX_COLUMNS - len(self._names)])
        if len(new) < len(unknown):
            self.problems.notes[_TOO_MANY_COLUMNS] += 1
        self._names.add(new)
        if count_known(new) or any(find_column(new, name) is not None for name in self._named):
            self.columns = self._find_columns(self._fields)
            self._choose()

    def _article(self, row: Row) -> Article | BadRow:
        """Return the article of a row, or the reason that it cannot be used."""
        if not self._names.cover(row):
            self._add_columns(row)
        try:
            values = {field: self._value(row, field) for field in self._chains}
            labels = self._labels(row) if self._rules else {}
        except _UnusableCellError as error:
            return error.bad
        headline, body = values.get("headline", ""), values.get("body", "")
        if not (_has_text(headline) or _has_text(body)):
            return BadRow("no text")
        for task in labels:
            self.label_counts[task] += 1
        return Article(
            headline=headline,
            body=body,
            id=values.get("id", ""),
            publisher=values.get("publisher", ""),
            published=values.get("published") or None,
            url=values.get("url", ""),
            labels=labels,
        )

    def _value(self, row: Row, field: str) -> str:
        """Return the text of a field, from the first of its columns that is not empty."""
        chain = self._chains[field]
        text = row.get(chain[0], "")
        if text[:1] in _PLAIN and (len(text) > _LONGEST_MISSING or text not in MISSING):
            usual = len(text) <= self.max_field_chars and type(text) is str
            return text if usual else self._cell(row, chain[0], field)
        if field == "id" or not (text or chain[1:]):
            return self._cell(row, chain[0], field)
        for column in filter(row.__contains__, chain):
            value = self._cell(row, column, field)
            if _is_missing(value):
                if value.strip():
                    self.problems.notes[_MARKED_EMPTY] += 1
            elif field not in _TEXT_FIELDS or _has_text(value):
                if column != chain[0]:
                    self.problems.notes[f"{chain[0]!r} is empty: the {field} is {column!r}"] += 1
                return value
        text = self._cell(row, chain[0], field)
        return "" if _is_missing(text) else text

    def _cell(self, row: Row, column: str, field: str) -> str:
        """Return the text of a cell, unless it is too long."""
        cell = row.get(column, "")
        if len(cell) > self.max_field_chars:
            detail = f"{len(cell):,} characters, at most {self.max_field_chars:,}"
            raise _UnusableCellError(BadRow("field too long", detail, column))
        try:
            return text_of(cell)
        except NestedError as error:
            if field not in _TEXT_FIELDS:  # models do not read it
                return str(cell)
            raise _UnusableCellError(BadRow(error.reason, error.detail, column)) from None

    def _labels(self, row: Row) -> dict[str, str]:
        cells = {}
        for name, column in self._rule_columns.items():
            cell = row.get(column, "")
            if len(cell) > self.max_field_chars:
                detail = f"{len(cell):,} characters, at most {self.max_field_chars:,}"
                raise _UnusableCellError(BadRow("field too long", detail, column))
            try:
                cells[name] = cell if type(cell) is str else label_of(cell)
            except NestedError as error:
                raise _UnusableCellError(BadRow(error.reason, error.detail, column)) from None
        labels = {task: rule.label(cells) for task, rule in self._rules.items()}
        return {task: label for task, label in labels.items() if label is not None}


_TEXT_FIELDS = frozenset({"headline", "body"})


class _UnusableCellError(Exception):
    """An error for a cell that causes its row to be skipped."""

    def __init__(self, bad: BadRow) -> None:
        super().__init__(str(bad))
        self.bad = bad


def _is_missing(text: str) -> bool:
    return len(text) < 100 and text.strip() in MISSING


def _has_text(text: str) -> bool:
    """Return True if a text is not empty after cleaning."""
    return bool(text) and (text[0] in _PLAIN or bool(clean_start(text, 1)))


def read_articles(
    source: str | Path | IO[Any],
    *,
    columns: Mapping[str, str] | None = None,
    rules: Mapping[str, LabelRule] | None = None,
    strict: bool = False,
) -> list[Article]:
    """Return all articles of a source. Use `ArticleReader` to find out which rows were skipped."""
    return list(ArticleReader(source, columns=columns, rules=rules, strict=strict))
