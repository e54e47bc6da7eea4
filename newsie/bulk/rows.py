"""Predictions as rows of files, each with the position of its article in the source."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from newsie.data.articles import Article
    from newsie.data.readers import ArticleReader
    from newsie.inference.classifier import Classifier
    from newsie.inference.prediction import Prediction

__all__ = [
    "Answer",
    "answer_windows",
    "answers",
    "flat_row",
    "nested_row",
    "sample_row",
    "text_answers",
]


class Answer(NamedTuple):
    """An article and its prediction.

    Attributes:
        article: the article.
        prediction: its prediction.
        number: 1-based number of its row in the source; a header is not counted.
        place: columns that identify its row: {"id": ...}, with {"row": ...} if the source has no ids.
    """

    article: Article
    prediction: Prediction
    number: int
    place: dict[str, Any]


def answers(
    classifier: Classifier, reader: ArticleReader, tasks: Sequence[str] | None
) -> Iterator[Answer]:
    """Yield the predictions for all articles of a source, in order."""
    for window in answer_windows(classifier, reader, tasks):
        yield from window


def answer_windows(
    classifier: Classifier,
    reader: ArticleReader,
    tasks: Sequence[str] | None,
    *,
    after: int = 0,
    done: int = 0,
) -> Generator[list[Answer], None, None]:
    """Yield the predictions for a source in order, a window of articles at a time.

    Args:
        classifier: the classifier.
        reader: the source.
        tasks: the tasks to predict; None means all.
        after: number of the last row that an earlier run has classified, which ends a window.
        done: number of articles that it has classified.
    """
    numbers: deque[int] = deque()  # of articles that the classifier has taken but not yet returned

    def articles() -> Iterator[Article]:
        for article in reader:
            if reader.number > after:
                numbers.append(reader.number)
                yield article

    for window in classifier.classify_windows(articles(), tasks=tasks, done=done):
        yield [
            Answer(article, prediction, number, _place(reader, number, article))
            for (article, prediction), number in zip(
                window, [numbers.popleft() for _ in window], strict=True
            )
        ]


def sample_row(
    classifier: Classifier, reader: ArticleReader, tasks: Sequence[str] | None, top_k: int
) -> dict[str, Any]:
    """Return a sample row, as `flat_row` makes it, even of a source without articles."""
    from newsie.data.articles import Article

    [(article, prediction)] = classifier.classify_stream([Article("news")], tasks=tasks)
    return flat_row(Answer(article, prediction, 1, _place(reader, 1, article)), top_k)


def _place(reader: ArticleReader, number: int, article: Article) -> dict[str, Any]:
    row = {"id": article.id}
    return row if reader.columns.id is not None else {"row": number, **row}


def text_answers(
    classifier: Classifier, texts: Sequence[str], tasks: Sequence[str] | None
) -> Iterator[Answer]:
    """Yield the predictions for texts, in order."""
    pairs = classifier.classify_stream(texts, tasks=tasks)
    for number, (article, prediction) in enumerate(pairs, 1):
        yield Answer(article, prediction, number, {"id": article.id})


def nested_row(answer: Answer, top_k: int | None) -> dict[str, Any]:
    """Return a row for JSON: task -> [{"label", "score"}], the best first."""
    return {
        **answer.place,
        "headline": answer.article.headline,
        "predictions": answer.prediction.to_json(top_k),
        "truncated": answer.prediction.truncated,
    }


def flat_row(answer: Answer, top_k: int) -> dict[str, Any]:
    """Return a row for tables: id, headline, TASK, TASK_score, TASK_2, TASK_2_score, ..., truncated."""
    row: dict[str, Any] = {**answer.place, "headline": answer.article.headline}
    for task in answer.prediction.tasks:
        for rank, (label, score) in enumerate(answer.prediction.top(task, top_k), 1):
            name = task if rank == 1 else f"{task}_{rank}"
            row[name], row[f"{name}_score"] = label, score
    return {**row, "truncated": answer.prediction.truncated}
