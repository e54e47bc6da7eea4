"""The results of a search: the Pareto front as a table, as a figure, and as recipes of its students."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import TypeAdapter

from newsie.atomic import write_text
from newsie.confusion.plots import BLUE, FAINT, INK, STYLE, new_figure, save_figure
from newsie.extras import extra
from newsie.laboratory.search import Budget, Candidate, front
from newsie.training.config import Recipe
from newsie.training.experiment import SearchConfig
from newsie.training.metrics_report import table

__all__ = ["write_shortlist"]


def write_shortlist(
    recipe: Recipe,
    candidates: Sequence[Candidate],
    ends: Mapping[str, int],
    budget: Budget,
    told: dict[str, Any],
    directory: Path,
) -> list[Path]:
    """Write search.json, search.md, the figure, and a recipe for each student of the front.

    Args:
        recipe: the recipe of the search.
        candidates: the finished students.
        ends: final state of trials -> number of trials.
        budget: the maximum cost of a student.
        told: command, date, machine, packages: plain JSON values.
        directory: folder of the files.
    """
    best = front(candidates)
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob(f"{recipe.name}-*.toml"):  # an earlier front may have been longer
        if old.stem.removeprefix(f"{recipe.name}-").isdecimal():
            old.unlink()
    written = [
        _write_recipe(recipe, candidate, number, directory)
        for number, candidate in enumerate(best, start=1)
    ]
    content = {
        "circumstances": told,
        "budget": {"milliseconds": budget.milliseconds, "megabytes": budget.megabytes},
        "trials": dict(ends),
        "front": [candidate.number for candidate in best],
        "students": TypeAdapter(list[Candidate]).dump_python(list(candidates), mode="json"),
    }
    raw, text = directory / "search.json", directory / "search.md"
    write_text(raw, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(text, _markdown(recipe, candidates, best, ends, budget, told))
    with extra("matplotlib").rc_context(STYLE):
        drawn = save_figure(_draw(candidates, best), directory / "search-front")
    return [raw, text, *drawn, *written]


def _write_recipe(recipe: Recipe, candidate: Candidate, number: int, directory: Path) -> Path:
    """Write the recipe with a student of the front, which learns from all articles, and return its path."""
    name = f"{recipe.name}-{number}"
    found = replace(recipe, name=name, student=candidate.student, compare=None, search=None)
    path = directory / f"{name}.toml"
    write_text(path, tomli_w.dumps(_without_none(found.to_json())))
    return path


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content without values of None, which TOML cannot express and which are the defaults."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value is not None
    }


def _markdown(
    recipe: Recipe,
    candidates: Sequence[Candidate],
    best: Sequence[Candidate],
    ends: Mapping[str, int],
    budget: Budget,
    told: Mapping[str, Any],
) -> str:
    limit = (recipe.search or SearchConfig()).articles
    articles = f"{limit:,} articles" if limit else "all articles"
    states = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    packages = ", ".join(f"{name} {version}" for name, version in told["packages"].items())
    parts = [
        f"# Students of `{recipe.name}` under a budget",
        f"`{told['command']}`, {told['date']}, on {told['cores']} cores of {told['processor']}. Code: "
        f"{told['commit'] or 'not in a git checkout'}. {packages}.",
        f"At most {budget.milliseconds:g} ms for an article alone on one thread, and "
        f"{budget.megabytes:g} MB in int8. Trials: {states}. Each student learns from {articles}, once, of "
        "one seed: small differences may be chance. Macro-F1 is that of validation articles, of the "
        "evaluation where it was highest, and so a little flattering; measure a student that you choose on "
        "test articles: `newsie train RECIPE --figures DIR`.",
        "## The front: students that no other one beats",
        _student_table(
            [(f"{recipe.name}-{n}", candidate) for n, candidate in enumerate(best, start=1)]
        ),
        "## All finished students, the best first",
        _student_table([(f"{c.number}", c) for c in sorted(candidates, key=lambda c: -c.macro_f1)]),
    ]
    return "\n\n".join(parts) + "\n"


def _student_table(rows: Sequence[tuple[str, Candidate]]) -> str:
    header: tuple[str, ...] = (
        "student",
        "macro-F1",
        "ms",
        "MB",
        "articles/s",
        "layers",
        "tokens",
        "word pieces",
    )
    header += ("temperature", "alpha", "loss", "epochs", "rate", "warm-up")
    return table(
        header,
        [
            (
                name,
                f"{100 * c.macro_f1:.2f}",
                f"{c.cost.milliseconds:.2f}",
                f"{c.cost.megabytes:.1f}",
                f"{c.cost.articles_per_second:,.0f}",
                f"{c.student.layers}",
                f"{c.student.max_tokens}",
                f"{c.student.vocabulary:,}" if c.student.vocabulary else "all",
                f"{c.student.distillation.temperature:g}",
                f"{c.student.distillation.alpha:g}",
                c.student.distillation.loss,
                f"{c.student.fit.epochs:g}",
                f"{c.student.fit.learning_rate:g}",
                f"{c.student.fit.warmup_ratio:g}",
            )
            for name, c in rows
        ],
    )


def _draw(candidates: Sequence[Candidate], best: Sequence[Candidate]) -> Any:
    """Draw macro-F1 against time; the area of a point shows the student's size in MB."""
    figure, axes = new_figure(
        6.8,
        4.6,
        "Which student for which budget?",
        "Macro-F1 on validation articles and time for one article; the larger the point, the more MB",
    )
    for chosen, colour, alpha in ((list(candidates), FAINT, 0.35), (list(best), BLUE, 0.9)):
        axes.scatter(
            [c.cost.milliseconds for c in chosen],
            [100 * c.macro_f1 for c in chosen],
            s=[8 * c.cost.megabytes for c in chosen],
            color=colour,
            alpha=alpha,
            linewidths=0,
        )
    for number, c in enumerate(best, start=1):
        axes.annotate(
            f"{number}",
            (c.cost.milliseconds, 100 * c.macro_f1),
            xytext=(6, 5),
            textcoords="offset points",
            color=INK,
            fontsize=7.5,
        )
    axes.set(xlabel="milliseconds, one article on one thread", ylabel="macro-F1, %")
    axes.grid(color=FAINT, alpha=0.25)
    return figure
