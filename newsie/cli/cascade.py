"""`newsie cascade`: two students in one bundle, the larger one for what the small one is unsure of."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsie.cli.options import Columns, Strict, parse_columns

if TYPE_CHECKING:
    from newsie.bundles.bundle import Bundle
    from newsie.data.articles import Article

__all__ = ["cascade"]


def cascade(
    first: Annotated[Path, typer.Argument(help="Bundle of the small student.")],
    last: Annotated[
        Path, typer.Argument(help="Bundle of the larger student, of one recipe with it.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new bundle.")],
    validation: Annotated[
        list[Path] | None,
        typer.Option(
            help="Articles with gold labels that neither student learnt from. May be repeated."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Instead: the folder of the run that made both (runs/NAME); its validation articles."
        ),
    ] = None,
    max_loss: Annotated[
        float,
        typer.Option(min=0, help="Accuracy that a task may lose, cross-validated, in points."),
    ] = 0.15,
    columns: Columns = None,
    strict: Strict = False,
) -> None:
    """Make a cascade: the small student answers what it is sure of, the larger one the rest."""
    from newsie.bundles.bundle import read_bundle
    from newsie.cli.terminal import note
    from newsie.training.cascade_thresholds import build_cascade

    if (run is None) == (not validation):
        raise typer.BadParameter("give --validation FILE or --run FOLDER, one of them")
    small, large = read_bundle(first), read_bundle(last)
    articles = (
        _of_run(run, small, large)
        if run is not None
        else _of_files(validation or [], large, parse_columns(columns), strict)
    )
    made = build_cascade(small, large, articles, output, max_loss_points=max_loss)
    for task, found in made.manifest.metrics["cascade"].items():
        if not found["articles"]:
            note(
                f"{task}: no article has a gold label of it, so {large.manifest.name} alone answers it"
            )
            continue
        lost = 100 * (found["accuracy_last"] - found["accuracy"])
        note(
            f"{task}: {100 * found['passed_on']:.1f} % of {found['articles']:,} articles passed on; "
            f"accuracy {100 * found['accuracy']:.2f} %, {large.manifest.name} alone "
            f"{100 * found['accuracy_last']:.2f} %, "
            f"{abs(lost):.2f} ± {found['margin_points']:.2f} points {'lost' if lost >= 0 else 'gained'}"
        )
        if found["accuracy_first"] > found["accuracy_last"]:
            note(
                f"{task}: {small.manifest.name}, named first, is the better one: should it come last?"
            )
    print(made.path)


def _of_files(
    files: list[Path], bundle: Bundle, columns: dict[str, str], strict: bool
) -> Iterable[Article]:
    from newsie.data.readers import ArticleReader

    rules = {task.name: task.rule for task in bundle.manifest.label_space.tasks if task.rule}
    return chain.from_iterable(
        ArticleReader(file, columns=columns, rules=rules, strict=strict) for file in files
    )


def _of_run(run: Path, small: Bundle, large: Bundle) -> Iterable[Article]:
    from newsie.errors import InputError, MissingExtraError

    data = large.manifest.lineage.data
    for bundle in (small, large):
        known = bundle.manifest.lineage.data
        if not known or known != data or not (run / known).is_dir():
            raise InputError(
                f"{run} does not hold the articles that {bundle.path} learnt from ({known or 'unknown'}), or "
                f"{large.path} learnt from others; give --validation FILE"
            )
    try:
        from newsie.training.corpora import load_corpora
    except ImportError as error:
        raise MissingExtraError("reading a run", error.name or "datasets", "train") from error
    return load_corpora(run / data).articles("validation")
