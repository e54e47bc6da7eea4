"""The evaluation figures of a student, as JSON and as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from newsie.atomic import write_text
from newsie.errors import InputError
from newsie.metrics.estimates import Interval
from newsie.metrics.evaluation import TaskMetrics

__all__ = [
    "BASELINE",
    "SERVED",
    "STUDENT",
    "SYSTEMS",
    "TEACHER",
    "BodyPresence",
    "Circumstances",
    "Claim",
    "Difference",
    "Figures",
    "Score",
    "SystemSize",
    "TextSize",
    "read_figures",
    "table",
    "write_figures",
]

TEACHER, STUDENT, SERVED, BASELINE = "teacher", "student", "student int8", "TF-IDF"
SYSTEMS = (TEACHER, STUDENT, SERVED, BASELINE)
"""The systems that are evaluated; the int8 student is evaluated through the classifier that serves it."""

SHOWN = ((STUDENT, TEACHER), (SERVED, BASELINE))
"""The differences that the tables show; the JSON contains all of them."""

MAX_POINTS_LOST = 1.5
"""The number of points that a student may lose against its teacher."""


@dataclass(frozen=True)
class Circumstances:
    """The circumstances of an evaluation.

    Attributes:
        recipe: the recipe's name.
        command: the command line.
        date: the date of the evaluation, ISO 8601, UTC.
        processor: the model of the CPU.
        cores: the number of cores that the process could use.
        commit: the commit of the code.
        packages: package versions by name.
        bundle: the fingerprint of the bundle.
        max_tokens: the longest input of teacher and student in tokens.
    """

    recipe: str
    command: str
    date: str
    processor: str
    cores: int
    commit: str
    packages: dict[str, str]
    bundle: str
    max_tokens: int


@dataclass(frozen=True)
class SystemSize:
    """The size and training time of a system.

    Attributes:
        system: one of SYSTEMS.
        parameters: the number of weights, over all members of an ensemble; None if it is not counted.
        bytes: the size of the model's file; None without a file.
        training_seconds: the training time, over all members; None if it is not known.
    """

    system: str
    parameters: int | None
    bytes: int | None
    training_seconds: float | None


@dataclass(frozen=True)
class TextSize:
    """The number and length of a corpus's evaluated articles.

    Attributes:
        corpus: the name of the corpus.
        articles: the number of articles.
        with_body: the number of articles with both headline and body.
        body_words: the median number of words in those bodies.
    """

    corpus: str
    articles: int
    with_body: int
    body_words: int


@dataclass(frozen=True)
class Score:
    """The metrics of a system on one task, corpus and view.

    Attributes:
        corpus, task, view: the articles, the task, and the view of each article.
        system: one of SYSTEMS.
        metrics: the metrics of the predictions, after calibration.
    """

    corpus: str
    task: str
    view: str
    system: str
    metrics: TaskMetrics


@dataclass(frozen=True)
class Difference:
    """The difference between two systems on the same articles.

    Attributes:
        corpus, task, view: see Score.
        system, other: two of SYSTEMS.
        accuracy, macro_f1: the value of `system` minus that of `other`, with paired 95 % intervals.
        agreement: the share of articles to which both give the same label.
    """

    corpus: str
    task: str
    view: str
    system: str
    other: str
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    agreement: float


@dataclass(frozen=True)
class BodyPresence:
    """The effect of removing the body on the served student's predictions.

    If a task could be guessed from the presence of a body, its distributions with and without body would
    lie far apart.

    Attributes:
        task: the task.
        articles: the number of test articles, over all corpora, with both headline and body.
        distance: the total variation, 0 to 1, between the mean probabilities with and without body.
        label_distance: the total variation between the shares of the predicted labels.
        changed: the share of articles whose label changes.
        label: the label whose share changes most.
        share_with, share_without: the shares of that label.
    """

    task: str
    articles: int
    distance: float
    label_distance: float
    changed: float
    label: str
    share_with: float
    share_without: float


@dataclass(frozen=True)
class Claim:
    """A claim about the figures, with its truth and its exceptions."""

    text: str
    holds: bool
    exceptions: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """All figures of a student.

    Attributes:
        circumstances: the circumstances of the evaluation.
        sizes: the size and training time of each system.
        texts: the evaluated articles of each corpus.
        scores: the metrics of each system.
        differences: the differences between pairs of teacher, student, int8 student and baseline.
        body_presence: the effect of removing the body, for each task.
        full_text: the name of the corpus of whole articles among the scores; empty without one.
        notes: further remarks for the reader.
    """

    circumstances: Circumstances
    sizes: tuple[SystemSize, ...]
    texts: tuple[TextSize, ...]
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    body_presence: tuple[BodyPresence, ...]
    full_text: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values, with the claims."""
        content: dict[str, Any] = TypeAdapter(Figures).dump_python(self, mode="json")
        claims = TypeAdapter(tuple[Claim, ...]).dump_python(self.claims(), mode="json")
        return content | {"claims": claims}

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims about the test splits."""
        above = [
            self._claim(f"{system} above {BASELINE} in macro-F1", system, BASELINE, "macro_f1", 0.0)
            for system in (TEACHER, STUDENT, SERVED)
        ]
        near = [
            self._claim(
                f"{system} at most {MAX_POINTS_LOST} points of {name} below {TEACHER}",
                system,
                TEACHER,
                measure,
                -MAX_POINTS_LOST,
            )
            for system in (STUDENT, SERVED)
            for name, measure in (("accuracy", "accuracy"), ("macro-F1", "macro_f1"))
        ]
        return (*above, *near)

    def _claim(self, text: str, system: str, other: str, measure: str, least: float) -> Claim:
        found = {
            f"{d.task} ({d.view})": 100 * float(getattr(d, measure))
            for d in self.differences
            if (d.system, d.other) == (system, other) and d.corpus != self.full_text
        }
        # A tie does not satisfy "above", but it does satisfy "at most ... below".
        missed = {
            where: points
            for where, points in found.items()
            if not (points > least or points == least < 0)
        }
        exceptions = tuple(f"{where}: {points:+.2f}" for where, points in missed.items())
        return Claim(text, bool(found) and not missed, exceptions)

    def to_markdown(self) -> str:
        """Return the figures as Markdown: circumstances, claims and tables."""
        parts = [
            f"# Figures of `{self.circumstances.recipe}`",
            _circumstances(self.circumstances),
            "## Claims",
            _claims(self.claims()),
            self.tables(),
        ]
        if self.notes:
            parts += ["## Notes", "\n".join(f"- {note}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def tables(self, heading: str = "##") -> str:
        """Return only the tables, each under a heading of the given level."""
        tests = [score for score in self.scores if score.corpus != self.full_text]
        whole = [score for score in self.scores if score.corpus == self.full_text]
        parts = [
            f"{heading} Accuracy and macro-F1 on the test splits",
            "Per cent, with 95 % intervals.",
            "Accuracy:\n\n" + _score_table(tests, _accuracy),
            "Macro-F1:\n\n" + _score_table(tests, _macro_f1),
        ]
        if whole:
            parts += [f"{heading} Whole articles ({self.full_text})"]
            parts += ["Accuracy:\n\n" + _score_table(whole, _accuracy)]
            parts += ["Macro-F1:\n\n" + _score_table(whole, _macro_f1)]
        parts += [
            f"{heading} Calibration",
            "Expected calibration error in points (15 bins of equally many articles) / negative "
            "log-likelihood in nats, after calibration on validation articles.",
            _score_table(tests, _calibration),
            f"{heading} Differences",
            "Points, paired on the same articles, with 95 % intervals; and the share of "
            "articles to which both give the same label.",
            _difference_table([d for d in self.differences if (d.system, d.other) in SHOWN]),
            f"{heading} With and without body",
            f"What the {SERVED} makes of test articles whose body is taken away: total variation "
            "distance between the mean probabilities, and between the shares of the labels given; "
            "the share of articles whose label changes; and the label whose share changes most.",
            _presence_table(self.body_presence),
            f"{heading} Sizes",
            _size_table(self.sizes),
            _text_table(self.texts),
        ]
        return "\n\n".join(parts)


def write_figures(figures: Figures, directory: Path) -> list[Path]:
    """Write `<recipe>.json` and `<recipe>.md` into a directory, and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = directory / figures.circumstances.recipe
    raw, table = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".md")
    content = json.dumps(figures.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(raw, content + "\n")
    write_text(table, figures.to_markdown())
    return [raw, table]


def read_figures(path: Path) -> Figures:
    """Read the JSON that `write_figures` wrote.

    Raises:
        InputError: the file cannot be read or contains something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["claims"]
        return TypeAdapter(Figures).validate_python(content)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise InputError(f"{path} holds no figures written by `newsie train`: {error}") from error


def _circumstances(found: Circumstances) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in found.packages.items())
    return (
        f"`{found.command}`, {found.date}, on {found.cores} cores of {found.processor}. Code: "
        f"{found.commit or 'not in a git checkout'}. {packages}. Bundle {found.bundle}; teacher and "
        f"student read at most {found.max_tokens} tokens."
    )


def _claims(claims: Sequence[Claim]) -> str:
    lines = []
    for claim in claims:
        answer = "yes" if claim.holds else "**no**"
        where = f": not {'; '.join(claim.exceptions)}" if claim.exceptions else ""
        lines.append(f"- {claim.text}: {answer}{where}")
    return "\n".join(lines)


def _accuracy(metrics: TaskMetrics) -> str:
    return _per_cent(metrics.accuracy, metrics.accuracy_interval)


def _macro_f1(metrics: TaskMetrics) -> str:
    return _per_cent(metrics.macro_f1, metrics.macro_f1_interval)


def _calibration(metrics: TaskMetrics) -> str:
    return f"{100 * metrics.expected_calibration_error:.1f} / {metrics.negative_log_likelihood:.3f}"


def _per_cent(value: float, interval: Interval, sign: str = "") -> str:
    low, high = (format(100 * bound, f"{sign}.1f") for bound in (interval.low, interval.high))
    return f"{format(100 * value, f'{sign}.1f')} [{low}, {high}]"


def _score_table(scores: Sequence[Score], cell: Callable[[TaskMetrics], str]) -> str:
    """Return a table with a row per corpus, task and view, and a column per system."""
    rows: dict[tuple[str, str, str], dict[str, TaskMetrics]] = {}
    for score in scores:
        rows.setdefault((score.corpus, score.task, score.view), {})[score.system] = score.metrics
    systems = [name for name in SYSTEMS if any(name in by_system for by_system in rows.values())]
    return table(
        ("corpus", "task", "view", "articles", *systems),
        [
            (
                *key,
                f"{next(iter(found.values())).support:,}",
                *(cell(found[name]) if name in found else "" for name in systems),
            )
            for key, found in rows.items()
        ],
    )


def _difference_table(differences: Sequence[Difference]) -> str:
    return table(
        ("corpus", "task", "view", "difference", "accuracy", "macro-F1", "same label"),
        [
            (
                d.corpus,
                d.task,
                d.view,
                f"{d.system} − {d.other}",
                _per_cent(d.accuracy, d.accuracy_interval, "+"),
                _per_cent(d.macro_f1, d.macro_f1_interval, "+"),
                f"{d.agreement:.1%}",
            )
            for d in differences
        ],
    )


def _presence_table(found: Sequence[BodyPresence]) -> str:
    return table(
        ("task", "articles", "probabilities", "labels", "changed", "label", "with → without"),
        [
            (
                p.task,
                f"{p.articles:,}",
                f"{p.distance:.3f}",
                f"{p.label_distance:.3f}",
                f"{p.changed:.1%}",
                p.label,
                f"{p.share_with:.1%} → {p.share_without:.1%}",
            )
            for p in found
        ],
    )


def _size_table(sizes: Sequence[SystemSize]) -> str:
    return table(
        ("system", "parameters", "file", "training"),
        [
            (
                size.system,
                "" if size.parameters is None else f"{size.parameters / 1e6:.1f} M",
                "" if size.bytes is None else f"{size.bytes / 1e6:.1f} MB",
                "" if size.training_seconds is None else f"{size.training_seconds / 60:.0f} min",
            )
            for size in sizes
        ],
    )


def _text_table(texts: Sequence[TextSize]) -> str:
    return table(
        ("corpus", "articles measured", "with headline and body", "words of a body (median)"),
        [(t.corpus, f"{t.articles:,}", f"{t.with_body:,}", f"{t.body_words}") for t in texts],
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
