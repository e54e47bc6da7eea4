"""The errors that Newsie raises on purpose.

    NewsieError
    ├── InputError            an article, a text or a file that cannot be used
    │   └── ReadError         ... at a known place: file, row, column
    ├── LabelError            a task or a label that the label space does not hold
    ├── RecipeError           a training recipe that is not valid
    ├── FingerprintError      a stored result that was computed from different inputs
    ├── BundleError           a model directory that is damaged, incomplete or too new
    ├── TrainingError         training that cannot continue (a loss that is not a number, ...)
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
    """The base class of all errors that Newsie raises on purpose."""

    exit_code = 1


class InputError(NewsieError, ValueError):
    """Raised if an article, a text or a file cannot be used."""


class ReadError(InputError):
    """Raised if a file cannot be read. Names the place of the fault.

    Attributes:
        path: path of the file.
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
    """Raised if a task or a label is not in the label space."""


class RecipeError(NewsieError, ValueError):
    """Raised if a training recipe is not valid."""


class FingerprintError(NewsieError):
    """Raised if a stored result was computed from different inputs."""


class BundleError(NewsieError):
    """Raised if a model directory is damaged, incomplete or of a newer format."""


class TrainingError(NewsieError):
    """Raised if training cannot continue."""


class QualityGateError(NewsieError):
    """Raised if a model works but is not good enough to be published."""

    exit_code = 3


class MissingExtraError(NewsieError, ImportError):
    """Raised if an optional dependency is not installed.

    Args:
        what: the requested feature, as a noun phrase ("reading Parquet files").
        package: the package that cannot be imported.
        extra: the extra of Newsie that installs it.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed: "
            f"type  pip install '.[{extra}]'  in a checkout of Newsie, or  "
            f"pip install 'newsie-classifier[{extra}]'  where Newsie is installed already"
        )
