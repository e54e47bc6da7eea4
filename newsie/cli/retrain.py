"""`newsie retrain`: a new student from a newsroom's own file, compared with the old one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsie.cli.gold_labels import Maps, parse_mapping
from newsie.cli.options import Columns, parse_columns
from newsie.cli.training import quiet_training_libraries

if TYPE_CHECKING:
    from newsie.training.retraining.stages import Depth

__all__ = ["retrain"]


File = Annotated[Path, typer.Argument(help="Articles with gold labels: CSV, JSONL, Parquet, ...")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the new bundle.")]
Base = Annotated[
    str | None,
    typer.Option(
        envvar="NEWSIE_MODEL",
        help="The bundle to begin with: a folder, or owner/name on the Hugging Face hub. "
        "(default: bundled)",
        show_default=False,
    ),
]
LabelColumns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="A column of labels, or TASK=COLUMN to name its task; repeatable. (default: found by "
        "name)",
        show_default=False,
    ),
]
Quick = Annotated[bool, typer.Option("--quick", help="New heads on the student as it is: seconds.")]
Student = Annotated[bool, typer.Option("--student", help="Fit the whole student: minutes.")]
Full = Annotated[bool, typer.Option("--full", help="Fit a teacher first, and distil it: longer.")]
Encoder = Annotated[
    str, typer.Option(help="Of the teacher, with --full: minilm, a folder, or a hub id.")
]
Replay = Annotated[
    list[Path] | None,
    typer.Option(
        help="Old articles with their gold labels, so that nothing is unlearnt; repeatable."
    ),
]
Unlabelled = Annotated[
    list[Path] | None, typer.Option(help="Articles to learn from without labels; repeatable.")
]
Test = Annotated[
    Path | None,
    typer.Option(
        help="Articles to measure on. (default: a fifth of FILE is held out)", show_default=False
    ),
]
MaxFall = Annotated[float, typer.Option(help="Points of recall that a label may lose.", min=0)]
Force = Annotated[
    bool, typer.Option("--force", help="Write the bundle even if it is not promoted.")
]
Runs = Annotated[Path, typer.Option(help="Folder of what is computed on the way.")]
Json = Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")]


def retrain(
    file: File,
    output: Output,
    base: Base = None,
    task: LabelColumns = None,
    map_: Maps = None,
    columns: Columns = None,
    quick: Quick = False,
    student: Student = False,
    full: Full = False,
    encoder: Encoder = "minilm",
    replay: Replay = None,
    unlabelled: Unlabelled = None,
    test: Test = None,
    max_fall: MaxFall = 2.0,
    force: Force = False,
    runs: Runs = Path("runs"),
    json_: Json = False,
) -> None:
    """Retrain a student on your own articles, and compare it with the old one.

    It is written unless it is worse than the old one: then the exit code is 3, and the table says why. It
    becomes the current one only if it is shown to be better. Started again after an interruption, it goes on
    where it was.
    """
    fields, mapping = parse_columns(columns), parse_mapping(map_)
    depth = _depth(quick=quick, student=student, full=full)
    quiet_training_libraries("retraining")
    from newsie.bundles.bundle import read_bundle
    from newsie.bundles.hub import find_bundle
    from newsie.cli.terminal import note, print_json
    from newsie.training.retraining.dataset import Sources
    from newsie.training.retraining.promotion import Limits
    from newsie.training.retraining.retrain import retrain as run

    sources = Sources(file, task or (), fields, mapping, replay or (), unlabelled or (), test)
    try:
        found = run(
            sources,
            output,
            base=read_bundle(find_bundle(base).resolve()),  # `current` may change meanwhile
            depth=depth,
            encoder=encoder,
            runs=runs,
            limits=Limits(max_fall=max_fall),
            force=force,
        )
    except KeyboardInterrupt:
        note(f"what is done is kept in {runs / output.name}; the same command goes on from there")
        raise
    if json_:
        print_json(found.promotion.to_json())
    else:
        print(found.promotion.table())
    if not (found.promotion.proven or found.promotion.failures):
        note(
            "the new student is written, but it is NOT shown to be better on every task that it was taught "
            "(see the gains), so it does not become the current one; give more articles to learn from, and "
            "to measure on"
        )
    for failure in found.promotion.failures:
        note(f"forced, though: {failure}")
    print(found.bundle.path, file=sys.stderr if json_ else sys.stdout)
    note(f'to use it: newsie classify --model {found.bundle.path} "..."')


def _depth(*, quick: bool, student: bool, full: bool) -> Depth | None:
    """Return the requested depth, or None."""
    asked: dict[Depth, bool] = {"quick": quick, "student": student, "full": full}
    chosen = [depth for depth, wanted in asked.items() if wanted]
    if len(chosen) > 1:
        raise typer.BadParameter(f"give one of --{' and --'.join(chosen)}", param_hint="--quick")
    return chosen[0] if chosen else None
