"""Every error that Newsie raises on purpose.

    NewsieError
    ├── InputError            an article, a text or a file that cannot be used
    │   └── ReadError         ... at a known place: file, row, column
    ├── LabelError            a task or a label that the label space does not hold
    ├── RecipeError           a training recipe that makes no sense
    ├── FingerprintError      a stored result that belongs to other inputs
    ├── BundleError           a model directory that is damaged, incomplete or too new
    ├── TrainingError         training that cannot go on (a loss that is not a number, ...)
    ├── QualityGateError      a model that works, but is not good enough
    └── MissingExtraError     an optional dependency that is not installed (also an ImportError)

A message says what was given, what is allowed and what to do. `newsie.cli` prints it without a
traceback and exits with `exit_code`.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "BundleError",
    "FingerprintError",
    "InputError",
    "LabelError",
    "MissingExtraError",
    "NewsieError",
    "QualityGateError",
    "ReadError",
    "RecipeError",
    "TrainingError",
]


class NewsieError(Exception):
    """Base of all errors that Newsie raises on purpose."""

    exit_code = 1


class InputError(NewsieError, ValueError):
    """An article, a text or a file cannot be used."""


class ReadError(InputError):
    """A file cannot be read, at a known place.

    Attributes:
        path: the file.
        row: 1-based number of the record (a header is not counted), or None for the whole file.
        column: name of the column, or None for the whole record.
        reason: what is wrong and what to do.
    """

    def __init__(
        self, path: Path | str, reason: str, *, row: int | None = None, column: str | None = None
    ) -> None:
        self.path, self.row, self.column, self.reason = str(path), row, column, reason
        place = str(path)
        if row is not None:
            place += f", row {row}"
        if column is not None:
            place += f", column {column!r}"
        super().__init__(f"{place}: {reason}")


class LabelError(NewsieError, ValueError):
    """A task or a label is not in the label space."""


class RecipeError(NewsieError, ValueError):
    """A training recipe makes no sense."""


class FingerprintError(NewsieError):
    """A stored result belongs to other inputs than the ones at hand."""


class BundleError(NewsieError):
    """A model directory is damaged, incomplete or of a newer format."""


class TrainingError(NewsieError):
    """Training cannot go on."""


class QualityGateError(NewsieError):
    """A model works but is not good enough to be published."""

    exit_code = 3


class MissingExtraError(NewsieError, ImportError):
    """An optional dependency is not installed.

    Args:
        what: what was asked for, as a noun phrase ("reading Parquet files").
        package: the package that cannot be imported.
        extra: the extra of Newsie that brings it.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed: "
            f"type  pip install '.[{extra}]'  in a checkout of Newsie, or  "
            f"pip install 'newsie-classifier[{extra}]'  where Newsie is installed already"
        )
