"""Running all checks of a file, one after the other."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from newsie.data.label_columns import find_rules
from newsie.doctor.dates import check_dates, check_drift
from newsie.doctor.duplicates import Copies, check_copies, check_leak, find_copies
from newsie.doctor.findings import Finding, Report, Severity, TaskSummary
from newsie.doctor.label_checks import check_labels, spelled
from newsie.doctor.label_issues import (
    LARGE,
    MAX_LABELS,
    MIN_ARTICLES,
    MIN_LABEL_ARTICLES,
    check_suspects,
    find_suspects,
)
from newsie.doctor.label_leakage import check_giveaways
from newsie.doctor.model_disagreement import SAMPLE, check_answers, sample_articles
from newsie.doctor.reading import NewsFile, read_file
from newsie.doctor.texts import check_columns, check_texts
from newsie.errors import MissingExtraError
from newsie.inference.classifier import Classifier

__all__ = ["Examination", "examine", "read_beginnings"]

Say = Callable[[str], None]
ORDER = tuple(Severity)
BEGINNING = 400
"""The characters of each article that the student reads in the check for wrong labels. The topic is clear
from them, and whole articles would take minutes."""
PACKAGES = ("sklearn", "cleanlab", "datasketch", "py3langid")


class Examination:
    """An examined file: the report, and the data needed to fix the file.

    Attributes:
        file: the articles.
        copies: the duplicates among them.
        report: the findings.
    """

    def __init__(
        self, file: NewsFile, test: NewsFile | None, classifier: Classifier | None, say: Say
    ) -> None:
        self.file, self._test, self._classifier, self._say = file, test, classifier, say
        self._found: list[Finding] = []
        self._left_out: list[str] = []
        self._seconds: dict[str, float] = {}
        self.copies: Copies

    def run(self) -> None:
        """Run all checks."""
        file = self.file
        self._take("columns", check_columns(file))
        self._take("texts", self._check_texts())
        self._take("copies", self._check_copies())
        self._take("dates", check_dates(file))
        for task in file.rules:
            self._take(f"labels of {task}", check_labels(file, task))
            self._take(f"drift of {task}", check_drift(file, task))
            self._take(f"giveaways of {task}", check_giveaways(file, task))
            self._take(f"wrong labels of {task}", self._check_suspects(task))
        if self._test is not None:
            self._take("test file", check_leak(file, self._test, self.copies))
        if self._classifier is not None:
            self._take("running student", self._check_answers(self._classifier))

    @property
    def report(self) -> Report:
        """The findings, most serious first."""
        file = self.file
        tasks = {
            task: TaskSummary(
                rule.column,
                counts := file.counts(task),
                len(file.articles) - sum(counts.values()),
            )
            for task, rule in file.rules.items()
        }
        found = sorted(self._found, key=lambda finding: ORDER.index(finding.severity))
        return Report(
            file.path,
            file.columns.chosen(),
            file.rows,
            len(file.articles),
            tasks,
            tuple(found),
            tuple(self._left_out),
            self._seconds,
        )

    def _take(self, name: str, findings: Iterable[Finding]) -> None:
        """Add the findings of a check. A check is a generator, so it does its work in here."""
        self._now = name
        self._say(name)
        with self._timed(name):
            self._found += findings

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - started

    def _step(self, done: int, total: int) -> None:
        self._say(f"{self._now}: {done:,} of {total:,}")

    def _check_copies(self) -> Iterator[Finding]:
        self.copies = find_copies(self.file, self._test, self._step)
        yield from check_copies(self.file, self.copies)

    def _check_texts(self) -> Iterator[Finding]:
        languages = _has_temporary_folder()
        if not languages:
            self._left_out.append(
                "texts in other languages were not looked for: the language detector needs a folder for "
                "temporary files; set TMPDIR to one that can be written to"
            )
        yield from check_texts(self.file, languages=languages)

    def _check_suspects(self, task: str) -> Iterator[Finding]:
        labels = spelled(self.file, task)
        found = find_suspects(self.file.texts, labels, self._readings, progress=self._step)
        if found is None:
            self._left_out.append(
                f"{task}: wrong labels are looked for where 2 to {MAX_LABELS} labels have "
                f"{MIN_LABEL_ARTICLES} articles or more each, {MIN_ARTICLES} in all"
            )
            return
        labelled = sum(label is not None for label in labels)
        if len(found.given) < labelled:
            self._left_out.append(
                f"{task}: wrong labels were looked for among {len(found.given):,} of {labelled:,} "
                f"labelled articles: those whose label has {MIN_LABEL_ARTICLES} or more, and of "
                "large files a random sample"
            )
        yield from check_suspects(self.file, task, found)

    @cached_property
    def _readings(self) -> NDArray[np.float32] | None:
        if self._classifier is None or len(self.file.texts) > LARGE:
            return None
        return read_beginnings(self._classifier, self.file.texts)

    def _check_answers(self, classifier: Classifier) -> Iterator[Finding]:
        chosen = sample_articles(self.file)
        if len(chosen) < len(self.file.articles):
            self._left_out.append(
                f"the running student was asked about {SAMPLE:,} articles, chosen at random"
            )
        yield from check_answers(self.file, classifier, chosen)


def _has_temporary_folder() -> bool:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # the file system is read-only
        return False
    return True


def read_beginnings(classifier: Classifier, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return a student's logits for the beginnings of N texts, (N, F), with all its tasks side by side."""
    logits = classifier.logits([text[:BEGINNING] for text in texts])
    return np.concatenate(list(logits.values()), axis=1)


def examine(
    path: str | Path,
    *,
    test: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    classifier: Classifier | None = None,
    say: Say = lambda _text: None,
) -> Examination:
    """Read a file as training would, and check it.

    Args:
        path: the file, in any format that `ArticleReader` reads; not a stream.
        test: a test file to compare with.
        tasks: label columns, each as COLUMN or TASK=COLUMN; None means to find them.
        columns: field of the article -> column, for columns without a usual name.
        classifier: the running student, whose predictions are checked too; None skips that.
        say: called with a progress message now and then.

    Raises:
        LabelError: a task name is not valid.
        ReadError: a file cannot be read, or has no label or text column.
        MissingExtraError: scikit-learn, cleanlab, datasketch or py3langid is not installed.
    """
    known = (
        {}
        if classifier is None
        else {task.name: task.rule for task in classifier.labels.tasks if task.rule is not None}
    )
    for package in PACKAGES:
        if find_spec(package) is None:  # fail now, rather than after minutes of work
            raise MissingExtraError("examining a file", package, "analysis")
    say("reading")
    rules = find_rules(path, tasks, known, columns)
    file = read_file(path, rules, columns)
    other = None if test is None else read_file(test, rules, columns)
    found = Examination(file, other, classifier, say)
    found.run()
    return found
