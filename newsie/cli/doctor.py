"""`newsie doctor`: problems of a file of articles, before you train on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from newsie.cli.options import Columns, Model, parse_columns
from newsie.cli.streams import CLEAR_LINE
from newsie.errors import InputError

if TYPE_CHECKING:
    from newsie.cli.terminal import Style
    from newsie.doctor.examination import Examination
    from newsie.doctor.findings import Finding, Report
    from newsie.doctor.fixing import Fixed

__all__ = ["doctor"]

SHOWN_EXAMPLES = 3
FAILED = 3
FIXABLE = frozenset({"rows-skipped", "label-spelling", "exact-duplicates"})
"""The findings that --fix can fix; of duplicates with conflicting labels, only exact copies."""


def doctor(
    file: Annotated[
        str, typer.Argument(help="Articles with labels: CSV, TSV, JSON, JSONL, Parquet, ...")
    ],
    test: Annotated[
        str | None, typer.Option(help="A file to test on; told apart from what is learnt.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A column of labels, or TASK=COLUMN to name its task; repeatable. (default: "
            "found by name)",
            show_default=False,
        ),
    ] = None,
    columns: Columns = None,
    model: Model = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write the file again, put right where nobody needs to be asked, and "
            "OUT.log.jsonl with every change.",
        ),
    ] = None,
    suspects: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Write the labels that are likely wrong: .csv, .jsonl or .parquet."
        ),
    ] = None,
) -> None:
    """Look a file of articles over before it is learnt from: what is wrong, and what to do.

    Exit code 3 where something should be put right first.
    """
    fields = parse_columns(columns)
    from newsie.cli.terminal import print_json
    from newsie.doctor.examination import examine
    from newsie.doctor.findings import Severity
    from newsie.doctor.rewriting import check_target
    from newsie.inference.classifier import Classifier

    # Fail before minutes of work.
    if fix is not None:
        check_target(Path(file), fix)
    if suspects is not None:
        _check_suspects_target(suspects, file, test, fix)
    with _Progress() as say:
        found = examine(
            file,
            test=test,
            tasks=task,
            columns=fields,
            classifier=Classifier.from_pretrained(model),
            say=say,
        )
    report = found.report
    fixed = _fix(found, fix)
    if suspects is not None:
        _write_suspects(found, suspects)
    if json_:
        print_json(_to_json(report, fixed))
    else:
        _print(report, fixed)
    if report.of(Severity.problem):
        raise typer.Exit(FAILED)


class _Progress:
    """A progress line on stderr, if that is a terminal."""

    def __enter__(self) -> Callable[[str], None]:
        import sys

        self._stream = sys.stderr if sys.stderr.isatty() else None
        return self._say

    def _say(self, text: str) -> None:
        if self._stream is not None:
            print(f"{CLEAR_LINE}{text} ...", end="", file=self._stream, flush=True)

    def __exit__(self, *_error: object) -> None:
        if self._stream is not None:
            print(CLEAR_LINE, end="", file=self._stream, flush=True)


def _fix(found: Examination, output: Path | None) -> Fixed | None:
    if output is None:
        return None
    from newsie.doctor.fixing import fix

    return fix(found, output)


def _check_suspects_target(output: Path, file: str, test: str | None, fix: Path | None) -> None:
    from newsie.data.writers import check_target

    check_target(output)
    for other in (Path(given) for given in (file, test, fix) if given is not None):
        if output == other or (output.exists() and other.exists() and output.samefile(other)):
            raise InputError(f"--suspects {output} is a file that is needed; name another one")


def _write_suspects(found: Examination, output: Path) -> None:
    from newsie.cli.terminal import note
    from newsie.data.writers import open_writer

    headlines = dict(zip(found.file.numbers, found.file.headlines, strict=True))
    with open_writer(output) as writer:
        for finding in found.report.findings:
            if finding.code == "suspect-labels":
                for case in finding.details["cases"]:
                    headline = headlines[case["row"]]
                    writer.write({"task": finding.task, **case, "headline": headline})
    note(f"{writer.rows:,} labels that are likely wrong written to {output}")


def _to_json(report: Report, fixed: Fixed | None) -> dict[str, Any]:
    content = report.to_json()
    if fixed is not None:
        content["fixed"] = {
            "output": str(fixed.output),
            "log": str(fixed.log),
            "rows": fixed.rows,
            "left_out": fixed.left_out,
            "relabelled": fixed.relabelled,
        }
    return content


def _print(report: Report, fixed: Fixed | None) -> None:
    import sys

    from newsie.cli.terminal import Style
    from newsie.doctor.findings import Severity

    style = Style(sys.stdout)
    titles = {
        Severity.problem: "Put right first",
        Severity.warning: "Worth a look",
        Severity.note: "Good to know",
    }
    for line in _head(report, style):
        print(line)
    for severity, title in titles.items():
        findings = report.of(severity)
        if findings:
            print(f"\n{style.bold(title)}")
        for finding in findings:
            print(*_paragraph(finding, style, len(report.tasks) > 1), sep="\n")
    if not report.of(Severity.problem):
        print(f"\n{style.bold('Nothing stands in the way of training.')}")
    for line in _foot(report, fixed, style):
        print(line)


def _head(report: Report, style: Style) -> Iterator[str]:
    from newsie.texts import plural

    yield f"{style.bold(_clean(report.source))}: {report.articles:,} articles in {report.rows:,} rows"
    chosen = ", ".join(f"{name} is column {column!r}" for name, column in report.columns.items())
    yield style.dim(f"  {chosen}")
    for name, task in report.tasks.items():
        column = "" if task.column == name else f" (column {task.column!r})"
        yield f"  {style.bold(name)}{column}: {plural(len(task.labels), 'label', 'labels')}"
        if task.labels:
            yield style.dim(f"    {_labels_line(task.labels, style.width - 4)}")


def _labels_line(labels: Mapping[str, int], width: int) -> str:
    """Return as many labels with their counts as fit into a line, the most frequent first."""
    from newsie.cli.terminal import shorten, width_of

    shown: list[str] = []
    for label, count in labels.items():
        more = f", and {len(labels) - len(shown):,} more"
        item = f"{shorten(_clean(label), 40)} {count:,}"
        if width_of(", ".join([*shown, item])) + len(more) > width:
            return ", ".join(shown) + more
        shown.append(item)
    return ", ".join(shown)


def _paragraph(finding: Finding, style: Style, several: bool) -> Iterator[str]:
    from textwrap import wrap

    mark = {"problem": "✗", "warning": "!", "note": "·"}[finding.severity]
    task = f"{finding.task}: " if several and finding.task else ""
    first, *rest = wrap(_clean(task + finding.title), style.width - 6)
    yield f"  {style.accent(mark)} {first}"
    yield from (f"    {line}" for line in rest)
    for example in finding.examples[:SHOWN_EXAMPLES]:
        yield style.dim("      " + _example_line(example, style.width - 6))
    left = min(len(finding.examples), SHOWN_EXAMPLES)
    if left and finding.count > left and finding.rows:
        yield style.dim(f"      ... and {finding.count - left:,} more (--json lists all rows)")
    advice = wrap(finding.advice, style.width - 8)
    yield from (f"    {'→' if not n else ' '} {line}" for n, line in enumerate(advice))


def _example_line(example: Any, width: int) -> str:
    """Return one line such as "row 17  Headline ... — what is special about it"."""
    from newsie.cli.terminal import shorten, width_of

    place = "" if example.row is None else f"row {example.row:,}  "
    note = _clean(example.note)
    if not note:
        return place + shorten(_clean(example.text), width - len(place))
    note = shorten(note, max(width // 2, width - len(place) - width_of(example.text) - 3))
    room = width - len(place) - width_of(note) - 3
    return f"{place}{shorten(_clean(example.text), max(room, 20))} — {note}"


def _foot(report: Report, fixed: Fixed | None, style: Style) -> Iterator[str]:
    from textwrap import wrap

    if report.left_out:
        yield f"\n{style.dim('Not looked at, or not in full')}"
        for sentence in report.left_out:
            yield from (style.dim(f"  {line}") for line in wrap(sentence, style.width - 4))
    fixable = [finding.count for finding in report.findings if finding.code in FIXABLE]
    if fixed is not None:
        yield f"\n{fixed.describe()}"
    elif fixable:
        suffix = "".join(Path(report.source).suffixes[-2:])
        yield (
            f"\n{style.bold('Next')}: newsie doctor {_clean(report.source)} --fix clean{suffix}  puts "
            "right what needs no asking, and logs every change"
        )


def _clean(text: str) -> str:
    """Return the text without control sequences for the terminal."""
    from newsie.data.cleaning import clean_text

    return clean_text(text)
