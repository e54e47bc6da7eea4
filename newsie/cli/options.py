"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from newsie.labels import LabelRule, LabelSpace

__all__ = [
    "Columns",
    "GoldColumns",
    "Model",
    "Strict",
    "Tasks",
    "chosen_tasks",
    "gold_rules",
    "parse_columns",
]

Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=COLUMN",
        help="Where a field is, if its column's name does not tell: headline=Titel. Once for each.",
    ),
]
GoldColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN",
        help="Where a field or the gold label of a task is, if its column's name does not tell: "
        "headline=Titel or section=Ressort. Once for each.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        envvar="NEWSIE_MODEL",
        help="Directory of a bundle, or owner/name on the Hugging Face hub. (default: bundled)",
        show_default=False,
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first row that cannot be used.")
]
Tasks = Annotated[
    list[str] | None, typer.Option(help="A task to answer; repeatable. (default: all)")
]


def chosen_tasks(asked: Sequence[str] | None, labels: LabelSpace) -> list[str] | None:
    """Return the requested tasks, each once; None means all. Raises a usage error for an unknown task."""
    if not asked:
        return None
    for task in asked:
        if task not in labels.names:
            close = get_close_matches(task, labels.names, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise typer.BadParameter(
                f"this model has no task {task!r}; it has: {', '.join(labels.names)}.{hint}",
                param_hint="--task",
            )
    return list(dict.fromkeys(asked))


def gold_rules(
    fields: dict[str, str], labels: LabelSpace, tasks: Sequence[str]
) -> dict[str, LabelRule]:
    """Return the gold label rules of tasks, from `fields`, which loses them, or else from the model.

    Raises a usage error if `fields` names a task that is not requested.
    """
    from newsie.labels import LabelRule

    rules = {name: labels[name].rule or LabelRule(name) for name in tasks}
    for name in labels.names:
        if name in fields:
            rules[name] = LabelRule(fields.pop(name))
    if extra := set(rules) - set(tasks):
        raise typer.BadParameter(
            f"a column is named for {', '.join(sorted(extra))}, and --task asks for "
            f"{', '.join(tasks)}",
            param_hint="--columns",
        )
    return rules


def parse_columns(pairs: Sequence[str] | None) -> dict[str, str]:
    """Parse ["headline=Titel"] -> {"headline": "Titel"}. Raises a usage error for anything else."""
    columns = {}
    for pair in pairs or ():
        field, equals, column = pair.partition("=")
        if not (field and equals and column):
            raise typer.BadParameter(
                f"{pair!r} is not FIELD=COLUMN; write for example headline=Titel",
                param_hint="--columns",
            )
        if several := re.search(r",\s*(\w+=.+)", column):
            raise typer.BadParameter(
                f"{pair!r} names several columns; give each its own: --columns "
                f"{field}={column[: several.start()]} --columns {several[1]}",
                param_hint="--columns",
            )
        columns[field.strip()] = column
    return columns
