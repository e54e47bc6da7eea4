"""`newsie evaluate`: predictions compared with the gold labels of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from newsie.cli.options import (
    GoldColumns,
    Model,
    Strict,
    Tasks,
    chosen_tasks,
    gold_rules,
    parse_columns,
)

if TYPE_CHECKING:
    from newsie.data.readers import ArticleReader
    from newsie.evaluation import Evaluation
    from newsie.labels import LabelSpace

__all__ = ["evaluate"]


def evaluate(
    file: Annotated[
        str, typer.Argument(help="Articles with gold labels: CSV, JSONL, Parquet, ...")
    ],
    model: Model = None,
    task: Tasks = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    columns: GoldColumns = None,
    strict: Strict = False,
) -> None:
    """Measure a model on articles with gold labels: accuracy, macro-F1, calibration."""
    fields = parse_columns(columns)
    from newsie.classifier import Classifier
    from newsie.cli.terminal import counted, note, print_json
    from newsie.data.readers import ArticleReader
    from newsie.evaluation import evaluate_predictions

    classifier = Classifier.from_pretrained(model)
    asked = chosen_tasks(task, classifier.labels)
    rules = gold_rules(fields, classifier.labels, asked or classifier.tasks)
    reader = ArticleReader(file, columns=fields, rules=rules, strict=strict)
    note(f"columns: {reader.describe_columns()}")
    tasks = _answerable(reader, asked, classifier.labels)
    stream = classifier.classify_stream(reader, tasks=tasks)
    pairs = counted(stream, "articles", lambda: reader.share)
    found = evaluate_predictions(pairs, classifier.labels)
    _report(reader, found, tasks)
    if json_:
        print_json(found.to_json())
    else:
        _print_table(found)


def _answerable(
    reader: ArticleReader, asked: Sequence[str] | None, labels: LabelSpace
) -> list[str]:
    """The tasks whose gold labels the file has a column for."""
    from newsie.cli.terminal import note
    from newsie.errors import ReadError

    missing = reader.missing_rules
    tasks = [name for name in asked or labels.names if name not in missing]
    described = ", ".join(f"{name} (column {column!r})" for name, column in missing.items())
    if not tasks or (asked and missing):
        raise ReadError(
            reader.path,
            f"has no gold labels for {described}; its columns: {', '.join(reader.column_names)}; say "
            f"which one it is: --columns {next(iter(missing))}=COLUMN",
        )
    if missing:
        note(f"not measured, no such column: {described}")
    return tasks


def _report(reader: ArticleReader, found: Evaluation, tasks: Sequence[str]) -> None:
    """Say on stderr what was skipped or left out; fail if nothing can be measured."""
    from newsie.cli.terminal import note
    from newsie.errors import ReadError

    if summary := reader.problems.summary():
        note(summary)
    for name, unknown in found.unknown_labels.items():
        shown = ", ".join(f"{label!r} ({n:,})" for label, n in list(unknown.items())[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        note(
            f"{name}: {sum(unknown.values()):,} articles left out, the model does not know their "
            f"gold labels {shown}{more}"
        )
    for name, column in reader.empty_rules.items():
        note(f"{name}: not measured, no article has a label in column {column!r}")
    if not found.tasks:
        raise ReadError(
            reader.path, f"no article has a gold label that the model knows for {', '.join(tasks)}"
        )


def _print_table(found: Evaluation) -> None:
    import sys

    from newsie.cli.terminal import Style, one_line

    style = Style(sys.stdout)
    wide = max(len("task"), *(len(one_line(name)) for name in found.tasks))
    print(
        style.dim(
            f"{'task':<{wide}}  {'articles':>9}  {'accuracy':<21}  {'macro-F1':<21}  {'ECE':>5}"
        )
    )
    for name, m in found.tasks.items():
        low, high = m.accuracy_interval, m.macro_f1_interval
        print(
            f"{one_line(name):<{wide}}  {m.support:>9,}"
            f"  {m.accuracy:.3f} [{low.low:.3f}, {low.high:.3f}]"
            f"  {m.macro_f1:.3f} [{high.low:.3f}, {high.high:.3f}]"
            f"  {m.expected_calibration_error:.3f}"
        )
    print(style.dim("[low, high]: 95 % bootstrap intervals. ECE: expected calibration error."))
