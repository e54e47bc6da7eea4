"""Figures of a comparison, drawn by matplotlib as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from newsie.confusion.plots import BLUE, FAINT, INK, RED, STYLE, new_figure, save_figure
from newsie.extras import extra
from newsie.laboratory.arms import DEFAULT
from newsie.laboratory.claims import swept_by
from newsie.laboratory.comparison_report import TEACHER, Findings
from newsie.laboratory.contrasts import Verdict
from newsie.metrics.estimates import Estimate
from newsie.training.experiment import Swept

__all__ = ["draw_findings", "sweep_lines"]


def draw_findings(findings: Findings, directory: Path) -> list[Path]:
    """Draw the students, the differences behind the claims, and each sweep.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    swept = {name: sweep_lines(findings, name) for name in get_args(Swept)}
    drawn = []
    with extra("matplotlib").rc_context(STYLE):
        figures = {"students": _draw_students(findings)}
        if differences := _draw_differences(findings):
            figures["differences"] = differences
        figures |= {name: _draw_sweep(name, lines) for name, lines in swept.items() if lines}
        for name, figure in figures.items():
            drawn += save_figure(figure, directory / f"compare-{name}")
    return drawn


def _draw_students(findings: Findings) -> Any:
    arms = [arm for arm in findings.arms if not swept_by(arm.name)]
    figure = _draw_intervals(
        {arm.name: arm.scores["macro_f1"] for arm in arms},
        "How good is each student?",
        f"Macro-F1, mean of tasks and of {findings.seeds} seeds, with 95 % intervals",
        "macro-F1, %",
    )
    [axes] = figure.axes
    teacher = findings.arm(TEACHER).scores["macro_f1"].value
    axes.axvline(100 * teacher, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    return figure


def _draw_differences(findings: Findings) -> Any | None:
    asked = [c for c in findings.contrasts if c.measure == "macro_f1" and not swept_by(c.first)]
    if not asked:
        return None
    figure = _draw_intervals(
        {f"{c.first} − {c.second}": c.difference for c in asked},
        "Which differences are real?",
        "Paired, with 95 % intervals; grey ones touch the line and may be chance",
        "points of macro-F1",
        [COLOURS[c.verdict] for c in asked],
    )
    [axes] = figure.axes
    axes.axvline(0, color=INK, linewidth=1, zorder=0)
    return figure


COLOURS: Mapping[Verdict, str] = {
    "holds": BLUE,
    "does not hold": RED,
    "too close to call": FAINT,
}


def _draw_intervals(
    rows: Mapping[str, Estimate],
    title: str,
    subtitle: str,
    unit: str,
    colours: Sequence[str] = (),
) -> Any:
    figure, axes = new_figure(6.8, 1.8 + 0.32 * len(rows), title, subtitle)
    for place, found in enumerate(rows.values()):
        colour = colours[place] if colours else BLUE
        axes.plot([100 * found.low, 100 * found.high], [place, place], color=colour, linewidth=2)
        axes.plot(100 * found.value, place, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(unit)
    axes.grid(axis="x", color=FAINT, alpha=0.25)
    return figure


Line = Sequence[tuple[float, Estimate]]
RECIPE, GOLD = "the recipe's student", "gold labels alone"
STANDING: Mapping[str, Mapping[Swept, str]] = {
    DEFAULT: dict.fromkeys(get_args(Swept), RECIPE),
    f"{DEFAULT}, more text": {"transfer": RECIPE},
    "gold": {"labelled": GOLD},
}
"""Name of an arm that is also a point of a sweep -> swept setting -> the line that it is on."""


def sweep_lines(findings: Findings, swept: Swept) -> dict[str, Line]:
    """Return the lines of a sweep by name: the recipe's student, and gold labels alone if there are any.

    A line is a list of (position on the axis, macro-F1), including the recipe's own value.
    """
    lines: dict[str, dict[float, Estimate]] = {}
    for arm in findings.arms:
        if swept_by(arm.name) == swept:
            line = GOLD if arm.name.endswith(", gold") else RECIPE
            lines.setdefault(line, {})[arm.swept[swept]] = arm.scores["macro_f1"]
    for name, places in STANDING.items():
        for arm in findings.arms:
            if arm.name == name and (line := places.get(swept, "")) in lines:
                lines[line].setdefault(arm.swept[swept], arm.scores["macro_f1"])
    return {line: sorted(points.items()) for line, points in lines.items()}


def _draw_sweep(swept: str, lines: Mapping[str, Line]) -> Any:
    figure, axes = new_figure(
        6.2,
        4.2,
        f"How good is the student, by {swept}?",
        "Macro-F1, mean of tasks and seeds, with 95 % intervals",
    )
    for (kind, points), colour in zip(lines.items(), (BLUE, RED), strict=False):
        x = [value for value, _ in points]
        y = [100 * found.value for _, found in points]
        down = [100 * (found.value - found.low) for _, found in points]
        up = [100 * (found.high - found.value) for _, found in points]
        axes.errorbar(
            x, y, yerr=[down, up], color=colour, marker="o", markersize=4, linewidth=1.5, label=kind
        )
    if len(lines) > 1:
        axes.legend(frameon=False)
    if swept in ("labelled", "transfer") and all(
        value > 0 for p in lines.values() for value, _ in p
    ):
        axes.set_xscale("log")
    ticks = sorted({value for points in lines.values() for value, _ in points})
    axes.set_xticks(ticks, [f"{value:,g}" for value in ticks])
    axes.minorticks_off()
    axes.set(xlabel=swept, ylabel="macro-F1, %")
    axes.grid(axis="y", color=FAINT, alpha=0.25)
    return figure
