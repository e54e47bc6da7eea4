"""`newsie classify`: predictions for texts, a file, or standard input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsie.cli.options import Columns, Model, Strict, Tasks, chosen_tasks, parse_columns
from newsie.cli.sources import check_source, is_file, open_source

if TYPE_CHECKING:
    from newsie.classifier import Classifier
    from newsie.cli.terminal import Style
    from newsie.data.articles import Article
    from newsie.data.readers import ArticleReader
    from newsie.prediction import Prediction

__all__ = ["classify"]

JSON_LINES = (".jsonl", ".ndjson")
Pairs = Iterable[tuple["Article", "Prediction"]]
TABLE_LABELS, TABLE_SCORE = 3, 0.01
"""A table shows this many labels of a task, without those below this score but the first."""


def classify(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Articles; the first line of each is its headline. - reads lines of standard "
            "input, JSON objects or a headline each, and answers after 256 lines or at the end.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", help="Read articles from a file: CSV, TSV, JSON, JSONL, Parquet, ..."
        ),
    ] = None,
    task: Tasks = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            "-k",
            min=1,
            help="Labels of each task. (default: 3 in tables, 1 in CSV and Parquet, all in JSON)",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON Lines.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write to a file: .jsonl, .csv or .parquet; - is --json."
        ),
    ] = None,
    columns: Columns = None,
    strict: Strict = False,
) -> None:
    """Classify news articles."""
    fields = parse_columns(columns)
    check_source(texts, file)
    if str(output) == "-":
        json_, output = True, None
    _check_output(output, json_, file)
    from newsie.classifier import Classifier

    classifier = Classifier.from_pretrained(model)
    tasks = chosen_tasks(task, classifier.labels)
    reader = open_source(texts, file, fields, strict)
    articles: Iterable[Article | str] = (texts or []) if reader is None else reader
    tally = _Tally(classifier)
    pairs = tally.watch(classifier.classify_stream(articles, tasks=tasks))
    if output is not None:
        _write(pairs, output, top_k)
    elif json_:
        _print_json(pairs, top_k)
    else:
        _print_table(pairs, top_k)
    tally.report(reader)


def _check_output(output: Path | None, json_: bool, file: str | None) -> None:
    if output is None:
        return
    if json_ and output.suffix.lower() not in JSON_LINES:
        raise typer.BadParameter(
            f"--json asks for JSON Lines, and {str(output)!r} is another format; leave --json out, "
            "or name a file that ends in .jsonl",
            param_hint="--output",
        )
    if file is not None and is_file(file) and is_file(str(output)) and output.samefile(file):
        raise typer.BadParameter(
            f"{str(output)!r} is the file that is read; name another one", param_hint="--output"
        )


class _Tally:
    """Counts what passes, to be told at the end."""

    def __init__(self, classifier: Classifier) -> None:
        self._max_tokens = classifier.max_tokens
        self.articles = self.truncated = 0

    def watch(self, pairs: Pairs) -> Iterator[tuple[Article, Prediction]]:
        """The same pairs."""
        for pair in pairs:
            self.articles += 1
            self.truncated += pair[1].truncated
            yield pair

    def report(self, reader: ArticleReader | None) -> None:
        """Say on stderr what was cut off and what was skipped; fail if nothing was left."""
        from newsie.cli.terminal import note
        from newsie.errors import InputError

        if self.truncated:
            note(
                f"{self.truncated:,} of {self.articles:,} articles are longer than the model reads "
                f"({self._max_tokens} tokens); the rest of each was not read"
            )
        if reader is None:
            return
        if summary := reader.problems.summary():
            note(summary)
        if not self.articles:
            raise InputError(
                f"{reader.path}: no article could be classified; rows read: {reader.rows:,}"
            )


def _write(pairs: Pairs, output: Path, top_k: int | None) -> None:
    from newsie.cli.terminal import counted, note
    from newsie.data.writers import open_writer

    nested = output.suffix.lower() in JSON_LINES
    with open_writer(output) as writer:
        for article, prediction in counted(pairs, "articles"):
            writer.write(
                _nested_row(article, prediction, top_k)
                if nested
                else _flat_row(article, prediction, top_k or 1)
            )
    note(f"{writer.rows:,} predictions written to {output}")


def _print_json(pairs: Pairs, top_k: int | None) -> None:
    import sys

    from newsie.cli.terminal import counted
    from newsie.data.writers import open_writer

    shown = pairs if sys.stdout.isatty() else counted(pairs, "articles")
    with open_writer("-") as writer:
        for article, prediction in shown:
            writer.write(_nested_row(article, prediction, top_k))


def _nested_row(article: Article, prediction: Prediction, top_k: int | None) -> dict[str, Any]:
    return {
        "id": article.id,
        "headline": article.headline,
        "predictions": prediction.to_json(top_k),
        "truncated": prediction.truncated,
    }


def _flat_row(article: Article, prediction: Prediction, top_k: int) -> dict[str, Any]:
    """Columns id, headline, TASK, TASK_score, TASK_2, TASK_2_score, ..., truncated."""
    row: dict[str, Any] = {"id": article.id, "headline": article.headline}
    for task in prediction.tasks:
        for rank, (label, score) in enumerate(prediction.top(task, top_k), 1):
            name = task if rank == 1 else f"{task}_{rank}"
            row[name], row[f"{name}_score"] = label, score
    return {**row, "truncated": prediction.truncated}


def _print_table(pairs: Pairs, top_k: int | None) -> None:
    import sys

    from newsie.cli.terminal import Style, counted

    style = Style(sys.stdout)
    shown = pairs if style.terminal else counted(pairs, "articles")
    for number, (article, prediction) in enumerate(shown):
        lines = _table(article, prediction, top_k, style)
        print(*([""] if number else []), *lines, sep="\n", flush=style.terminal)


def _table(
    article: Article, prediction: Prediction, top_k: int | None, style: Style
) -> Iterator[str]:
    """Lines such as "  section  sports  94 % ██████████"."""
    from newsie.cli.terminal import bar, shorten, width_of
    from newsie.data.cleaning import clean_text

    # Cleaned also because a headline could hold control sequences for the terminal.
    title = clean_text(article.headline) or clean_text(article.body[:1000])
    identifier = f"{clean_text(article.id)}  " if article.id else ""
    yield style.dim(identifier) + style.bold(shorten(title, style.width - width_of(identifier)))
    rows = [(task, *row) for task in prediction.tasks for row in _shown(prediction, task, top_k)]
    task_width = max(width_of(task) for task, _, _ in rows)
    label_width = max(width_of(label) for _, label, _ in rows)
    room = max(style.width - task_width - label_width - 14, 10)
    previous = ""
    for task, label, score in rows:
        name = "" if task == previous else task
        percent = f"{100 * score:.0f} %" if score >= 0.005 else "<1 %"
        yield (
            f"  {style.dim(_fill(name, task_width))}  {_fill(label, label_width)} {percent:>6} "
            f"{style.accent(bar(score, min(room, 40)))}"
        ).rstrip()
        previous = task


def _shown(prediction: Prediction, task: str, top_k: int | None) -> list[tuple[str, float]]:
    if top_k is not None:
        return prediction.top(task, top_k)
    best = prediction.top(task, TABLE_LABELS)
    return best[:1] + [row for row in best[1:] if row[1] >= TABLE_SCORE]


def _fill(text: str, width: int) -> str:
    from newsie.cli.terminal import width_of

    return text + " " * (width - width_of(text))
