"""Evaluation of a finished run: all systems classify the same articles."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.cores import count_cores
from newsie.data.articles import Article
from newsie.data.cleaning import clean_text
from newsie.data.encoding import VIEWS, View
from newsie.data.readers import ArticleReader
from newsie.labels import IGNORE, LabelRule, LabelSpace
from newsie.metrics.evaluation import evaluate, paired_difference
from newsie.training.config import FullTextConfig
from newsie.training.corpora import Corpora
from newsie.training.evaluated_models import Answers, System, open_systems
from newsie.training.metrics_report import (
    BASELINE,
    SERVED,
    STUDENT,
    TEACHER,
    BodyPresence,
    Circumstances,
    Difference,
    Figures,
    Score,
    SystemSize,
    TextSize,
)
from newsie.training.package import commit_id
from newsie.training.train import Trained

__all__ = ["Question", "compare_bodies", "measure", "read_full_text", "surroundings"]

VIEW_NAMES: dict[View, str] = {"full": "headline + body", "headline": "headline"}
COMPARED = (
    (STUDENT, TEACHER),
    (SERVED, TEACHER),
    (SERVED, STUDENT),
    (TEACHER, BASELINE),
    (STUDENT, BASELINE),
    (SERVED, BASELINE),
)
FIRST_WORDS = 60
PACKAGES = ("numpy", "onnxruntime", "scikit-learn", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Question:
    """The predictions of each system for a task on the articles of a corpus in one view.

    Attributes:
        corpus, task, view: see `Score`.
        labels: (N,) gold class indices; IGNORE where an article has no label.
        answers: the predicted probabilities of each system, (N, C).
    """

    corpus: str
    task: str
    view: str
    labels: NDArray[np.int64]
    answers: Mapping[str, NDArray[np.float32]]

    def scores(self) -> list[Score]:
        """Return the metrics of each system."""
        return [
            Score(self.corpus, self.task, self.view, system, evaluate(probabilities, self.labels))
            for system, probabilities in self.answers.items()
        ]

    def differences(self) -> list[Difference]:
        """Return the difference of each pair in COMPARED."""
        known = self.labels != IGNORE
        gold = self.labels[known]
        given = {system: p[known].argmax(axis=1) for system, p in self.answers.items()}
        return [
            self._difference(system, other, given[system], given[other], gold)
            for system, other in COMPARED
        ]

    def _difference(
        self,
        system: str,
        other: str,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        gold: NDArray[np.int64],
    ) -> Difference:
        right = paired_difference("accuracy", first, second, gold)
        f1 = paired_difference("macro_f1", first, second, gold)
        return Difference(
            self.corpus,
            self.task,
            self.view,
            system,
            other,
            accuracy=right.value,
            accuracy_interval=right.interval,
            macro_f1=f1.value,
            macro_f1_interval=f1.interval,
            agreement=float((first == second).mean()),
        )


def measure(trained: Trained, command: str = "") -> Figures:
    """Evaluate teacher, student, served student and baseline of a run.

    The predictions of each are stored in the run's folder `answers`, so that a second call is quick.

    Args:
        trained: the run.
        command: the command line to record; empty records the usual one.
    """
    systems = open_systems(trained)
    corpora = trained.corpora
    articles = list(corpora.articles("test"))
    answers = {view: _ask(systems, articles, view, trained.store.say) for view in VIEWS}
    names = np.array(corpora.corpus_names("test"))
    questions = list(_test_questions(names, articles, corpora.targets("test"), answers))
    texts = [
        _text_size(name, [articles[row] for row in np.flatnonzero(names == name)])
        for name in dict.fromkeys(names.tolist())
    ]
    whole, notes = _read_whole(trained)
    notes += _unseen_labels(corpora)
    config = trained.recipe.full_text
    if config and whole:
        questions += _full_text_questions(config, corpora.labels, whole, systems, trained.store.say)
        texts.append(_text_size(config.name, whole))
    trained.store.say("figures: bootstrap")
    served = {view: found[SERVED] for view, found in answers.items()}
    return Figures(
        _circumstances(trained, command),
        tuple(_sizes(trained)),
        tuple(texts),
        tuple(itertools.chain.from_iterable(question.scores() for question in questions)),
        tuple(itertools.chain.from_iterable(question.differences() for question in questions)),
        tuple(compare_bodies(corpora.labels, articles, served)),
        config.name if config and whole else "",
        tuple(notes),
    )


def _ask(
    systems: Sequence[System], articles: Sequence[Article], view: View, say: Callable[[str], None]
) -> dict[str, Answers]:
    """Return the probabilities by system and task, (N, C) each."""
    answers = {}
    for system in systems:
        say(f"figures: {system.name} answers {len(articles):,} articles ({VIEW_NAMES[view]})")
        answers[system.name] = system.probabilities(articles, view)
    return answers


def _test_questions(
    corpora: NDArray[np.str_],
    articles: Sequence[Article],
    targets: Mapping[str, NDArray[np.int64]],
    answers: Mapping[View, Mapping[str, Answers]],
) -> Iterator[Question]:
    for corpus in dict.fromkeys(corpora.tolist()):
        rows = np.flatnonzero(corpora == corpus)
        # Without any body the two views are the same.
        views = VIEWS if any(_has_both(articles[int(row)]) for row in rows) else ("headline",)
        for task, column in targets.items():
            if (column[rows] == IGNORE).all():
                continue
            for view in views:
                found = {system: given[task][rows] for system, given in answers[view].items()}
                yield Question(corpus, task, VIEW_NAMES[view], column[rows], found)


def _full_text_questions(
    config: FullTextConfig,
    labels: LabelSpace,
    articles: Sequence[Article],
    systems: Sequence[System],
    say: Callable[[str], None],
) -> Iterator[Question]:
    shown: list[tuple[str, View, Sequence[Article]]] = [
        ("headline", "headline", articles),
        (f"headline + {FIRST_WORDS} words", "full", [_first_words(a) for a in articles]),
        ("full text", "full", articles),
    ]
    gold = labels.encode(articles)[config.task]
    for name, view, cut in shown:
        answers = _ask(systems, cut, view, say)
        found = {system: given[config.task] for system, given in answers.items()}
        yield Question(config.name, config.task, name, gold, found)


def _first_words(article: Article) -> Article:
    return replace(article, body=" ".join(clean_text(article.body).split()[:FIRST_WORDS]))


def _read_whole(trained: Trained) -> tuple[list[Article], list[str]]:
    """Return the whole articles to evaluate on, and notes about them."""
    config = trained.recipe.full_text
    if config is None:
        return [], ["No whole articles were measured: the recipe names none (full_text)."]
    missing = [name for name in config.files if not (trained.data / name).exists()]
    if missing:
        return [], [
            f"No whole articles were measured: {', '.join(missing)} not in the data folder."
        ]
    corpora = trained.corpora
    training = {clean_text(text).casefold() for text in corpora.splits["train"]["headline"]}
    # Labels too rare to be learnt are not in the label space.
    known = set(corpora.labels[config.task].labels)
    found = [
        article
        for article in read_full_text(config, trained.data)
        if article.labels[config.task] in known
    ]
    articles = [a for a in found if clean_text(a.headline).casefold() not in training]
    notes = [
        f"Whole articles ({config.name}): the label of the task {config.task!r} is not the publishers' "
        f"but our own reading of the column {config.column!r} (full_text.labels of the recipe), for the "
        f"{len(found):,} articles where it is plain; {len(found) - len(articles)} whose headlines are "
        "among the training articles are left out. Nothing is ever learnt from this corpus. The models "
        "read no further than their longest input; the baseline reads everything."
    ]
    return articles, notes + ([f"{config.name}: {config.limits}"] if config.limits else [])


def _unseen_labels(corpora: Corpora) -> list[str]:
    """Return notes about test articles whose labels are not in the label space."""
    unseen: dict[str, dict[str, int]] = corpora.report.get("unseen_labels", {})
    return [
        f"{task}: test articles with a label too rare to be learnt are left out, "
        f"{sum(counts.values()):,} in all ({', '.join(sorted(counts))})."
        for task, counts in unseen.items()
    ]


def read_full_text(config: FullTextConfig, data: Path) -> list[Article]:
    """Return the articles with a label of the configured task, and no other labels.

    Args:
        config: the files, and the mapping of their labels.
        data: the data folder.

    Raises:
        ReadError: a file cannot be read.
    """
    rules = {config.task: LabelRule(config.column)}
    articles = []
    for name in config.files:
        for article in ArticleReader(data / name, columns=config.columns, rules=rules):
            label = config.labels.get(article.labels.get(config.task, ""))
            if label is not None:
                articles.append(replace(article, labels={config.task: label}))
    return articles


def compare_bodies(
    labels: LabelSpace, articles: Sequence[Article], answers: Mapping[View, Answers]
) -> list[BodyPresence]:
    """Return the effect of removing the body on each task's predictions; empty if no article has a body.

    Args:
        labels: the tasks.
        articles: the N articles; only those with both headline and body are used.
        answers: the probabilities by view and task, (N, C) each.
    """
    rows = np.flatnonzero([_has_both(article) for article in articles])
    return [
        _compare_body(
            task.name,
            task.labels,
            answers["full"][task.name][rows],
            answers["headline"][task.name][rows],
        )
        for task in labels.tasks
        if len(rows)
    ]


def _compare_body(
    task: str,
    labels: Sequence[str],
    whole: NDArray[np.float32],
    headline: NDArray[np.float32],
) -> BodyPresence:
    given, without = whole.argmax(axis=1), headline.argmax(axis=1)
    shares, shares_without = (
        np.bincount(column, minlength=len(labels)) / len(column) for column in (given, without)
    )
    most = int(np.abs(shares - shares_without).argmax())
    return BodyPresence(
        task,
        len(whole),
        distance=_total_variation(whole.mean(axis=0), headline.mean(axis=0)),
        label_distance=_total_variation(shares, shares_without),
        changed=float((given != without).mean()),
        label=labels[most],
        share_with=float(shares[most]),
        share_without=float(shares_without[most]),
    )


def _total_variation(p: NDArray[Any], q: NDArray[Any]) -> float:
    return float(np.abs(p.astype(np.float64) - q).sum() / 2)


def _has_both(article: Article) -> bool:
    return bool(clean_text(article.headline) and clean_text(article.body))


def _text_size(name: str, articles: Sequence[Article]) -> TextSize:
    words = [len(clean_text(article.body).split()) for article in articles if _has_both(article)]
    return TextSize(name, len(articles), len(words), int(median(words)) if words else 0)


def _circumstances(trained: Trained, command: str) -> Circumstances:
    name = trained.recipe.name
    usual = f"newsie train training/recipes/{name}.toml --data DIR --figures training/experiments"
    return Circumstances(
        recipe=name,
        command=command or usual,
        bundle=trained.bundle.fingerprint,
        max_tokens=trained.recipe.student.max_tokens,
        **surroundings(),
    )


def surroundings() -> dict[str, Any]:
    """Return date, machine, commit and packages, keyed by the names of `Circumstances`."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": count_cores(),
        "commit": commit_id(),
        "packages": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    """Return the model of the CPU, as far as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def _sizes(trained: Trained) -> Iterator[SystemSize]:
    for name, fitted in ((TEACHER, trained.teachers), (STUDENT, [trained.student])):
        parameters = sum(p.numel() for each in fitted for p in each.model.parameters())
        yield SystemSize(name, parameters, None, sum(each.history.seconds for each in fitted))
    yield SystemSize(SERVED, None, trained.bundle.model_path.stat().st_size, None)
