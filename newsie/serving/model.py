"""The model that is served, and how another one takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from newsie.classifier import Classifier, Prediction
from newsie.data.articles import Article
from newsie.errors import BundleError
from newsie.serving.batching import Batcher, BatchReport, Row
from newsie.serving.settings import Settings

__all__ = ["Answers", "Models", "ServedModel", "self_test"]

TEST_TEXTS = (
    "Late goal wins the cup",
    "Shares fall as the bank warns of losses\nInvestors sold after a weak quarter.",
    "A",
)


@dataclass(frozen=True)
class Answers:
    """What one model said of some articles.

    Attributes:
        predictions: in the order of the articles.
        logits: the same before calibration.
        tokens: of all articles.
    """

    predictions: list[Prediction]
    logits: list[Row]
    tokens: int


class ServedModel:
    """A classifier with its queue; everything that an answer needs, so that none mixes two models.

    Args:
        classifier: the model.
        settings: limits of the queue.
        report: called after every batch, from a thread.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: Settings,
        report: Callable[[BatchReport], None] = lambda report: None,
    ) -> None:
        self.classifier = classifier
        self.name = classifier.bundle.manifest.name
        self.fingerprint = classifier.bundle.fingerprint
        self.users = 0
        self._unused = asyncio.Event()
        self._encoders = ThreadPoolExecutor(classifier.threads, "newsie-encode")
        self.batcher = Batcher(
            classifier.run_batch,
            threads=classifier.threads,
            max_batch_tokens=settings.max_batch_tokens,
            max_articles=settings.max_queue_articles,
            max_tokens=settings.max_queue_tokens,
            report=report,
        )

    async def classify(self, articles: Sequence[Article], tasks: Sequence[str]) -> Answers:
        """The answers of this model to articles.

        Raises:
            InputError: an article has no text.
            OverloadedError: the queue is full.
            BundleError: the model fails.
        """
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._encoders, self.classifier.encode, articles)
        logits = await self.batcher.run(encoded.ids, tasks)
        predictions = [
            self.classifier.prediction(row, truncated=bool(truncated))
            for row, truncated in zip(logits, encoded.truncated, strict=True)
        ]
        return Answers(predictions, logits, sum(map(len, encoded.ids)))

    @contextmanager
    def used(self) -> Iterator[ServedModel]:
        """While a request works with this model, it is not closed."""
        self.users += 1
        try:
            yield self
        finally:
            self.users -= 1
            if not self.users:
                self._unused.set()

    async def close(self) -> None:
        """Wait until no request works with this model, then end its threads."""
        while self.users:
            self._unused.clear()
            await self._unused.wait()
        await asyncio.to_thread(self.batcher.close)
        self._encoders.shutdown()


class Models:
    """The model that answers now. Replacing it is one step: a request has the old or the new one."""

    def __init__(self) -> None:
        self._current: ServedModel | None = None

    @property
    def current(self) -> ServedModel | None:
        """The model that answers now; None until one was loaded."""
        return self._current

    def replace(self, model: ServedModel) -> ServedModel | None:
        """Let a model answer from now on; the one before is given back, to be closed."""
        before, self._current = self._current, model
        return before


def self_test(classifier: Classifier) -> None:
    """Whether a model answers at all, the same alone and in a batch; also warms it.

    Raises:
        BundleError: it does not.
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
