"""`newsie compare`: students that differ in one thing, on equal terms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from newsie.cli.training import quiet_training_libraries

__all__ = ["compare"]


def compare(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML with a table [compare].")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of table, figures and trials.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpora.", envvar="NEWSIE_DATA", show_default="."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="How many. (default: compare.seeds of the recipe)")
    ] = None,
) -> None:
    """Compare students: of gold labels, of the teacher's top label, of its soft labels, and more.

    Every student is kept as it is made: the same command goes on where it was stopped. The table is
    written after each seed from the second on.
    """
    quiet_training_libraries("comparing students", "scipy", "matplotlib")
    from newsie.laboratory.comparison import compare as run
    from newsie.training.config import read_recipe
    from newsie.training.experiment import CompareConfig
    from newsie.training.pipeline import Pipeline, data_folder

    asked = read_recipe(recipe)
    config = asked.compare or CompareConfig()
    command = f"newsie compare {recipe.name} -o DIR --data DIR"
    if seeds is not None:
        config, command = replace(config, seeds=seeds), f"{command} --seeds {seeds}"
    pipeline = Pipeline(asked, data=data_folder(data), runs=output)
    with pipeline.locked():
        findings = run(pipeline, config, output, command)
    for line in findings.sentences():
        print(line.replace("**", ""))
