"""Articles out of files: the same reader for training and for classifying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from newsie.data.articles import Article
from newsie.data.cleaning import clean_text
from newsie.data.columns import Columns, find_column, find_columns
from newsie.data.records import BadRow, open_records
from newsie.errors import ReadError
from newsie.labels import LabelRule

__all__ = ["ArticleReader", "Problem", "Problems", "read_articles"]

MAX_FIELD_CHARS = 10_000_000
MAX_EXAMPLES = 10
_CHECKED_CHARS = 4096


@dataclass(frozen=True)
class Problem:
    """A row that was skipped: where, and why."""

    path: str
    row: int
    column: str | None
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return str(self.error())

    def error(self) -> ReadError:
        """The same as an error."""
        reason = f"{self.reason} ({self.detail})" if self.detail else self.reason
        return ReadError(self.path, reason, row=self.row, column=self.column)


@dataclass
class Problems:
    """The rows that were skipped.

    Attributes:
        counts: number of rows by reason.
        examples: the first of them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, problem: Problem) -> None:
        """Count a row; the first few are kept as examples."""
        self.counts[problem.reason] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(problem)

    def summary(self) -> str:
        """What was skipped, to show: a line for each reason, then examples. Empty if nothing."""
        if not self.counts:
            return ""
        lines = [f"{len(self):,} rows skipped:"]
        lines += [f"  {count:,} x {reason}" for reason, count in self.counts.most_common()]
        lines += [f"  e.g. {problem}" for problem in self.examples[:3]]
        return "\n".join(lines)


class ArticleReader:
    """Articles of a file, one after the other; each iteration starts at the first row again.

    Formats: .csv, .tsv, .json, .jsonl, .ndjson, .txt (a headline a line), these also with .gz
    and .zst; .parquet, .arrow, .feather; a folder with a folder of .txt files for each label
    (column "label"); `hub:owner/name[:split]`; "-" or a stream: JSON Lines or a headline a line,
    read once.

    A row that cannot be used is skipped and counted in `problems`: rows == articles + problems.

    Args:
        source: path, "hub:...", "-" or an open stream.
        columns: field of the article -> column, where the names do not tell.
        rules: task -> where its gold labels come from.
        strict: raise ReadError at the first row that cannot be used, instead of skipping it.
        max_field_chars: a row with a longer field is not used.

    Attributes:
        columns: the columns chosen.
        column_names: all columns of the source.
        rows: number of rows read so far.
        problems: the rows that were skipped.
        label_counts: task -> number of articles with a label so far.

    Raises:
        ReadError: the source cannot be read, or has no text column; with the row and column where
            there is one.
        MissingExtraError: the format needs a package that is not installed.
    """

    def __init__(
        self,
        source: str | Path | IO[Any],
        *,
        columns: Mapping[str, str] | None = None,
        rules: Mapping[str, LabelRule] | None = None,
        strict: bool = False,
        max_field_chars: int = MAX_FIELD_CHARS,
    ) -> None:
        self.path = str(source) if isinstance(source, str | Path) else "stdin"
        self.strict, self.max_field_chars = strict, max_field_chars
        self._records = open_records(source, max_field_chars=max_field_chars)
        self.column_names = self._records.columns
        self.columns: Columns = find_columns(self.column_names, columns, path=self.path)
        self._rules = dict(rules or {})
        self._aliases = self._find_aliases()
        self.rows = 0
        self.problems = Problems()
        self.label_counts: Counter[str] = Counter()

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
        """Task -> the column of its rule, where no row so far gave a label though it is there."""
        missing = self.missing_rules
        return {
            task: rule.column
            for task, rule in self._rules.items()
            if task not in missing and self.rows and not self.label_counts[task]
        }

    def __iter__(self) -> Iterator[Article]:
        self.rows, self.problems, self.label_counts = 0, Problems(), Counter()
        wanted = dict.fromkeys((*self.columns.chosen().values(), *self._aliases.values()))
        for number, row in self._records.read(tuple(wanted)):
            self.rows += 1
            bad = row if isinstance(row, BadRow) else self._check(row)
            if bad is not None:
                problem = Problem(self.path, number, bad.column, bad.reason, bad.detail)
                if self.strict:
                    raise problem.error()
                self.problems.add(problem)
            else:
                assert not isinstance(row, BadRow)
                yield self._article(row)

    def _find_aliases(self) -> dict[str, str]:
        """Column as a rule names it -> column of the source, for the rules' columns."""
        named = {c for rule in self._rules.values() for c in (*rule.where, rule.column)}
        found = {name: find_column(self.column_names, name) for name in sorted(named)}
        return {name: column for name, column in found.items() if column is not None}

    def _check(self, row: dict[str, str]) -> BadRow | None:
        for column, value in row.items():
            if len(value) > self.max_field_chars:
                size = f"{len(value):,} characters, at most {self.max_field_chars:,}"
                return BadRow("field too long", size, column)
        texts = [row.get(c, "") for c in (self.columns.headline, self.columns.body) if c]
        if not any(_has_text(text) for text in texts):
            return BadRow("no text")
        return None

    def _article(self, row: dict[str, str]) -> Article:
        chosen = {name: row.get(column, "") for name, column in self.columns.chosen().items()}
        return Article(
            headline=chosen.get("headline", ""),
            body=chosen.get("body", ""),
            id=chosen.get("id", ""),
            publisher=chosen.get("publisher", ""),
            published=chosen.get("published") or None,
            url=chosen.get("url", ""),
            labels=self._labels(row),
        )

    def _labels(self, row: dict[str, str]) -> dict[str, str]:
        if not self._rules:
            return {}
        named = {name: row.get(column, "") for name, column in self._aliases.items()}
        labels = {}
        for task, rule in self._rules.items():
            label = rule.label(named)
            if label is not None:
                labels[task] = label
                self.label_counts[task] += 1
        return labels


def _has_text(text: str) -> bool:
    """Whether anything is left when the text is cleaned."""
    return bool(text) and bool(clean_text(text[:_CHECKED_CHARS]) or clean_text(text))


def read_articles(
    source: str | Path | IO[Any],
    *,
    columns: Mapping[str, str] | None = None,
    rules: Mapping[str, LabelRule] | None = None,
    strict: bool = False,
) -> list[Article]:
    """All articles of a source; see `ArticleReader`, which also tells which rows were skipped."""
    return list(ArticleReader(source, columns=columns, rules=rules, strict=strict))
