"""`newsie models` and `newsie rollback`: the bundles of a folder, and which of them is the current one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from newsie.bundles.bundle import Bundle
    from newsie.bundles.registry import Shelf

__all__ = ["models", "rollback"]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of bundles.")]


def models(
    directory: Folder = Path("models"),
    use: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make this bundle the current one: DIR/current."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object a bundle.")] = False,
) -> None:
    """List the bundles of a folder: what they answer, how good, and what they were retrained from."""
    from newsie.bundles.registry import CURRENT, DEFAULT_FOLDER, Shelf
    from newsie.cli.terminal import note, print_json
    from newsie.errors import BundleError

    advice = f"newsie retrain FILE -o {directory / 'NAME'} makes one"
    if use is None and directory == DEFAULT_FOLDER and not os.path.lexists(directory):
        note(f"there is no folder {directory}: you have made no bundle yet; {advice}")
        return
    shelf = Shelf.of(directory)
    if use is not None:
        shelf.use(shelf.find(use))
    try:
        current = shelf.current
    except BundleError as error:
        current = None
        note(f"{directory / CURRENT} cannot be used: {error}")
    rows = [_describe(bundle, shelf, current) for bundle in shelf.bundles]
    for row in rows if json_ else ():
        print_json(row)
    if not json_:
        _print(rows)
    if current is not None and not any(row["current"] for row in rows):
        note(f"{directory}/current is {current.path}, which is not in this folder")
    for path, reason in shelf.damaged.items():
        note(f"{path.name} cannot be used: {reason}")
    if not rows and not shelf.damaged:
        note(f"there is no bundle in {directory}; {advice}")


def rollback(directory: Folder = Path("models")) -> None:
    """Make the parent of the current bundle the current one again."""
    from newsie.bundles.registry import Shelf

    was, now = Shelf.of(directory).roll_back()
    print(f"{was.path.name} -> {now.path.name}: {directory}/current is {now.path}")


def _describe(bundle: Bundle, shelf: Shelf, current: Bundle | None) -> dict[str, Any]:
    manifest = bundle.manifest
    parent = shelf.parent(bundle)
    promotion = _as_mapping(manifest.metrics.get("promotion", {}))
    promoted = promotion.get("promoted") if promotion is not None else None
    return {
        "name": bundle.path.name,
        "current": current is not None and current.path == bundle.path.resolve(),
        "created": manifest.created,
        "fingerprint": bundle.fingerprint,
        "parent": parent.path.name if parent else manifest.lineage.parent,
        "data": manifest.lineage.data,
        "tasks": {task.name: len(task.labels) for task in manifest.label_space.tasks},
        "accuracy": None if promotion is None else _accuracies(promotion.get("tasks", {})),
        "promoted": promoted if isinstance(promoted, bool) else None,
    }


def _as_mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _accuracies(tasks: object) -> dict[str, float | None] | None:
    """Return the accuracy of each retrained task, as retraining writes it into the metrics.

    The maker of a bundle decides what its metrics hold; None stands for another structure.
    """
    if not isinstance(tasks, Mapping):
        return None
    reports = {task: _as_mapping(report) for task, report in tasks.items()}
    return {
        task: None if report is None else _accuracy(report.get("after"))
        for task, report in reports.items()
        if report is None or (report.get("after") and report.get("taught"))
    }


def _accuracy(after: object) -> float | None:
    value = after.get("accuracy") if isinstance(after, Mapping) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value <= 1 else None


def _describe_accuracies(accuracies: Mapping[str, float | None] | None) -> str:
    if accuracies is None:
        return "unknown"
    return ", ".join(
        f"{task} unknown" if accuracy is None else f"{task} {100 * accuracy:.1f} %"
        for task, accuracy in accuracies.items()
    )


def _print(rows: list[dict[str, Any]]) -> None:
    from newsie.cli.terminal import one_line

    header = ("", "name", "created", "fingerprint", "retrained from", "tasks (labels)", "learnt")
    lines: list[tuple[str, ...]] = [header]
    for row in rows:
        learnt = _describe_accuracies(row["accuracy"])
        forced = " (not promoted: forced)" if row["promoted"] is False else ""
        lines.append(
            (
                "*" if row["current"] else "",
                row["name"],
                row["created"][:16].replace("T", " "),
                row["fingerprint"],
                row["parent"],
                ", ".join(f"{task} {labels}" for task, labels in row["tasks"].items()),
                learnt + forced,
            )
        )
    lines = [tuple(map(one_line, line)) for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines if rows else ():
        print("  ".join(f"{x:<{w}}" for x, w in zip(line, widths, strict=True)).rstrip())
