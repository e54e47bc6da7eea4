"""`newsie confusion`: the labels that a model mixes up in a file, why, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsie.cli.answered import Answered, By
from newsie.cli.compared_model import Other, open_other
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
    from newsie.cli.terminal import Style
    from newsie.confusion.analysis import Analysis
    from newsie.confusion.comparison import Comparison
    from newsie.confusion.report import Report
    from newsie.data.articles import Article
    from newsie.data.readers import ArticleReader
    from newsie.inference.classifier import Classifier
    from newsie.labels import LabelRule, Task

__all__ = ["confusion"]

Explanations = Mapping[str, Mapping[int, Mapping[str, Any]]]


def confusion(
    file: Annotated[str, typer.Argument(help="Articles: CSV, JSONL, Parquet, ...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report.")],
    model: Model = None,
    task: Tasks = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER",
            help="What to compare with, on the same articles: another bundle; runs/NAME of newsie "
            "train, for its teacher; or a file of answers, as classify -o answers.jsonl writes it.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        By | None, typer.Option(help="Compare publishers, or months.", show_default=False)
    ] = None,
    columns: GoldColumns = None,
    map_: Maps = None,
    strict: Strict = False,
) -> None:
    """Show what a model confuses, why, and what to do; gold labels make the report complete."""
    from newsie.data.formats import is_stream

    fields, mapping = parse_columns(columns), parse_mapping(map_)
    if is_stream(file):
        raise typer.BadParameter(
            f"the articles are read twice, and {file!r} is a pipe; save it and name the file",
            param_hint="FILE",
        )
    if output.is_file():
        raise typer.BadParameter(f"{str(output)!r} is a file; name a folder", param_hint="--output")
    from newsie.extras import check_extras
    from newsie.inference.classifier import Classifier

    check_extras()
    classifier = Classifier.from_pretrained(model)
    other = None if against is None else open_other(against)
    tasks = chosen_tasks(task, classifier.labels) or list(classifier.tasks)
    named = set(fields) & set(tasks)
    rules = gold_rules(fields, classifier.labels, tasks)
    rules = map_labels(rules, mapping, classifier.labels)
    reader = _open(file, fields, rules, strict)
    _check_columns(reader, named)
    check_gold_labels(file, fields, rules, classifier.labels, mapping)
    _make_folders(output)  # before the work, so that it is not wasted
    found, articles = _analyse(reader, classifier, other, tasks, by)
    _write(found, _explain(found, classifier), output)
    _write_suspects(found, articles, output)
    _tell(found, output)


def _open(
    file: str, columns: Mapping[str, str], rules: Mapping[str, LabelRule], strict: bool
) -> ArticleReader:
    from newsie.cli.terminal import note
    from newsie.data.readers import ArticleReader

    reader = ArticleReader(file, columns=columns, rules=rules, strict=strict)
    note(f"columns: {reader.describe_columns()}")
    return reader


def _check_columns(reader: ArticleReader, named: set[str]) -> None:
    """Raise ReadError if a column named for the gold labels of a task is missing."""
    from newsie.errors import ReadError

    for task in sorted(named & set(reader.missing_rules)):
        raise ReadError(
            reader.path,
            f"no column {reader.missing_rules[task]!r} for the gold labels of {task}; the columns are: "
            f"{', '.join(reader.column_names)}",
        )


def _make_folders(output: Path) -> None:
    """Make the folders of a report, and check that files can be written there."""
    import tempfile

    from newsie.errors import InputError

    try:
        for folder in (output, output / "figures"):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"no report can be written to {output}: {error.strerror or error}; name another folder"
        ) from error


def _analyse(
    reader: ArticleReader,
    classifier: Classifier,
    other: Other | None,
    tasks: Sequence[str],
    by: By | None,
) -> tuple[Report, dict[int, Article]]:
    """Return the report, and the articles that it shows or suspects."""
    from newsie.cli.terminal import note
    from newsie.confusion.analysis import analyse
    from newsie.confusion.report import Report, shown_rows, suspect_rows
    from newsie.data.cleaning import clean_text
    from newsie.errors import ReadError

    answered = Answered([classifier.labels[name] for name in tasks], by)
    answered.read(reader, classifier)
    if summary := reader.problems.summary():  # now, because the file is read a second time
        note(summary)
    if not answered.articles:
        raise ReadError(reader.path, f"no article could be read; rows read: {reader.rows:,}")
    analyses = {}
    for task in answered.tasks:
        note(f"analysing {task.name}")
        analyses[task.name] = analyse(
            task.labels,
            answered.probabilities(task.name),
            answered.gold(task.name),
            groups=None if by is None else answered.groups,
            by="publisher" if by is None else by.value,
        )
    left_out = list(_left_out(reader, answered, by))
    comparisons = list(_press(analyses, answered.tasks))
    if other is not None:
        comparisons += _against(reader, classifier, other, analyses, left_out)
    shown = {row for found in analyses.values() for row in shown_rows(found)}
    suspects = {row for found in analyses.values() for row in suspect_rows(found)}
    articles = _read_again(reader, shown | suspects)
    report = Report(
        source=clean_text(Path(reader.path).name),
        model=_identity(classifier),
        against=None if other is None else {"name": other.name, "fingerprint": other.fingerprint},
        articles=answered.articles,
        analyses=analyses,
        comparisons=comparisons,
        texts={row: articles[row] for row in shown},
        left_out=left_out,
        without_label={name: answered.without_label(name) for name in analyses},
        unknown_label={name: answered.unknown[name].total() for name in analyses},
    )
    return report, articles


def _identity(classifier: Classifier) -> dict[str, str]:
    bundle = classifier.bundle
    return {"name": bundle.manifest.name, "fingerprint": bundle.fingerprint}


def _left_out(reader: ArticleReader, answered: Answered, by: By | None) -> Iterator[str]:
    from newsie.confusion.sentences import count

    for name, column in reader.missing_rules.items():
        yield (
            f"{name}: the file has no column {column!r}, where its gold labels would be; --columns "
            f"{name}=COLUMN names another."
        )
    if by is not None and not any(answered.groups):
        field = "publisher" if by is By.publisher else "published"
        yield f"No article names its {by.value}; --columns {field}=COLUMN says where that is."
    for name, unknown in answered.unknown.items():
        without = answered.without_label(name)
        if without and name not in reader.missing_rules:
            yield (
                f"{name}: {count(without, 'article')} of {answered.articles:,} have no gold label and are "
                "left out where one is needed."
            )
        if unknown:
            shown = ", ".join(f"{label!r} ({n:,})" for label, n in unknown.most_common(5))
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            yield (
                f"{name}: the gold labels of {count(unknown.total(), 'article')} are left out, the model "
                f"does not know {shown}{more}.{_capitals(unknown, answered.labels(name))}"
            )


def _capitals(unknown: Iterable[str], labels: Sequence[str]) -> str:
    """Return a hint if a label would be known in another case; empty if none would."""
    written = {label.casefold(): label for label in labels}
    for label in unknown:
        if known := written.get(label.strip().casefold()):
            return f" Labels are told apart by how they are written: {label!r} is not {known!r}."
    return ""


def _press(analyses: Mapping[str, Analysis], tasks: Sequence[Task]) -> Iterator[Comparison]:
    """Yield comparisons of tasks with the same column for different articles (broadsheet and tabloid)."""
    from newsie.confusion.comparison import compare

    for a, b in combinations(tasks, 2):
        one, two = a.rule, b.rule
        if one is None or two is None or one.column != two.column:
            continue
        if one.where and two.where and one.where != two.where and {*a.labels} & {*b.labels}:
            answers = analyses[a.name].answers, analyses[b.name].answers
            yield compare(*answers, names=(a.name, b.name), kind="press")


def _against(
    reader: ArticleReader,
    classifier: Classifier,
    other: Other,
    analyses: Mapping[str, Analysis],
    left_out: list[str],
) -> Iterator[Comparison]:
    """Yield comparisons with another model's predictions for the same articles, for each shared task."""
    from newsie.confusion.comparison import compare
    from newsie.confusion.predictions import read_answers
    from newsie.errors import InputError

    known = other.answerer.labels
    shared = [name for name in analyses if name in known.names]
    for name in analyses:
        if name not in shared:
            left_out.append(f"{name}: not compared, {other.name} does not have this task.")
    if not shared:
        raise InputError(
            f"{other.name} has none of the tasks {', '.join(analyses)}; it has "
            f"{', '.join(known.names)}"
        )
    answered = Answered([known[name] for name in shared], None)
    answered.read(reader, other.answerer)
    names = (classifier.bundle.manifest.name, other.name)
    if names[0] == names[1]:
        names = (f"{names[0]} (first)", f"{names[1]} (against)")
    for task in answered.tasks:
        second = read_answers(
            task.labels, answered.probabilities(task.name), answered.gold(task.name)
        )
        first = analyses[task.name].answers
        yield compare(first, second, names=names, kind="models", task=task.name)


def _read_again(reader: ArticleReader, rows: set[int]) -> dict[int, Article]:
    """Return the articles of the given rows, read again."""
    last = max(rows, default=-1)
    found = {}
    for row, article in enumerate(reader):
        if row > last:
            break
        if row in rows:
            found[row] = article
    return found


def _explain(report: Report, classifier: Classifier) -> Explanations:
    """Explain some of the articles that the report shows, word by word: task -> row -> explanation."""
    from newsie.cli.terminal import counted
    from newsie.confusion.word_effects import articles_to_explain, explanation_json
    from newsie.data.articles import Article
    from newsie.data.cleaning import clean_text

    wanted = articles_to_explain(report)
    rows = sorted({row for labels in wanted.values() for row in labels})
    found: dict[str, dict[int, Mapping[str, Any]]] = {task: {} for task in wanted}
    for row in counted(rows, "articles explained"):
        tasks = [task for task, labels in wanted.items() if row in labels]
        article = report.texts[row]
        # The page shows cleaned texts and colours words by their place in them.
        shown = Article(clean_text(article.headline), clean_text(article.body))
        explanation = classifier.explain(shown, tasks=tasks)
        for task in tasks:
            found[task][row] = explanation_json(explanation, task, sorted(wanted[task][row]))
    return found


def _write(report: Report, explanations: Explanations, directory: Path) -> None:
    from newsie.atomic import write_text
    from newsie.cli.terminal import note
    from newsie.confusion.page import write_page
    from newsie.confusion.plots import draw_figures, missing_characters

    document = report.to_json() | {"explanations": explanations}
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    write_text(directory / "confusion.json", text + "\n")
    write_page(document, directory / "report.html")
    figures = directory / "figures"
    for task, analysis in report.analyses.items():
        note(f"drawing {task}")
        draw_figures(task, analysis, figures)
        if missing := missing_characters(task, analysis):
            note(
                f"{task}: the font of the figures lacks {len(missing)} characters of its labels, such "
                f"as {missing[0]!r}, and has boxes for them; report.html has the characters"
            )


def _write_suspects(report: Report, articles: Mapping[int, Article], directory: Path) -> None:
    """Write TASK-suspects.csv: articles whose gold label is likely wrong, for review."""
    from newsie.cli.terminal import note
    from newsie.confusion.report import suspect_rows
    from newsie.data.writers import open_writer

    for task, analysis in report.analyses.items():
        answers, rows = analysis.answers, suspect_rows(analysis)
        path = directory / f"{task}-suspects.csv"
        if not rows:
            path.unlink(missing_ok=True)  # from an earlier report
            continue
        if analysis.suspects is not None and len(rows) < len(analysis.suspects.rows):
            note(
                f"{path.name} holds the first {len(rows):,} of {len(analysis.suspects.rows):,} suspects"
            )
        with open_writer(path) as writer:
            for row in rows:
                writer.write(
                    {
                        "row": row + 1,
                        "id": articles[row].id,
                        "headline": articles[row].headline,
                        "gold": answers.labels[answers.gold[row]],
                        "predicted": answers.labels[answers.predicted[row]],
                        "score": float(answers.confidence[row]),
                    }
                )


def _print_counts(report: Report, style: Style) -> None:
    """Print how many articles each task is measured on, and how many are left out."""
    from newsie.cli.terminal import one_line

    header = ("task", "articles", "no label", "unknown")
    rows: list[tuple[str, ...]] = [header]
    for task, without in report.without_label.items():
        unknown = report.unknown_label[task]
        counts = report.articles - without - unknown, without, unknown
        rows.append((one_line(task), *(f"{count:,}" for count in counts)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for number, (task, *cells) in enumerate(rows):
        line = "  ".join(
            [f"{task:<{widths[0]}}", *(f"{x:>{w}}" for x, w in zip(cells, widths[1:], strict=True))]
        )
        print(style.dim(line) if number == 0 else line)


def _tell(report: Report, directory: Path) -> None:
    """Print the summary on stdout and the rest on stderr."""
    import sys
    import textwrap

    from newsie.cli.terminal import Style, note
    from newsie.confusion.sentences import count

    style = Style(sys.stdout)
    print(style.bold(f"{count(report.articles, 'article')} of {report.source}"))
    for number, sentence in enumerate(report.summary, 1):
        lines = textwrap.wrap(sentence, max(style.width - 3, 40))
        print(f"{number}. " + "\n   ".join(lines))
    _print_counts(report, style)
    tasks: dict[str, list[str]] = {}
    for task, analysis in report.analyses.items():
        for sentence in analysis.left_out:
            tasks.setdefault(sentence, []).append(task)
    for sentence, names in tasks.items():
        note(f"{', '.join(names)}: {sentence}")
    for sentence in report.left_out:
        note(sentence)
    note(f"report: {directory / 'report.html'}, figures in {directory / 'figures'}")
