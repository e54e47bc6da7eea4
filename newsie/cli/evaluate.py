"""`newsie evaluate`: predictions compared with the gold labels of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from newsie.cli.gold_labels import Maps, check_gold_labels, map_labels, parse_mapping
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
    from newsie.labels import LabelSpace
    from newsie.metrics.evaluation import Evaluation

__all__ = ["evaluate"]


def evaluate(
    file: Annotated[
        str, typer.Argument(help="Articles with gold labels: CSV, JSONL, Parquet, ...")
    ],
    model: Model = None,
    task: Tasks = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    columns: GoldColumns = None,
    map_: Maps = None,
    strict: Strict = False,
) -> None:
    """Measure a model on articles with gold labels: accuracy, macro-F1, calibration."""
    fields, mapping = parse_columns(columns), parse_mapping(map_)
    from newsie.cli.terminal import counted, note, print_json
    from newsie.data.readers import ArticleReader
    from newsie.inference.classifier import Classifier
    from newsie.metrics.evaluation import evaluate_predictions

    classifier = Classifier.from_pretrained(model)
    asked = chosen_tasks(task, classifier.labels)
    rules = gold_rules(fields, classifier.labels, asked or classifier.tasks)
    rules = map_labels(rules, mapping, classifier.labels)
    reader = ArticleReader(file, columns=fields, rules=rules, strict=strict)
    note(f"columns: {reader.describe_columns()}")
    tasks = _answerable(reader, asked, classifier.labels)
    check_gold_labels(
        file, fields, {name: rules[name] for name in tasks}, classifier.labels, mapping
    )
    stream = classifier.classify_stream(reader, tasks=tasks)
    pairs = counted(stream, "articles", lambda: reader.share)
    found = evaluate_predictions(pairs, classifier.labels)
    _report(reader, found, tasks)
    if json_:
        print_json(found.to_json())
    else:
        _print_table(found, classifier.labels)


def _answerable(
    reader: ArticleReader, asked: Sequence[str] | None, labels: LabelSpace
) -> list[str]:
    """Return the tasks with a column of gold labels in the file."""
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
    """Report on stderr what was skipped or left out; raise ReadError if nothing can be measured."""
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


def _print_table(found: Evaluation, labels: LabelSpace) -> None:
    import sys

    from newsie.cli.terminal import Style, one_line

    style = Style(sys.stdout)
    header = ("task", "articles", "no label", "unknown", "accuracy", "macro-F1", "labels", "ECE")
    rows = [header, *(_row(name, found) for name in found.tasks)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for number, row in enumerate(rows):
        cells = zip(row, widths, strict=True)
        line = "  ".join(
            f"{x:<{w}}" if i in (0, 4, 5) else f"{x:>{w}}" for i, (x, w) in enumerate(cells)
        )
        print(style.dim(line) if number == 0 else line)
    for name, m in found.tasks.items():
        if m.never_predicted:
            never = ", ".join(labels[name].labels[index] for index in m.never_predicted)
            print(one_line(f"{name}: predicted for no article, though some have it: {never}"))
    for line in (
        "[low, high]: 95 % intervals. ECE: expected calibration error.",
        "Left out: articles with no label, or one unknown to the model. macro-F1 is the mean over the",
        "labels that occur, of all that the task has.",
    ):
        print(style.dim(line))


def _row(name: str, found: Evaluation) -> tuple[str, ...]:
    from newsie.cli.terminal import one_line

    m = found.tasks[name]
    right, f1 = m.accuracy_interval, m.macro_f1_interval
    return (
        one_line(name),
        f"{m.support:,}",
        f"{found.without_label.get(name, 0):,}",
        f"{sum(found.unknown_labels.get(name, {}).values()):,}",
        f"{m.accuracy:.3f} [{right.low:.3f}, {right.high:.3f}]",
        f"{m.macro_f1:.3f} [{f1.low:.3f}, {f1.high:.3f}]",
        f"{m.measured} of {m.classes}",
        f"{m.expected_calibration_error:.3f}",
    )
