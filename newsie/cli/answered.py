"""The predictions for all articles of a file, collected for an analysis; the texts are not kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from newsie.data.articles import Article
    from newsie.inference.prediction import Prediction
    from newsie.labels import LabelSpace, Task

__all__ = ["Answered", "Answerer", "By"]

IGNORE = -100
BLOCK = 4_096  # articles whose predictions are concatenated


class By(StrEnum):
    """The kind of groups of articles that are compared."""

    publisher = "publisher"
    month = "month"


class Answerer(Protocol):
    """The interface of a source of predictions, as `Classifier` has it."""

    @property
    def labels(self) -> LabelSpace:
        """The tasks that it predicts."""

    def classify_stream(
        self, articles: Iterable[Article], *, tasks: Sequence[str] | None = None
    ) -> Iterator[tuple[Article, Prediction]]:
        """Yield the articles in order, each with its predictions."""


class Answered:
    """The predictions for all articles of a file: probabilities and gold labels by task, and groups."""

    def __init__(self, tasks: Sequence[Task], by: By | None) -> None:
        self.tasks, self._by = tasks, by
        self.articles = 0
        self.groups: list[str] = []
        self.unknown: dict[str, Counter[str]] = {task.name: Counter() for task in tasks}
        self._gold: dict[str, list[int]] = {task.name: [] for task in tasks}
        self._blocks: dict[str, list[NDArray[np.float32]]] = {task.name: [] for task in tasks}
        self._index = {t.name: {label: i for i, label in enumerate(t.labels)} for t in tasks}

    def read(self, articles: Iterable[Article], answerer: Answerer) -> None:
        """Classify all articles; their texts are not kept."""
        from newsie.cli.terminal import counted

        names = [task.name for task in self.tasks]
        rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
        pairs = counted(answerer.classify_stream(articles, tasks=names), "articles")
        for article, prediction in pairs:
            self._note(article)
            for name in names:
                rows[name].append(prediction.probabilities[name])
            if self.articles % BLOCK == 0:
                self._put(rows)
        self._put(rows)

    def _note(self, article: Article) -> None:
        from newsie.data.cleaning import clean_text

        self.articles += 1
        if self._by is By.publisher:
            self.groups.append(clean_text(article.publisher))
        elif self._by is By.month:
            self.groups.append(clean_text(article.published or "")[:7])
        for name, index in self._index.items():
            label = article.labels.get(name)
            self._gold[name].append(IGNORE if label is None else index.get(label, IGNORE))
            if label is not None and label not in index:
                self.unknown[name][label] += 1

    def _put(self, rows: Mapping[str, list[NDArray[np.float64]]]) -> None:
        import numpy as np

        for name, part in rows.items():
            if part:
                self._blocks[name].append(np.stack(part).astype(np.float32))
                part.clear()

    def probabilities(self, task: str) -> NDArray[np.float32]:
        """Return the probabilities of a task, (N, C). Works once: it gives up the pieces."""
        import numpy as np

        pieces = self._blocks.pop(task)
        found = np.empty((self.articles, pieces[0].shape[1]), np.float32)
        end = self.articles
        while pieces:  # each is released once copied: memory for all of them is held only once
            piece = pieces.pop()
            found[end - len(piece) : end] = piece
            end -= len(piece)
        return found

    def labels(self, task: str) -> tuple[str, ...]:
        """Return the labels of a task."""
        return tuple(self._index[task])

    def without_label(self, task: str) -> int:
        """Return the number of articles that have no gold label for a task."""
        return self._gold[task].count(IGNORE) - self.unknown[task].total()

    def gold(self, task: str) -> NDArray[np.int64]:
        """Return the gold class indices of a task, (N,)."""
        import numpy as np

        return np.array(self._gold[task], np.int64)
