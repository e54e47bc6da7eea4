"""Checks with the running student: its agreement with the labels, its confidence, unreadable texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from newsie.data.label_names import plain_label
from newsie.doctor.findings import MAX_EXAMPLES, Example, Finding, Severity
from newsie.doctor.reading import NewsFile
from newsie.inference.classifier import Classifier
from newsie.inference.prediction import Prediction
from newsie.texts import plural

__all__ = ["SAMPLE", "check_answers", "sample_articles"]

SAMPLE = 2_000
MIN_SHARED_LABELS = 2
MIN_ARTICLES, LOW_AGREEMENT = 10, 0.5
MANY_CUT = 0.5


def sample_articles(file: NewsFile, size: int = SAMPLE, seed: int = 0) -> list[int]:
    """Return the sorted positions of a random sample of at most `size` articles."""
    order = np.random.default_rng(seed).permutation(len(file.articles))[:size]
    return sorted(order.tolist())


def check_answers(
    file: NewsFile, classifier: Classifier, chosen: Sequence[int] | None = None
) -> Iterator[Finding]:
    """Compare the student's predictions with the labels of a sample of the articles.

    Raises:
        BundleError: the model fails to predict.
    """
    chosen = sample_articles(file) if chosen is None else chosen
    predictions = classifier.classify([file.articles[i] for i in chosen])
    cut = sum(prediction.truncated for prediction in predictions)
    if cut:
        share = cut / len(chosen)
        yield Finding(
            "truncated",
            Severity.warning if share > MANY_CUT else Severity.note,
            f"{share:.0%} of the articles are longer than the running student reads "
            f"({classifier.max_tokens} tokens)",
            "The rest of each is not read. News says first what matters, so this is seldom a "
            "loss; what comes before the story (notices, names) should go.",
            cut,
            details={"share": share, "looked_at": len(chosen)},
        )
    for task in file.rules:
        theirs = _matching_task(file, task, classifier)
        if theirs is None:
            yield _unknown_labels(file, task, classifier)
        else:
            yield from _agreement(file, task, theirs, chosen, predictions)


def _matching_task(file: NewsFile, task: str, classifier: Classifier) -> str | None:
    """Return the student's task that shares most labels with the file's. The same name wins a tie."""
    own = {plain_label(label) for label in file.counts(task)}
    shared = {
        t.name: (len(own & {plain_label(label) for label in t.labels}), t.name == task)
        for t in classifier.labels.tasks
    }
    best = max(shared, key=lambda name: shared[name])
    return best if shared[best][0] >= min(MIN_SHARED_LABELS, len(own)) > 0 else None


def _unknown_labels(file: NewsFile, task: str, classifier: Classifier) -> Finding:
    column = file.rules[task].column
    return Finding(
        "new-labels",
        Severity.note,
        f"The running student ({classifier.bundle.manifest.name}) has no task with these labels",
        f"It has a task {task!r} with others: newsie retrain --task NAME={column} makes them a task of "
        f"their own, --task {task}={column} adds them to that one."
        if task in classifier.tasks
        else "They become a task of their own.",
        len(file.counts(task)),
        task,
        tuple(Example(label) for label in list(file.counts(task))[:MAX_EXAMPLES]),
    )


def _agreement(
    file: NewsFile,
    task: str,
    theirs: str,
    chosen: Sequence[int],
    predictions: Sequence[Prediction],
) -> Iterator[Finding]:
    labels = file.labels(task)
    known = {plain_label(label): label for label in predictions[0].labels[theirs].labels}
    right: Counter[str] = Counter()
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    confidence: list[float] = []
    for i, prediction in zip(chosen, predictions, strict=True):
        label = labels[i]
        if label is None:
            continue
        answer = prediction.label(theirs)
        answers[label][answer] += 1
        right[label] += known.get(plain_label(label)) == answer
        confidence.append(prediction.confidence(theirs))
    shared = {label: n.total() for label, n in answers.items() if plain_label(label) in known}
    if not shared:
        return
    agreed = sum(right[label] for label in shared) / sum(shared.values())
    yield Finding(
        "student-agrees",
        Severity.note,
        f"The running student gives {agreed:.0%} of the articles the label that they have (its "
        f"task {theirs!r}, {sum(shared.values()):,} articles), {np.mean(confidence):.0%} sure on "
        "average",
        "Retraining is worth most where they disagree.",
        sum(shared.values()),
        task,
        details={
            "task": theirs,
            "agreement": agreed,
            "confidence": float(np.mean(confidence)),
            "answers": {label: dict(found) for label, found in answers.items()},
        },
    )
    yield from _disagreement(task, theirs, shared, right, answers)
    yield from _labels_of_their_own(task, theirs, known, answers)


def _disagreement(
    task: str,
    theirs: str,
    shared: dict[str, int],
    right: Counter[str],
    answers: dict[str, Counter[str]],
) -> Iterator[Finding]:
    low = {
        label: right[label] / n
        for label, n in shared.items()
        if n >= MIN_ARTICLES and right[label] < LOW_AGREEMENT * n
    }
    if low:
        order = sorted(low, key=lambda label: low[label])
        yield Finding(
            "student-disagrees",
            Severity.warning,
            f"For {len(low):,} of {len(shared):,} labels the running student mostly says something "
            "else",
            "Either it does not know your kind of news yet, and retraining helps, or you mean "
            "something else by the label; then give it a name of its own.",
            len(low),
            task,
            tuple(
                Example(label, note=f"agrees {low[label]:.0%}; answers {_top(answers[label])}")
                for label in order[:MAX_EXAMPLES]
            ),
            details={"task": theirs, "agreement": low},
        )


def _labels_of_their_own(
    task: str, theirs: str, known: dict[str, str], answers: dict[str, Counter[str]]
) -> Iterator[Finding]:
    new = [label for label in answers if plain_label(label) not in known]
    if new:
        new.sort(key=lambda label: -answers[label].total())
        yield Finding(
            "new-labels",
            Severity.note,
            f"{plural(len(new), 'label is', 'labels are')} new to the running student's task {theirs!r}",
            "Retraining adds them. If one of them means what the student already calls otherwise, "
            "rename it in the file.",
            len(new),
            task,
            tuple(
                Example(label, note=f"it answers {_top(answers[label])}")
                for label in new[:MAX_EXAMPLES]
            ),
        )


def _top(found: Counter[str]) -> str:
    return ", ".join(f"{label!r} {n / found.total():.0%}" for label, n in found.most_common(2))
