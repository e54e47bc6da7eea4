"""Articles out of files: the same reader for training and for classifying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import IO, Any

from newsie.data.articles import Article
from newsie.data.cleaning import clean_start
from newsie.data.columns import ALIASES, Columns, find_column, find_columns
from newsie.data.formats import open_records
from newsie.data.records import BadRow, RecodedRow, Row
from newsie.errors import InputError, ReadError
from newsie.labels import LabelRule

__all__ = ["ArticleReader", "Problem", "Problems", "read_articles"]

MAX_FIELD_CHARS = 10_000_000
MAX_EXAMPLES = 10
SHOWN_COLUMNS = 5


@dataclass(frozen=True)
class Problem:
    """A row that was skipped: where, and why.

    Attributes:
        path: the file.
        row: 1-based number of the row; a header is not counted.
        column: the column at fault, or None for the whole row.
        reason: why, in a few fixed words.
        detail: what is special about this row.
    """

    path: str
    row: int
    column: str | None
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return str(self.error())

    def error(self) -> ReadError:
        """The problem as an error to raise."""
        reason = f"{self.reason} ({self.detail})" if self.detail else self.reason
        return ReadError(self.path, reason, row=self.row, column=self.column)


@dataclass
class Problems:
    """The rows that were skipped.

    Attributes:
        counts: number of rows by reason.
        examples: the first few of each reason.
        recoded: number of rows that are not UTF-8 and were read as Windows-1252, not skipped.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[Problem] = field(default_factory=list)
    recoded: int = 0

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, problem: Problem) -> None:
        """Count a row; the first few of each reason are kept as examples."""
        self.counts[problem.reason] += 1
        if self.counts[problem.reason] <= MAX_EXAMPLES:
            self.examples.append(problem)

    def summary(self, examples: int = 2) -> str:
        """What was skipped or read anew, to show: a line for each reason with examples; empty if
        nothing."""
        lines = []
        if self.recoded:
            lines.append(
                f"{self.recoded:,} {'row is' if self.recoded == 1 else 'rows are'} not UTF-8, read "
                "as Windows-1252; if letters come out wrong, save the file as UTF-8"
            )
        if self.counts:
            lines.append(f"{len(self):,} {'row' if len(self) == 1 else 'rows'} skipped:")
        for reason, count in self.counts.most_common():
            lines.append(f"  {count:,} × {reason}")
            same = (problem for problem in self.examples if problem.reason == reason)
            lines += [f"    {problem}" for problem, _ in zip(same, range(examples), strict=False)]
        return "\n".join(lines)


class ArticleReader:
    """Articles of a source, one after the other; each iteration starts at the first row again.

    Formats: .csv, .tsv, .json, .jsonl, .ndjson, .txt (a headline a line), these also with .gz
    and .zst; .parquet, .arrow, .feather; a folder with a folder of .txt files for each label
    (column "label"); `hub:owner/name[:split]`; "-" or an open stream: JSON Lines or a headline a
    line, read once.

    A row that cannot be used is skipped and counted: rows == articles + len(problems).

    Args:
        source: path, "hub:...", "-" or an open stream.
        columns: field of the article -> column, where the names do not tell.
        fields: the fields of the article that are read, the others are left empty; None means all.
        rules: task -> where its gold labels come from.
        strict: raise ReadError at the first row that cannot be used, instead of skipping it.
        max_field_chars: a row with a longer field is not used.

    Attributes:
        columns: the columns chosen.
        column_names: all columns of the source.
        rows: number of rows read so far.
        number: 1-based number of the row of the last article.
        problems: the rows that were skipped so far.
        cut_off: the place where the source turned out to be damaged or to end early, so that nothing
            behind it was read; None where it was read to its end.
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
    ) -> None:
        is_path = isinstance(source, str | Path) and str(source) != "-"
        self.path = str(source) if is_path else "stdin"
        self._records = open_records(source, max_field_chars=max_field_chars)
        self._again = is_path
        self.strict, self.max_field_chars = strict, max_field_chars
        self._rules = dict(rules or {})
        self._named = sorted({c for r in self._rules.values() for c in (*r.where, r.column)})
        self.column_names = list(self._records.columns)
        self._known = set(self.column_names)
        self._only = fields
        self.columns = self._find_columns(columns)
        self._choose()
        self._reset()

    def _reset(self) -> None:
        self.rows = self.number = 0
        self.problems = Problems()
        self.cut_off: Problem | None = None
        self.label_counts: Counter[str] = Counter()

    @property
    def share(self) -> float | None:
        """The share of the source that was read so far, from 0 to 1; None where not known."""
        return None if self._records.share is None else self._records.share()

    @property
    def missing_rules(self) -> dict[str, str]:
        """Task -> the column that its rule needs and that this source does not have."""
        return {
            task: column
            for task, rule in self._rules.items()
            for column in (*rule.where, rule.column)
            if find_column(self.column_names, column) is None
        }

    @property
    def empty_rules(self) -> dict[str, str]:
        """Task -> the column of its rule, where it is there but no row so far gave a label."""
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
            bad = row if isinstance(row, BadRow) else self._check(row)
            if bad is None:
                assert not isinstance(row, BadRow)
                self.problems.recoded += isinstance(row, RecodedRow)
                self.number = number
                yield self._article(row)
                continue
            problem = Problem(self.path, number, bad.column, bad.reason, bad.detail)
            self.cut_off = problem if bad.last else None
            if self.strict:
                raise problem.error()
            self.problems.add(problem)

    def describe_columns(self) -> str:
        """Which columns are read; where there is no headline or no body, also those that may hold it."""
        chosen = self.columns.describe()
        found = find_columns(self.column_names, self._fields, path=self.path).chosen().values()
        taken = {*self._wanted, *found}
        left = [repr(name) for name in self.column_names if name not in taken]
        if not left or (self.columns.headline and self.columns.body):
            return chosen
        missing = "headline" if self.columns.headline is None else "body"
        more = ", ..." if len(left) > SHOWN_COLUMNS else ""
        return f"{chosen}; no {missing} among: {', '.join(left[:SHOWN_COLUMNS])}{more}"

    def _find_columns(self, overrides: Mapping[str, str] | None) -> Columns:
        """The columns of the fields that are read."""
        found = find_columns(self.column_names, overrides, path=self.path)
        if self._only is None:
            return found
        return replace(found, **{name: None for name in found.chosen() if name not in self._only})

    def _choose(self) -> None:
        """Settle which columns are read, for the fields and for the rules."""
        self._fields = self.columns.chosen()
        found = {name: find_column(self.column_names, name) for name in self._named}
        self._rule_columns = {name: column for name, column in found.items() if column is not None}
        used = dict.fromkeys((*self._fields.values(), *self._rule_columns.values()))
        self._wanted = tuple(used)

    def _add_columns(self, row: Row) -> None:
        """Take in columns that the first rows of a JSON source did not have."""
        new = [name for name in row if name not in self._known]
        self.column_names += new
        self._known.update(new)
        useful = (*chain.from_iterable(ALIASES.values()), *self._named)
        if any(find_column(new, name) is not None for name in useful):
            self.columns = self._find_columns(self._fields)
            self._choose()

    def _check(self, row: Row) -> BadRow | None:
        if not self._known.issuperset(row):
            self._add_columns(row)
        for column in self._wanted:
            size = len(row.get(column, ""))
            if size > self.max_field_chars:
                detail = f"{size:,} characters, at most {self.max_field_chars:,}"
                return BadRow("field too long", detail, column)
        # Only columns that were chosen: a file may well have one without a name.
        texts = (self._fields[name] for name in ("headline", "body") if name in self._fields)
        return None if any(_has_text(row.get(c, "")) for c in texts) else BadRow("no text")

    def _article(self, row: Row) -> Article:
        value = {name: row.get(column, "") for name, column in self._fields.items()}
        return Article(
            headline=value.get("headline", ""),
            body=value.get("body", ""),
            id=value.get("id", ""),
            publisher=value.get("publisher", ""),
            published=value.get("published") or None,
            url=value.get("url", ""),
            labels=self._labels(row) if self._rules else {},
        )

    def _labels(self, row: Row) -> dict[str, str]:
        named = {name: row.get(column, "") for name, column in self._rule_columns.items()}
        labels = {}
        for task, rule in self._rules.items():
            label = rule.label(named)
            if label is not None:
                labels[task] = label
                self.label_counts[task] += 1
        return labels


def _has_text(text: str) -> bool:
    """Whether anything is left of a text once it is cleaned."""
    return bool(text) and bool(clean_start(text, 1))


def read_articles(
    source: str | Path | IO[Any],
    *,
    columns: Mapping[str, str] | None = None,
    rules: Mapping[str, LabelRule] | None = None,
    strict: bool = False,
) -> list[Article]:
    """All articles of a source; see `ArticleReader`, which also tells which rows were skipped."""
    return list(ArticleReader(source, columns=columns, rules=rules, strict=strict))
