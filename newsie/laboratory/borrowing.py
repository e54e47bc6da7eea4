"""The articles, teacher and soft labels of a finished run, for an experiment that needs none of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from newsie.atomic import new_directory
from newsie.errors import RecipeError
from newsie.training.pipeline import Pipeline

__all__ = ["borrow"]

ENCODED = ("tokens-*", "soft-labels-*")


def borrow(pipeline: Pipeline, run: Path) -> None:
    """Copy what a run has made into the folder of an experiment; what is there already is kept.

    Everything is named by what it was made from, so that an experiment finds what is its own. The run
    itself is only read, and may go on.

    Args:
        pipeline: of the experiment.
        run: folder of `newsie train`: runs/NAME.

    Raises:
        RecipeError: the run has no finished teacher of the experiment's recipe.
    """
    teachers = pipeline.teacher_names
    if missing := [name for name in teachers if not (run / name / "model").exists()]:
        there = ", ".join(sorted(path.parent.name for path in run.glob("teacher-*/model")))
        raise RecipeError(
            f"{run} has no finished teacher of this recipe (wanted: {', '.join(missing)}; there: "
            f"{there or 'none'}). [data], [teacher] and seed of the recipe must be those of the run, and the "
            "files of the corpora, too"
        )
    encoded = [path.name for pattern in ENCODED for path in sorted(run.glob(pattern))]
    for name in [pipeline.corpora_name, *teachers, *encoded]:
        target = pipeline.directory / name
        if not target.exists():
            with new_directory(target) as aside:
                shutil.copytree(run / name, aside, dirs_exist_ok=True)
