"""Gold labels of a file and those of a model: `--map`, and early hints at different spellings."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from newsie.labels import LabelRule, LabelSpace

__all__ = ["Maps", "check_gold_labels", "map_labels", "parse_mapping"]

Maps = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="THEIRS=OURS", help="What a label is called here; repeatable."),
]
SHOWN = 8


def parse_mapping(pairs: Sequence[str] | None) -> dict[str, str]:
    """Parse ["Sport=sports"] -> {"Sport": "sports"}. Raises a usage error for anything else."""
    mapping = {}
    for pair in pairs or ():
        theirs, equals, ours = pair.rpartition("=")
        if not (theirs and equals and ours):
            raise typer.BadParameter(
                f"{pair!r} is not THEIRS=OURS; write for example Sport=sports", param_hint="--map"
            )
        mapping[theirs.strip()] = ours.strip()
    return mapping


def map_labels(
    rules: Mapping[str, LabelRule], mapping: Mapping[str, str], labels: LabelSpace
) -> dict[str, LabelRule]:
    """Return rules that also rename labels of the file as `mapping` says.

    Raises a usage error if no task has a label that it names, which would leave its articles out.
    """
    known = {label for task in rules for label in labels[task].labels}
    for theirs, ours in mapping.items():
        if ours not in known:
            close = get_close_matches(ours, sorted(known), n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise typer.BadParameter(
                f"{theirs}={ours}: the model has no label {ours!r} for {', '.join(rules)}.{hint}",
                param_hint="--map",
            )
    return {
        task: replace(rule, merge={**rule.merge, **mapping}) if mapping else rule
        for task, rule in rules.items()
    }


def check_gold_labels(
    file: str,
    columns: Mapping[str, str],
    rules: Mapping[str, LabelRule],
    labels: LabelSpace,
    mapping: Mapping[str, str],
) -> None:
    """Read the gold labels of a file early, and hint at labels that the model may spell differently.

    Standard input and other pipes can be read only once, so they are not checked.

    Raises:
        InputError: `mapping` names a label that no row has.
    """
    from newsie.cli.terminal import note, one_line
    from newsie.data.formats import is_stream
    from newsie.data.label_names import closest_label, combined_labels
    from newsie.data.readers import ArticleReader

    if is_stream(file):
        return
    unmapped = {
        task: replace(rule, merge={k: v for k, v in rule.merge.items() if k not in mapping})
        for task, rule in rules.items()
    }
    counts: dict[str, Counter[str]] = {task: Counter() for task in rules}
    for article in ArticleReader(file, columns=columns, rules=unmapped):
        for task, label in article.labels.items():
            counts[task][label] += 1
    _check_mapping(file, mapping, set().union(*counts.values()))
    for task, found in counts.items():
        known = labels[task].labels
        unknown = [label for label, _ in found.most_common() if label not in {*known, *mapping}]
        if combined := combined_labels({x: found[x] for x in unknown}, known):
            note(one_line(f"{task}: {combined.describe()}; these articles are left out"))
        alike = [(label, other) for label in unknown if (other := closest_label(label, known))]
        for label, other in alike[:SHOWN]:
            option = shlex.quote(f"{label}={other}")
            note(
                one_line(
                    f"{task}: the model does not know the label {label!r} ({found[label]:,} articles), "
                    f"which is left out; it knows {other!r}. If it is the same: --map {option}"
                )
            )


def _check_mapping(file: str, mapping: Mapping[str, str], found: set[str]) -> None:
    from newsie.errors import InputError

    for theirs in mapping:
        if theirs not in found:
            close = get_close_matches(theirs, sorted(found), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            shown = ", ".join(map(repr, sorted(found)[:SHOWN]))
            raise InputError(
                f"--map names the label {theirs!r}, which no row of {file} has; it has: {shown}{hint}"
            )
