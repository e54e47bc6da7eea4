"""A recipe over the tiny articles, for experiments of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from newsie.cli.compare import compare
from newsie.laboratory.trials import Experiment
from newsie.training.config import Recipe, recipe_from
from newsie.training.corpora import DataSource, read_corpora
from newsie.training.experiment import CompareConfig
from newsie.training.store import RunStore


def tiny_recipe(data: Path, **changes: Any) -> Recipe:
    """A recipe over the tiny articles; `changes` are tables of it."""
    return recipe_from(tiny_content(data) | changes)


def tiny_content(data: Path) -> dict[str, Any]:
    """What the TOML file of the recipe would hold."""
    fit: dict[str, Any] = {"epochs": 2, "batch_size": 16, "max_tokens": 24, "evaluations": 2}
    fit |= {"learning_rate": 2e-3, "head_learning_rate": 5e-3}
    return {
        "name": "tiny",
        "data": {
            "corpora": [{"name": "tiny", "train": "train.jsonl", "test": "test.jsonl"}],
            "tasks": [{"name": "section"}, {"name": "mood"}],
            "validation": 0.1,
        },
        "precision": "fp32",
        "teacher": {"encoder": str(data / "bert"), "fit": fit},
        "student": {"layers": 1, "max_tokens": 32, "fit": fit},
        "quality": {"max_int8_loss": 50.0},
    }


def tiny_experiment(
    recipe: Recipe,
    data: Path,
    runs: Path,
    config: CompareConfig | None = None,
    run: Path | None = None,
) -> Experiment:
    """The recipe's experiment, in the folder `runs/NAME`."""
    store = RunStore(runs / recipe.name, precision=recipe.precision, also=run)
    corpora = read_corpora(store, DataSource(recipe.data, data), recipe.seed)
    return Experiment(recipe, store, corpora, config or CompareConfig(), run is not None)


def compare_alone(recipe: Path, data: Path, output: Path) -> None:
    """`newsie compare` as the whole of a process that tests can kill."""
    torch.set_num_threads(1)  # sums are the same in every process
    compare(recipe, output, data)
