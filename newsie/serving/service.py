"""The service: what all dialects share. A dialect reads a request, asks here, and writes the answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from newsie.classifier import Classifier
from newsie.data.articles import Article
from newsie.errors import BundleError, InputError, LabelError
from newsie.serving.batching import BatchReport, OverloadedError
from newsie.serving.health import Health
from newsie.serving.metrics import Metrics
from newsie.serving.model import Answers, Models, ServedModel
from newsie.serving.refusals import RefusedError
from newsie.serving.settings import Settings

__all__ = ["Service"]


class Service:
    """The model, its limits, its health and its metrics.

    Args:
        settings: limits.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.health = Health(settings.failures_until_unready)
        self.metrics = Metrics()
        self.models = Models()
        self._working = 0
        self.metrics.queue_size.set_function(self._waiting)

    def serve(self, classifier: Classifier) -> ServedModel | None:
        """Let a classifier answer from now on; the model before is given back, to be closed."""
        before = self.models.replace(ServedModel(classifier, self.settings, self._report))
        self.health.loaded()
        self.metrics.loaded(classifier.bundle.fingerprint)
        return before

    @contextmanager
    def model(self) -> Iterator[ServedModel]:
        """The model for one request, which stays the same until the request is answered.

        Raises:
            RefusedError: there is none yet, or as many requests are worked on as may be.
        """
        current = self.models.current
        if current is None or self.health.state == "failing":
            raise RefusedError(
                503,
                "not_ready",
                f"the server is {self.health.state}; try again later",
                {"Retry-After": "1"},
            )
        if self._working >= self.settings.max_concurrent_requests:
            raise RefusedError(
                429,
                "overloaded",
                f"{self._working} requests are worked on, which is the limit; try again later",
                {"Retry-After": "1"},
            )
        self._working += 1
        try:
            with current.used():
                yield current
        finally:
            self._working -= 1

    def tasks(self, model: ServedModel, asked: Sequence[str] | None) -> tuple[str, ...]:
        """The tasks to answer; None means all.

        Raises:
            RefusedError: there is no such task.
        """
        if asked is None:
            return model.classifier.tasks
        try:
            return tuple(dict.fromkeys(model.classifier.labels[task].name for task in asked))
        except LabelError as error:
            raise RefusedError(422, "task", str(error)) from error

    async def classify(
        self, model: ServedModel, articles: Sequence[Article], tasks: Sequence[str]
    ) -> Answers:
        """The answers to articles.

        Raises:
            RefusedError: the articles are too many or too long, or hold no text; the queue is full; the
                answer took too long; the model fails.
        """
        self._check(articles)
        try:
            async with asyncio.timeout(self.settings.request_timeout_seconds):
                answers = await model.classify(articles, tasks)
        except InputError as error:
            raise RefusedError(422, "empty", str(error)) from error
        except OverloadedError as error:
            wait = max(1, math.ceil(error.wait_seconds))
            raise RefusedError(
                429,
                "overloaded",
                f"the queue is full; try again in {wait} s",
                {"Retry-After": str(wait)},
            ) from error
        except TimeoutError as error:
            raise RefusedError(
                504,
                "timeout",
                f"no answer within {self.settings.request_timeout_seconds:g} s; send fewer articles "
                "at once, or try again later",
            ) from error
        except BundleError as error:
            raise RefusedError(424, "backend", "the model cannot answer these articles") from error
        self.metrics.predicted(answers.predictions)
        return answers

    def _check(self, articles: Sequence[Article]) -> None:
        if len(articles) > self.settings.max_articles:
            raise RefusedError(
                413,
                "articles",
                f"{len(articles)} articles are given; at most {self.settings.max_articles} a "
                "request: send them in several",
            )
        limit = self.settings.max_article_characters
        for number, article in enumerate(articles, 1):
            characters = len(article.headline) + len(article.body)
            if characters > limit:
                raise RefusedError(
                    413,
                    "characters",
                    f"article number {number} has {characters:,} characters; at most {limit:,}: "
                    "send its beginning, of which the model reads the first "
                    "few hundred words",
                )

    def _waiting(self) -> float:
        model = self.models.current
        return 0 if model is None else model.batcher.waiting

    def _report(self, report: BatchReport) -> None:
        self.metrics.batch(report)
        if report.error is None:
            self.health.worked()
        else:
            self.health.failed()
