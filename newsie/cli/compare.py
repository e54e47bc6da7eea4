"""`newsie compare`: students that differ in one setting, on equal terms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from newsie.cli.terminal import note
from newsie.cli.training import quiet_training_libraries

__all__ = ["compare"]


def compare(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML with a table \\[compare].")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder of tables and figures, NAME/, and of trials, trials/.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpora.", envvar="NEWSIE_DATA", show_default="."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Finished run (runs/NAME) whose teacher and soft labels are used; without it each seed "
            "fits a teacher of its own on the labelled articles alone."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="How many. (default: compare.seeds of the recipe)")
    ] = None,
) -> None:
    """Compare students: of gold labels, of the teacher's top label, of its soft labels, and more.

    Every student is kept as it is made: the same command goes on where it was stopped. The table is
    written after each seed from the second on. Recipes with the same folder share what they have in common.
    """
    quiet_training_libraries("comparing students", "scipy", "matplotlib")
    from newsie.laboratory.comparison import compare as compare_students
    from newsie.laboratory.trials import open_experiment
    from newsie.training.config import read_recipe
    from newsie.training.experiment import CompareConfig
    from newsie.training.store import data_folder

    asked = read_recipe(recipe)
    config = asked.compare or CompareConfig()
    if asked.compare is None:
        note(f"{recipe} has no table [compare]; what it would say by default: {config}")
    command = f"newsie compare {recipe.name} -o DIR --data DIR"
    told: dict[str, Any] = {"recipe": asked.name}
    if seeds is not None:
        config, command = replace(config, seeds=seeds), f"{command} --seeds {seeds}"
    with open_experiment(
        asked, output, data=data_folder(data), config=config, run=run
    ) as experiment:
        if run is not None:
            command = f"{command} --run DIR"
            told["taught_by"] = len(experiment.rows(0, 0, 0))
        findings = compare_students(experiment, output / asked.name, told | {"command": command})
    for line in findings.sentences():
        print(line.replace("**", ""))
