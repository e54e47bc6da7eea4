"""`newsie train`: from a recipe to a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from newsie.errors import MissingExtraError

__all__ = ["main", "train"]


class Until(StrEnum):
    """The last stage to run."""

    data = "data"
    teacher = "teacher"
    soft_labels = "soft-labels"
    student = "student"
    bundle = "bundle"


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML; see training/recipes.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpora.", envvar="NEWSIE_DATA", show_default="."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs"),
    until: Annotated[Until, typer.Option(help="Last stage to run.")] = Until.bundle,
    tracker: Annotated[
        list[str] | None, typer.Option(help="tensorboard, mlflow or wandb; may be repeated.")
    ] = None,
) -> None:
    """Make a student: data, teacher, soft labels, student, bundle. Finished stages are skipped."""
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingExtraError("training", error.name or "torch", "train") from error
    from newsie.training.config import read_recipe
    from newsie.training.pipeline import Pipeline, data_folder

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    pipeline = Pipeline(
        read_recipe(recipe), data=data_folder(data), runs=runs, trackers=tracker or []
    )
    print(pipeline.run(until.value))


def main() -> None:
    """Entry for launchers that start a module."""
    typer.run(train)
