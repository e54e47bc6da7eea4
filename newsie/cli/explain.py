"""`newsie explain`: the words that drive the predictions of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsie.cli.options import Columns, Model, Strict, Tasks, chosen_tasks, parse_columns
from newsie.cli.sources import check_source, open_source

if TYPE_CHECKING:
    from newsie.cli.terminal import Style
    from newsie.data.articles import Article
    from newsie.inference.classifier import Classifier
    from newsie.inference.explanation import Explanation
    from newsie.labels import LabelSpace

__all__ = ["explain"]

Pairs = Iterable[tuple["Article | str", "Explanation"]]
TABLE_WORDS, TABLE_EFFECT = 6, 0.0005
"""The most words of a task in a table, and their least effect."""


def explain(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Articles; the first line of each is its headline. - reads lines of standard "
            "input, JSON objects or a headline each.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", help="Read articles from a file, as classify does."),
    ] = None,
    task: Tasks = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="The label to explain, in each task that has it. (default: the most probable one)",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON Lines.")] = False,
    columns: Columns = None,
    strict: Strict = False,
) -> None:
    """Show how each word of an article moves the probability of its labels."""
    fields = parse_columns(columns)
    check_source(texts, file)
    from newsie.inference.classifier import Classifier

    classifier = Classifier.from_pretrained(model)
    tasks = chosen_tasks(task, classifier.labels)
    labels = _chosen_label(label, tasks, classifier.labels)
    reader = open_source(texts, file, fields, strict)
    articles: Iterable[Article | str] = (texts or []) if reader is None else reader
    asked = tasks or (list(labels) if labels else None)
    pairs = _explanations(classifier, articles, asked, labels)
    count = _print_json(pairs) if json_ else _print_tables(pairs)
    if reader is not None:
        from newsie.cli.terminal import note
        from newsie.errors import InputError

        if summary := reader.problems.summary():
            note(summary)
        if not count:
            raise InputError(
                f"{reader.path}: no article could be explained; rows read: {reader.rows:,}"
            )


def _chosen_label(
    label: str | None, tasks: Sequence[str] | None, space: LabelSpace
) -> dict[str, str]:
    """Return task -> the label. Raises a usage error if a requested task, or every task, lacks it."""
    if label is None:
        return {}
    asked = [space[name] for name in tasks or space.names]
    holding = [task.name for task in asked if label in task.labels]
    if not holding or (tasks and len(holding) < len(asked)):
        lacking = [task for task in asked if task.name not in holding]
        known = sorted({name for task in lacking for name in task.labels})
        close = get_close_matches(label, known, n=1, cutoff=0.5)
        raise typer.BadParameter(
            f"no label {label!r} in {', '.join(task.name for task in lacking)}; there are: "
            f"{', '.join(known)}." + (f" Did you mean {close[0]}?" if close else ""),
            param_hint="--label",
        )
    return dict.fromkeys(holding, label)


def _explanations(
    classifier: Classifier,
    articles: Iterable[Article | str],
    tasks: Sequence[str] | None,
    labels: dict[str, str],
) -> Iterator[tuple[Article | str, Explanation]]:
    """Yield each article with its explanation; report on stderr what was cut off or grouped."""
    from newsie.cli.terminal import note

    for number, article in enumerate(articles, 1):
        found = classifier.explain(article, tasks=tasks, labels=labels)
        yield article, found
        if found.truncated:
            behind = repr(found.words[-1].text[-40:]) if found.words else "its start"
            note(
                f"article {number} is longer than the model reads ({classifier.max_tokens} tokens); "
                f"what follows {behind} was not read"
            )
        if found.words_together > 1:
            note(f"article {number} is long: its words are taken {found.words_together} at a time")


def _print_json(pairs: Pairs) -> int:
    from newsie.data.writers import open_writer

    with open_writer("-") as writer:
        for article, found in pairs:
            writer.write({**_name(article), **found.to_json()})
    return writer.rows


def _name(article: Article | str) -> dict[str, Any]:
    if isinstance(article, str):
        return {"id": "", "headline": article.partition("\n")[0]}
    return {"id": article.id, "headline": article.headline}


def _print_tables(pairs: Pairs) -> int:
    import sys

    from newsie.cli.terminal import Style, shorten
    from newsie.data.cleaning import clean_text

    style, count = Style(sys.stdout), 0
    for count, (article, found) in enumerate(pairs, 1):
        # Cleaned also because a headline could hold control sequences for the terminal.
        title = clean_text(_name(article)["headline"]) or (
            found.words[0].text if found.words else ""
        )
        print(*([""] if count > 1 else []), style.bold(shorten(title, style.width)), sep="\n")
        # One scale for all tasks of an article: a longer bar is a stronger word in any of them.
        top = max((abs(x) for task in found.tasks for x in found.effects(task)), default=0.0)
        for task in found.tasks:
            print("", *_table(found, task, top, style), sep="\n", flush=style.terminal)
    if count:
        print(
            "",
            style.dim(
                "Points by which a word raises (+) or lowers (-) the probability; all bars of an "
                "article are to one scale."
            ),
            sep="\n",
        )
    return count


def _table(found: Explanation, task: str, top: float, style: Style) -> Iterator[str]:
    """Yield lines such as "  Striker  +31.2  ████████", after the task, its label and the coloured text."""
    from newsie.cli.terminal import bar, one_line, shorten, width_of

    label = style.bold(one_line(found.chosen[task]))
    yield f"{style.dim(one_line(task))}  {label} {100 * found.score(task):.0f} %"
    strongest = found.strongest(task, TABLE_WORDS)
    rows = [(shorten(word.text, 30), x) for word, x in strongest if abs(x) >= TABLE_EFFECT]
    if not rows:
        yield "  no word alone moves it"
        return
    if style.coloured:
        yield from _coloured(found, task, top, style)
    width = max(width_of(text) for text, _ in rows)
    for text, effect in rows:
        drawn = style.weigh(bar(abs(effect) / top, 30), 0.1 if effect > 0 else -0.1)
        yield f"  {text}{' ' * (width - width_of(text))}  {100 * effect:+6.1f}  {drawn}".rstrip()


def _coloured(found: Explanation, task: str, top: float, style: Style) -> Iterator[str]:
    """Yield the words that were read, in lines of the terminal's width, headline and body apart."""
    from newsie.cli.terminal import width_of

    line: list[str] = []
    used, part = 0, found.words[0].part
    for word, effect in zip(found.words, found.effects(task), strict=True):
        if line and (used + 1 + width_of(word.text) > style.width - 2 or word.part != part):
            yield "  " + " ".join(line)
            line, used = [], 0
        line.append(style.weigh(word.text, effect / top))
        used, part = used + 1 + width_of(word.text), word.part
    yield "  " + " ".join(line)
