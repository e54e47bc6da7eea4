"""Accuracy against speed, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["draw_chart"]

NEWSIE, PEER = "#1f5fa8", "#8a8a8a"


def draw_chart(points: Mapping[str, tuple[float, float, bool]], title: str, path: Path) -> None:
    """Write an SVG or PNG.

    Args:
        points: name -> (articles a second, accuracy 0 to 1, whether it is Newsie's).
        title: what is measured, and on what.
        path: the file; its ending decides the format.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    axes.set_xscale("log")
    for name, (rate, accuracy, own) in points.items():
        colour = NEWSIE if own else PEER
        axes.scatter(rate, 100 * accuracy, color=colour, s=36, zorder=3)
        axes.annotate(
            name,
            (rate, 100 * accuracy),
            xytext=(0, 7 if own else -14),  # so that neighbours do not write over each other
            textcoords="offset points",
            ha="center",
            color=colour,
        )
    axes.set(xlabel="articles a second (log)", ylabel="accuracy, %", title=title)
    axes.grid(alpha=0.3)
    axes.margins(x=0.15, y=0.15)
    figure.savefig(path)
    pyplot.close(figure)
