"""`newsie classify`: predictions for texts, a file, or standard input."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsie.atomic import check_regular
from newsie.cli.bulk import JSON_LINES, Bulk, Job, into_folder, tell_skipped, tell_truncated
from newsie.cli.options import Columns, Model, Strict, Tasks, chosen_tasks, parse_columns
from newsie.cli.sources import (
    check_source,
    find_files,
    fixed_folder,
    is_directory,
    is_file,
    is_pattern,
    open_source,
)
from newsie.cli.written import check_replaceable, input_name, start_record, write_record

if TYPE_CHECKING:
    from newsie.bulk.rows import Answer
    from newsie.cli.terminal import Style
    from newsie.data.articles import Article
    from newsie.data.readers import ArticleReader
    from newsie.inference.classifier import Classifier
    from newsie.inference.prediction import Prediction

__all__ = ["classify"]

TABLE_LABELS, TABLE_SCORE = 3, 0.01
"""The most labels of a task in a table, and the least score of all but the first."""


BULK_BYTES = 10_000_000
"""The total size of files from which looking for a faster runtime, a second or two, is worthwhile."""


class Engine(StrEnum):
    """The engine that classifies files."""

    local = "local"
    ray = "ray"


def classify(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Articles; the first line of each is its headline. - reads standard input: CSV, TSV, "
            "JSON, JSON Lines, Parquet, or a headline a line, told apart by the content.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            help="Read articles from a file: CSV, TSV, JSON, JSONL, Parquet, ...; from a pipe, such as "
            "/dev/stdin; or from several files, big/*.parquet, into a folder.",
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
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Write to a file: .jsonl, .csv or .parquet; or to a folder: out/; - is --json. "
            "A run that ended early goes on when the same command is given again.",
        ),
    ] = None,
    columns: Columns = None,
    strict: Strict = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="With -o: also replace a file that no earlier run wrote for the same input.",
        ),
    ] = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw-csv",
            help="Write text in CSV as it is: without an apostrophe before cells that a spreadsheet would "
            "run as formulas, and without a byte order mark.",
        ),
    ] = False,
    engine: Annotated[
        Engine,
        typer.Option(
            help="Where many files are answered: on this machine, or on the Ray cluster that "
            "RAY_ADDRESS names (extra ray)."
        ),
    ] = Engine.local,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that answer many files at once and share the cores: for fast students, "
            "or many cores.",
        ),
    ] = 1,
) -> None:
    """Classify news articles."""
    fields = parse_columns(columns)
    check_source(texts, file)
    if output == "-":
        json_, output = True, None
    jobs, folder = _plan(texts, file, output, json_, overwrite)
    if engine is Engine.ray and not folder:
        raise typer.BadParameter(
            "--engine ray answers files into a folder: --file 'big/*.parquet' -o out/",
            param_hint="--engine",
        )
    threads = None
    if processes > 1:
        if engine is Engine.ray or not folder:
            raise typer.BadParameter(
                "several processes answer files into a folder, on this machine: "
                "--file 'big/*.parquet' -o out/",
                param_hint="--processes",
            )
        from newsie.cli.processes import many_in_processes, share_of_cores

        threads = share_of_cores(processes)
    from newsie.inference.classifier import Classifier

    _choose_runtime(jobs)
    classifier = Classifier.from_pretrained(model, threads=threads)
    tasks = chosen_tasks(task, classifier.labels)
    if jobs:
        bulk = Bulk(classifier, tasks, top_k, fields, strict, raw)
        if engine is Engine.ray:
            from newsie.cli.on_ray import many_on_ray

            bulk.prepare(jobs)
            many_on_ray(bulk, jobs, model)
        elif processes > 1:
            many_in_processes(bulk, jobs, model, processes)
        else:
            bulk.many(jobs) if folder else bulk.one(jobs[0])
        return
    reader = open_source(texts, file, fields, strict)
    tally: Counter[str] = Counter()
    found = _counted(_answers(classifier, reader, texts or [], tasks), tally)
    if output is not None:
        _write(found, Path(output), input_name(file, texts), top_k, raw)
    elif json_:
        _print_json(found, top_k)
    else:
        _print_table(found, top_k)
    _report(tally, classifier, reader)


def _choose_runtime(jobs: Sequence[Job]) -> None:
    """Choose the fastest runtime for large inputs, unless another one is requested."""
    from newsie.inference.openvino import FASTEST, VARIABLE

    size = sum(job.source.stat().st_size for job in jobs if job.source.exists())
    if size >= BULK_BYTES:
        os.environ.setdefault(VARIABLE, FASTEST)


def _plan(
    texts: list[str] | None, file: str | None, output: str | None, json_: bool, overwrite: bool
) -> tuple[list[Job], bool]:
    """Return the jobs, and whether they write into a folder.

    There are no jobs if the articles are not files or the predictions are printed.
    """
    if file is None or not (is_file(file) or is_pattern(file)):
        if output is not None and (output.endswith("/") or is_directory(output)):
            raise typer.BadParameter(
                f"{output!r} is a folder, for the answers to files; name one file, such as "
                "-o answers.jsonl",
                param_hint="--output",
            )
        _check_output(output, json_, texts, file, overwrite)
        return [], False
    files = find_files(texts, file)
    folder = output is not None and (output.endswith("/") or Path(output).is_dir())
    if len(files) > 1 or is_pattern(file) or folder:
        if output is None:
            raise typer.BadParameter(
                f"{len(files):,} file(s) are answered into a folder; name it: -o out/",
                param_hint="--output",
            )
        below = fixed_folder(file) if is_pattern(file) else None
        return into_folder(files, Path(output), json_, below, overwrite=overwrite), True
    _check_output(output, json_, texts, file, overwrite)
    return ([] if output is None else [Job(Path(file), Path(output))]), False


def _check_output(
    output: str | None, json_: bool, texts: list[str] | None, file: str | None, overwrite: bool
) -> None:
    if output is None:
        return
    if json_ and Path(output).suffix.lower() not in JSON_LINES:
        raise typer.BadParameter(
            f"--json asks for JSON Lines, and {output!r} is another format; leave --json out, "
            "or name a file that ends in .jsonl",
            param_hint="--output",
        )
    if file is not None and is_file(file) and is_file(output) and Path(output).samefile(file):
        raise typer.BadParameter(
            f"{output!r} is the file that is read; name another one", param_hint="--output"
        )
    if overwrite:
        check_regular(Path(output))
    else:
        check_replaceable(Path(output), input_name(file, texts), "name another file")


def _answers(
    classifier: Classifier,
    reader: ArticleReader | None,
    texts: list[str],
    tasks: list[str] | None,
) -> Iterator[Answer]:
    from newsie.bulk.rows import answers, text_answers

    if reader is None:
        return text_answers(classifier, texts, tasks)
    return answers(classifier, reader, tasks)


def _counted(found: Iterable[Answer], tally: Counter[str]) -> Iterator[Answer]:
    """Yield the same predictions while counting them and the articles that were cut off."""
    for answer in found:
        tally["articles"] += 1
        tally["truncated"] += answer.prediction.truncated
        yield answer


def _report(tally: Counter[str], classifier: Classifier, reader: ArticleReader | None) -> None:
    """Report on stderr what was cut off and what was skipped.

    Raises InputError if nothing was left, or if the source was not read to its end.
    """
    from newsie.errors import InputError

    tell_truncated(tally, classifier)
    if reader is None:
        return
    tell_skipped(reader)
    if reader.cut_off is not None:
        raise InputError(
            f"{reader.path} was not read to its end, only up to row {reader.cut_off.row:,}"
        )
    if not tally["articles"]:
        raise InputError(
            f"{reader.path}: no article could be classified; rows read: {reader.rows:,}"
        )


def _write(
    found: Iterable[Answer], output: Path, source: str, top_k: int | None, raw: bool
) -> None:
    from newsie.bulk.resumable_file import locked_target
    from newsie.bulk.rows import flat_row, nested_row
    from newsie.cli.terminal import counted, note
    from newsie.data.writers import open_writer

    nested = output.suffix.lower() in JSON_LINES
    with locked_target(output):
        with open_writer(output, raw=raw) as writer:
            for answer in counted(found, "articles"):
                writer.write(nested_row(answer, top_k) if nested else flat_row(answer, top_k or 1))
            start_record(output)
        write_record(output, {"file": source})
    note(f"{writer.rows:,} predictions written to {output}")


def _print_json(found: Iterable[Answer], top_k: int | None) -> None:
    import sys

    from newsie.bulk.rows import nested_row
    from newsie.cli.terminal import counted
    from newsie.data.writers import open_writer

    shown = found if sys.stdout.isatty() else counted(found, "articles")
    with open_writer("-") as writer:
        for answer in shown:
            writer.write(nested_row(answer, top_k))


def _print_table(found: Iterable[Answer], top_k: int | None) -> None:
    import sys

    from newsie.cli.terminal import Style, counted

    style = Style(sys.stdout)
    shown = found if style.terminal else counted(found, "articles")
    for number, answer in enumerate(shown):
        lines = _table(answer.article, answer.prediction, top_k, style)
        print(*([""] if number else []), *lines, sep="\n", flush=style.terminal)


def _table(
    article: Article, prediction: Prediction, top_k: int | None, style: Style
) -> Iterator[str]:
    """Yield lines such as "  section  sports  94 % ██████████"."""
    from newsie.cli.terminal import bar, one_line, shorten, width_of
    from newsie.data.cleaning import clean_text

    # Cleaned also because a headline could hold control sequences for the terminal.
    title = clean_text(article.headline) or clean_text(article.body[:1000])
    identifier = f"{clean_text(article.id)}  " if article.id else ""
    yield style.dim(identifier) + style.bold(shorten(title, style.width - width_of(identifier)))
    rows = [
        (one_line(task), one_line(label), score)
        for task in prediction.tasks
        for label, score in _shown(prediction, task, top_k)
    ]
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
