"""`newsie search`: the best students within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from newsie.cli.training import quiet_training_libraries

__all__ = ["search"]


def search(
    recipe: Annotated[
        Path, typer.Argument(help="Recipe in TOML, with a table \\[search] or without.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder of table, figure and recipes, NAME/, and of trials, trials/.",
        ),
    ],
    max_ms: Annotated[
        float, typer.Option(min=0, help="Milliseconds for one article alone on one thread.")
    ],
    max_mb: Annotated[float, typer.Option(min=0, help="Megabytes of the int8 model.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpora.", envvar="NEWSIE_DATA", show_default="."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Students to finish. (default: search.trials of the recipe)"),
    ] = None,
) -> None:
    """Search for the best students under a budget: macro-F1, time and size at once.

    Each student of the front gets a recipe. The same command goes on where it was stopped.
    """
    quiet_training_libraries("a search", "optuna", "tomli_w", "matplotlib")
    from dataclasses import replace

    from newsie.laboratory.search import Budget
    from newsie.laboratory.search import search as run
    from newsie.laboratory.search_report import write_shortlist
    from newsie.laboratory.trials import open_experiment
    from newsie.training.config import read_recipe
    from newsie.training.evaluate_run import surroundings
    from newsie.training.experiment import CompareConfig, SearchConfig
    from newsie.training.store import data_folder

    asked = read_recipe(recipe)
    config, budget = asked.search or SearchConfig(), Budget(max_ms, max_mb)
    command = (
        f"newsie search {recipe.name} -o DIR --data DIR --max-ms {max_ms:g} --max-mb {max_mb:g}"
    )
    if trials is not None:
        config, command = replace(config, trials=trials), f"{command} --trials {trials}"
    folder = output / asked.name
    sizes = CompareConfig(labelled=config.articles)
    with open_experiment(asked, output, data=data_folder(data), config=sizes) as experiment:
        found, ends = run(experiment, config, budget, folder)
        told = {"command": command} | surroundings()
        for path in write_shortlist(asked, found, ends, budget, told, folder):
            print(path)
