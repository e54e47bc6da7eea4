"""The served model: a classifier with its queue and its cache."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.errors import BundleError
from newsie.inference.classifier import Classifier
from newsie.inference.explanation import Explanation
from newsie.inference.prediction import Prediction
from newsie.serving.batching import Batcher, BatchReport
from newsie.serving.cache import AnswerCache, Cached
from newsie.serving.logs import note
from newsie.serving.queueing import Limits
from newsie.serving.settings import Settings
from newsie.serving.slices import Slices

__all__ = ["Answers", "ServedModel", "TooLongError", "self_test"]

T = TypeVar("T")

LOGITS, PROBABILITIES = 0, 1  # indexes into a row

CHARACTERS_PER_TOKEN = 4
"""Approximate value for English text. Only admission uses it; exact counts replace it after tokenising."""

PIECE_ARTICLES = 8
"""The number of articles of a request that are tokenised at a time. The pieces of several requests take
turns, so that a small request does not wait until a large one is tokenised."""

TEST_TEXTS = (
    "Late goal wins the cup",
    "Shares fall as the bank warns of losses\nInvestors sold after a weak quarter.",
    "A",
)


class TooLongError(Exception):
    """Raised if a text is longer than the model reads and may not be cut."""


@dataclass(frozen=True)
class Answers:
    """The predictions of one model for some articles.

    Attributes:
        predictions: one for each article, in order.
        logits: logits of the same articles, before calibration.
        tokens: number of tokens of all articles.
    """

    predictions: list[Prediction]
    logits: list[dict[str, NDArray[np.float64]]]
    tokens: int


class ServedModel:
    """A classifier with its queue and cache. A request uses one of these, and so never mixes two models.

    Args:
        classifier: the model.
        settings: limits of the queue and the cache.
        report: see `Batcher`.
        waiting: see `Batcher`.
        slices: runs work on the event loop in slices; None creates a new one for this model.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: Settings,
        report: Callable[[BatchReport], None] = lambda report: None,
        waiting: Callable[[int], None] = lambda articles: None,
        slices: Slices | None = None,
    ) -> None:
        self.classifier = classifier
        self.name = classifier.bundle.manifest.name
        self.fingerprint = classifier.bundle.fingerprint
        self.dtype = _dtype_of(classifier.bundle.model_path)
        self._slices = slices or Slices()
        self._users, self._unused = 0, asyncio.Event()
        self._cache = AnswerCache(settings.cache_articles)
        self._encoders = ThreadPoolExecutor(classifier.threads, "newsie-encode")
        limits = Limits(
            threads=classifier.threads,
            max_batch_tokens=settings.max_batch_tokens,
            max_articles=settings.max_queue_articles,
            max_tokens=settings.max_queue_tokens,
            max_wait_seconds=settings.request_timeout_seconds / 2,
            deadline_seconds=settings.request_timeout_seconds,
        )
        # A bound method would create a reference cycle and keep a swapped-out model in memory.
        run_batch = partial(_run_batch, classifier)
        self._batcher = Batcher(run_batch, limits, report=report, waiting=waiting)

    async def classify(
        self, articles: Sequence[Article], tasks: Sequence[str], *, cut: bool = True
    ) -> Answers:
        """Return the predictions of this model for articles.

        Raises:
            InputError: an article has no text.
            TooLongError: an article is longer than the model reads, and `cut` is false.
            OverloadedError: the queue is full.
            BundleError: the model fails.
        """
        answered = await (
            self._through_cache(articles, cut)
            if self._cache.size
            else self._compute(articles, tasks, cut)
        )
        predictions = await self._slices.map(
            lambda answer: Prediction(
                self.classifier.labels,
                {task: answer.row[task][PROBABILITIES] for task in tasks},
                answer.truncated,
            ),
            answered,
        )
        logits = [{task: answer.row[task][LOGITS] for task in tasks} for answer in answered]
        return Answers(predictions, logits, sum(answer.tokens for answer in answered))

    async def explain(
        self, article: Article, *, tasks: Sequence[str], labels: Mapping[str, str], max_passes: int
    ) -> Explanation:
        """Explain a prediction as `Classifier.explain` does. The passes go through the fair queue.

        Raises:
            InputError: the article has no text.
            LabelError: there is no such label.
            OverloadedError: the queue is full.
            BundleError: the model fails.
        """
        plan = await self._in_thread(
            lambda: self.classifier.plan_explanation(
                article, tasks=tasks, labels=labels, max_passes=max_passes
            )
        )
        note(tokens=len(plan.ids[0]))
        rows = await self._batcher.run(plan.ids, plan.tasks)
        return self.classifier.finish_explanation(
            plan, {task: np.stack([row[task][LOGITS] for row in rows]) for task in plan.tasks}
        )

    async def _compute(
        self, articles: Sequence[Article], tasks: Sequence[str], cut: bool
    ) -> list[Cached]:
        with self._batcher.admitted(len(articles), self._estimate_tokens(articles)) as ticket:
            ids, truncated = await self._encode(articles)
            if not cut and any(truncated):
                raise TooLongError
            rows = await self._batcher.run(ids, tasks, ticket)
        return [
            Cached(row, was_cut, len(row_ids))
            for row, was_cut, row_ids in zip(rows, truncated, ids, strict=True)
        ]

    def _estimate_tokens(self, articles: Sequence[Article]) -> int:
        """Return an estimate of the number of tokens, from the lengths of the articles."""
        most = self.classifier.max_tokens
        return sum(
            min(most, 1 + (len(article.headline) + len(article.body)) // CHARACTERS_PER_TOKEN)
            for article in articles
        )

    async def _encode(self, articles: Sequence[Article]) -> tuple[list[list[int]], list[bool]]:
        """Tokenise articles piece by piece. Return their token ids and whether each was cut."""
        ids: list[list[int]] = []
        truncated: list[bool] = []
        for start in range(0, len(articles), PIECE_ARTICLES):
            piece = articles[start : start + PIECE_ARTICLES]
            encoded = await self._in_thread(partial(self.classifier.encode, piece, first=start + 1))
            ids += encoded.ids
            truncated += map(bool, encoded.truncated)
        return ids, truncated

    async def _through_cache(self, articles: Sequence[Article], cut: bool) -> list[Cached]:
        """Compute all tasks and cache them, as the next request may ask for other tasks."""
        keys = await self._slices.map(self._cache.key, articles)
        found = {key: answer for key in keys if (answer := self._cache.get(key)) is not None}
        if not cut and any(answer.truncated for answer in found.values()):
            raise TooLongError
        new = {key: a for key, a in zip(keys, articles, strict=True) if key not in found}
        if new:
            answers = await self._compute(list(new.values()), self.classifier.tasks, cut)
            kept = list(zip(new, answers, strict=True))
            await self._slices.map(lambda item: self._cache.put(*item), kept)
            found.update(kept)
        return [found[key] for key in keys]

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._encoders, function)

    @contextmanager
    def used(self) -> Iterator[ServedModel]:
        """Keep the model open while a request uses it."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Wait until no request uses this model, then end its threads."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await asyncio.to_thread(self.discard)

    def discard(self) -> None:
        """End the threads of a model that no request uses."""
        self._batcher.close()
        self._encoders.shutdown()


def _run_batch(
    classifier: Classifier, ids: Sequence[Sequence[int]], tasks: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return task -> (B, 2, C): logits and probabilities, calibrated for the whole batch at once."""
    logits = classifier.run_batch(ids, tasks)
    probabilities = classifier.calibrate(logits)
    return {task: np.stack([logits[task], probabilities[task]], axis=1) for task in logits}


def _dtype_of(graph: Path) -> str:
    """Return the weight type of a graph: "int8" if it is quantised, as Newsie's own are, or "float32"."""
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as found:
        return "int8" if found.find(b"MatMulInteger") >= 0 else "float32"


def self_test(classifier: Classifier) -> None:
    """Check that a model predicts the same alone and in a batch. This also warms it up.

    Raises:
        BundleError: the predictions differ, or the model fails.
    """
    together = classifier.classify(TEST_TEXTS)
    alone = [classifier.classify([text])[0] for text in TEST_TEXTS]
    for one, other in zip(together, alone, strict=True):
        for task in classifier.tasks:
            difference = np.abs(one.probabilities[task] - other.probabilities[task]).max()
            if not difference <= 1e-4 or not abs(one.probabilities[task].sum() - 1) <= 1e-5:
                raise BundleError(
                    f"bundle {classifier.bundle.path} fails its self-test: task {task!r} differs by "
                    f"{difference:.2g} between one article and a batch; use another bundle"
                )
