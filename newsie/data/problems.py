"""Records of the rows of a source that were skipped, or were read despite being unusual."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from newsie.errors import ReadError

__all__ = ["MAX_EXAMPLES", "Problem", "Problems"]

MAX_EXAMPLES = 10


@dataclass(frozen=True)
class Problem:
    """A skipped row, with the place and the reason.

    Attributes:
        path: the file.
        row: 1-based number of the row; a header is not counted.
        column: the column at fault, or None for the whole row.
        reason: the reason, in a few fixed words.
        detail: the particulars of this row.
    """

    path: str
    row: int
    column: str | None
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return str(self.error())

    def error(self) -> ReadError:
        """Return the problem as an error to raise."""
        reason = f"{self.reason} ({self.detail})" if self.detail else self.reason
        return ReadError(self.path, reason, row=self.row, column=self.column)


@dataclass
class Problems:
    """The rows that were skipped, and notes about others.

    Attributes:
        counts: number of rows by reason.
        examples: the first few of each reason.
        recoded: number of rows that are not UTF-8 and were read as Windows-1252, not skipped.
        notes: number of rows, cells or files by the unusual way in which they were read; these are
            not skipped.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[Problem] = field(default_factory=list)
    recoded: int = 0
    notes: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, problem: Problem) -> None:
        """Count a row. The first few rows for each reason are kept as examples."""
        self.counts[problem.reason] += 1
        if self.counts[problem.reason] <= MAX_EXAMPLES:
            self.examples.append(problem)

    def summary(self, examples: int = 2) -> str:
        """Return lines that describe the skipped rows, with examples, and the rows read in an unusual way.
        Return an empty string if there are none."""
        lines = []
        if self.recoded:
            lines.append(
                f"{self.recoded:,} {'row is' if self.recoded == 1 else 'rows are'} not UTF-8, read "
                "as Windows-1252; if letters come out wrong, save the file as UTF-8"
            )
        if self.notes:
            lines.append("read, but not quite as it stands:")
            lines += [f"  {count:,} × {reason}" for reason, count in self.notes.most_common()]
        if self.counts:
            lines.append(f"{len(self):,} {'row' if len(self) == 1 else 'rows'} skipped:")
        for reason, count in self.counts.most_common():
            lines.append(f"  {count:,} × {reason}")
            same = (problem for problem in self.examples if problem.reason == reason)
            lines += [f"    {problem}" for problem, _ in zip(same, range(examples), strict=False)]
        return "\n".join(lines)
