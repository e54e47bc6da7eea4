"""`newsie train`: training from a recipe to a bundle."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsie.cli.training import quiet_training_libraries
from newsie.errors import InputError

if TYPE_CHECKING:
    from newsie.training.train import Trained

__all__ = ["main", "train"]


class Until(StrEnum):
    """The last stage to run."""

    data = "data"
    teacher = "teacher"
    soft_labels = "soft-labels"
    student = "student"
    bundle = "bundle"


class Tracker(StrEnum):
    """The tool that records the curves."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML; see training/recipes.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpora.", envvar="NEWSIE_DATA", show_default="."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="A student of the recipe's ladder, such as nano, instead of its own student.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs"),
    until: Annotated[Until, typer.Option(help="Last stage to run.")] = Until.bundle,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Copy the bundle into this folder.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            help="Measure teacher, student and a TF-IDF baseline on the test articles; write the "
            "figures into this folder and into the bundle's model card."
        ),
    ] = None,
    tracker: Annotated[list[Tracker] | None, typer.Option(help="May be repeated.")] = None,
    ray: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Compute the soft labels on a Ray cluster: auto, local, or ray://HOST:10001.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Train a student from a recipe. Stages that are already complete are skipped."""
    quiet_training_libraries("training")
    from newsie.bundles.bundle import copy_bundle
    from newsie.laboratory.methods import extended
    from newsie.training.config import read_recipe
    from newsie.training.store import RunStore, data_folder
    from newsie.training.train import train as train_student

    if until is not Until.bundle and (output or figures):
        raise typer.BadParameter(
            "--output and --figures need the bundle, the last stage; drop --until"
        )
    chosen = read_recipe(recipe).rung(student) if student else read_recipe(recipe)
    store = RunStore(
        runs / chosen.name, precision=chosen.precision, trackers=_trackers(tracker), ray=ray
    )
    with store.locked() if store.accelerator.is_main_process else nullcontext():
        trained = train_student(
            chosen, store, data=data_folder(data), until=until.value, method=extended
        )
    store.accelerator.end_training()
    if not store.accelerator.is_main_process:
        return
    if trained is None:
        print(store.directory)
        return
    if figures:
        _measure(trained, figures)
    print(copy_bundle(trained.bundle.path, output).path if output else trained.bundle.path)


def _measure(trained: Trained, directory: Path) -> None:
    """Write figures into a folder and into the bundle's card."""
    from newsie.training.card import write_card
    from newsie.training.evaluate_run import measure
    from newsie.training.metrics_report import write_figures

    figures = measure(trained)
    for path in write_figures(figures, directory):
        print(path, file=sys.stderr)
    write_card(trained.bundle, figures)


def _trackers(asked: list[Tracker] | None) -> list[str]:
    names = [tracker.value for tracker in asked or []]
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"--tracker {name} needs the package {name}: type  pip install {name}")
    return names


def main() -> None:
    """Run `newsie train`, for launchers that start a module."""
    from newsie.cli.app import app

    app(["train", *sys.argv[1:]])
