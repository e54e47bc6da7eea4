"""Figures for print and for the web: PNG and SVG, drawn by matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.analysis import Analysis
from newsie.extras import extra
from newsie.printable import one_line

__all__ = ["draw_figures", "missing_characters", "new_figure", "save_figure"]

PAPER, INK, FAINT, RED, BLUE = "#fffaf2", "#1c1b1a", "#8a857c", "#b3262e", "#1f5a7a"
STYLE = {
    "font.family": "serif",
    "font.serif": ["Georgia", "Charter", "DejaVu Serif"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.parse_math": False,  # a label may contain "$"
    "svg.hashsalt": "newsie",  # makes the files reproducible
}
NAMED = 60
"""The most labels whose names are written beside a table; with more they cannot be read."""
WRITTEN = 30
"""The most labels for which figures are written in the cells."""
DPI = 160


def draw_figures(task: str, analysis: Analysis, directory: Path) -> list[Path]:
    """Draw the figures of a task, each as .png and .svg.

    Characters that the font lacks become boxes; `missing_characters` returns them.

    Args:
        task: the name of the task, which begins the file names.
        analysis: the analysis of the task.
        directory: the directory to write to; it must exist.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = extra("matplotlib")
    drawn = []
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        for name, draw in _drawers(analysis).items():
            drawn += save_figure(draw(task, analysis), directory / f"{task}-{name}")
    return drawn


def save_figure(figure: Any, stem: Path) -> list[Path]:
    """Write a figure as STEM.png and STEM.svg. The same figure always gives the same files."""
    drawn = []
    for suffix in (".png", ".svg"):
        path = stem.with_name(stem.name + suffix)
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.2, metadata=metadata)
        drawn.append(path)
    return drawn


def missing_characters(task: str, analysis: Analysis) -> str:
    """Return the characters of the task and its labels that the font of the figures lacks, each once."""
    matplotlib, fonts = extra("matplotlib"), extra("matplotlib.font_manager")
    with matplotlib.rc_context(STYLE):
        font = fonts.get_font(fonts.findfont(fonts.FontProperties()))
    shown = sorted({*task, *"".join(analysis.answers.labels)})
    return "".join(character for character in shown if not font.get_char_index(ord(character)))


def _drawers(analysis: Analysis) -> dict[str, Callable[[str, Analysis], Any]]:
    found: dict[str, Callable[[str, Analysis], Any]] = {"confusion": _draw_table}
    if analysis.calibration is not None:
        found |= {"reliability": _draw_reliability, "coverage": _draw_coverage}
    if analysis.clusters is not None:
        found["labels"] = _draw_dendrogram
    return found


def new_figure(width: float, height: float, title: str, subtitle: str) -> tuple[Any, Any]:
    """Return a figure with its axes. The title and subtitle stand above, flush left."""
    figure = extra("matplotlib.figure").Figure(figsize=(width, height))
    axes = figure.add_subplot()
    inch = 1 / height
    figure.subplots_adjust(top=1 - 0.75 * inch)
    figure.text(0.02, 1 - 0.2 * inch, title, fontsize=14, fontweight="bold", va="center")
    figure.text(0.02, 1 - 0.45 * inch, subtitle, color=FAINT, va="center")
    return figure, axes


def _draw_table(task: str, analysis: Analysis) -> Any:
    """Draw the table with rows and columns in dendrogram order, so that similar labels are neighbours."""
    order = _order(analysis)
    labels = [analysis.answers.labels[i] for i in order]
    if analysis.matrix is not None:
        table, rows = analysis.matrix.normalised(), "gold label"
        what = "Share of the articles of each label, in %, by the label they got"
    else:
        table, rows = analysis.soft.mean, "label that articles got"
        what = "Mean probability, in %, of each label, by the label that articles got"
    table = table[np.ix_(order, order)]
    size = float(np.clip(0.42 * len(labels), 4.5, 13))
    figure, axes = new_figure(size + 1.5, size + 1.8, f"What “{task}” mixes up", what)
    image = axes.imshow(np.nan_to_num(table), cmap=_colours(), vmin=0, vmax=1)
    names = [one_line(label) for label in labels] if len(labels) <= NAMED else []
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted" if analysis.matrix is not None else "label", ylabel=rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(labels) <= WRITTEN:
        _write_cells(axes, table)
    else:
        figure.colorbar(image, ax=axes, shrink=0.5, format=lambda x, _: f"{100 * x:.0f} %")
    return figure


def _order(analysis: Analysis) -> list[int]:
    """Return the labels that occur, in dendrogram order."""
    answers = analysis.answers
    if analysis.clusters is None:
        return [int(i) for i in np.flatnonzero(answers.occurring)]
    return [answers.labels.index(label) for label in analysis.clusters.order]


def _colours() -> Any:
    steps = [PAPER, "#f0d9b5", "#dc9a62", RED, "#5c0f1c"]
    return extra("matplotlib.colors").LinearSegmentedColormap.from_list("newsie", steps)


def _write_cells(axes: Any, table: NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(table):
        if value >= 0.005:
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color=PAPER if value > 0.55 else INK,
            )


def _draw_reliability(task: str, analysis: Analysis) -> Any:
    assert analysis.calibration is not None  # see _drawers
    found = analysis.calibration
    error = f"{100 * found.expected_calibration_error:.1f}"
    figure, axes = new_figure(
        5.2,
        5.4,
        f"Can “{task}” be believed?",
        f"Articles right at each confidence, with 95 % intervals; {error} points off on average",
    )
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(0.02, 0.05, "as right as sure", color=FAINT, rotation=45, fontsize=8)
    x = [b.confidence for b in found.bins]
    y = [b.accuracy.value for b in found.bins]
    down = [b.accuracy.value - b.accuracy.low for b in found.bins]
    up = [b.accuracy.high - b.accuracy.value for b in found.bins]
    axes.errorbar(x, y, yerr=[down, up], color=BLUE, marker="o", markersize=4, linewidth=1.5)
    axes.set(xlabel="confidence, %", ylabel="right, %", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    _percent_axes(axes, "xy")
    return figure


def _draw_coverage(task: str, analysis: Analysis) -> Any:
    assert analysis.calibration is not None  # see _drawers
    points = analysis.calibration.risk_coverage
    figure, axes = new_figure(
        6.2,
        4.4,
        f"“{task}”, if it need not answer everything",
        "Right answers among the surest articles, by the share of articles that is answered",
    )
    axes.plot([p.coverage for p in points], [p.accuracy for p in points], color=RED, linewidth=2)
    for threshold in analysis.calibration.thresholds:
        if threshold.threshold is None or threshold.precision is None:
            continue
        axes.plot(threshold.coverage, threshold.precision, "o", color=INK, markersize=4)
        axes.annotate(
            f"{100 * threshold.wanted:.0f} % promised\nfrom confidence {threshold.threshold:.2f}",
            (threshold.coverage, threshold.precision),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=7.5,
        )
    lowest = min(p.accuracy for p in points)
    axes.set(xlabel="articles answered, %", ylabel="right, %", xlim=(0, 1.02))
    axes.set_ylim(max(0, lowest - 0.03), 1.02)
    _percent_axes(axes, "xy")
    axes.grid(axis="y", color=FAINT, alpha=0.25)
    return figure


def _draw_dendrogram(task: str, analysis: Analysis) -> Any:
    assert analysis.clusters is not None  # see _drawers
    labels, merges = analysis.answers.labels, analysis.clusters.merges
    order = analysis.clusters.order
    height = float(np.clip(0.27 * len(order), 2.5, 16))
    figure, axes = new_figure(
        6.5,
        height + 1.4,
        f"Which labels of “{task}” are near each other",
        "0: cannot be told apart; 1: neither ever gets any of the other’s probability",
    )
    place = {labels.index(label): (float(i), 0.0) for i, label in enumerate(order)}
    for number, merge in enumerate(merges):
        (y1, x1), (y2, x2) = place[merge.left], place[merge.right]
        x = merge.distance
        colour = RED if x <= 0.5 else INK
        axes.plot([x1, x, x, x2], [y1, y1, y2, y2], color=colour, linewidth=1.4)
        place[len(labels) + number] = ((y1 + y2) / 2, x)
    names = [one_line(label) for label in order] if len(order) <= 2 * NAMED else []
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.5, -0.5), xlabel="distance")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axvline(0.5, color=RED, linewidth=0.8, linestyle=(0, (2, 3)))
    return figure


def _percent_axes(axes: Any, which: str) -> None:
    for name in which:
        getattr(axes, f"{name}axis").set_major_formatter(lambda value, _: f"{100 * value:.0f}")
