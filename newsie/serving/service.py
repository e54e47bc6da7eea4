"""The service that all dialects share. Dialects read requests, call the service and write responses."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

from newsie.data.articles import Article
from newsie.errors import BundleError, InputError, LabelError
from newsie.inference.classifier import Classifier
from newsie.inference.explanation import Explanation
from newsie.serving.batching import BatchReport
from newsie.serving.health import Health
from newsie.serving.http_errors import RefusedError
from newsie.serving.logs import note, place_of, write_line
from newsie.serving.metrics import Metrics
from newsie.serving.model import Answers, ServedModel, TooLongError, self_test
from newsie.serving.queueing import OverloadedError, TooMuchError
from newsie.serving.settings import Settings
from newsie.serving.slices import Slices

__all__ = ["Service"]


class Service:
    """The current model with its limits, health and metrics.

    Args:
        settings: settings of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.health = Health(settings.failures_until_unready)
        self.metrics = Metrics()
        self.slices = Slices()
        self.current: ServedModel | None = None
        self._working = 0

    def prepare(self, classifier: Classifier) -> ServedModel:
        """Return a model with its queue, ready for `serve`.

        Raises:
            InputError: the model does not have the task that the settings name.
        """
        if self.settings.task is not None:
            try:
                classifier.labels[self.settings.task]
            except LabelError as error:
                raise InputError(f"setting task: {error}") from error
        waiting = self.metrics.queue_size.set
        return ServedModel(classifier, self.settings, self._report, waiting, self.slices)

    def serve(self, model: ServedModel) -> ServedModel | None:
        """Make a model the current one. Every request uses either the old or the new model.

        Returns:
            The previous model, to be closed by the caller.
        """
        self.metrics.loaded(model.fingerprint)
        before, self.current = self.current, model
        self.health.loaded()
        return before

    @contextmanager
    def model(self) -> Iterator[ServedModel]:
        """Yield the model for one request and keep it open until the request ends.

        Raises:
            RefusedError: no model is loaded yet, the model fails, or too many requests are in progress.
        """
        current = self.current
        if current is None or self.health.state == "failing":
            raise RefusedError(
                503,
                "not_ready",
                f"the server is {self.health.state}; try again later",
                {"Retry-After": "1"},
            )
        limit = self.settings.max_concurrent_requests
        if self._working >= limit:
            raise _overloaded(f"{limit} requests are worked on, which is the limit", 1)
        self._working += 1
        try:
            with current.used():
                yield current
        finally:
            self._working -= 1

    def tasks(self, model: ServedModel, asked: Sequence[str] | None) -> tuple[str, ...]:
        """Return the names of the requested tasks; None means all.

        Raises:
            RefusedError: there is no such task.
        """
        if asked is None:
            return model.classifier.tasks
        try:
            return tuple(dict.fromkeys(model.classifier.labels[task].name for task in asked))
        except LabelError as error:
            raise RefusedError(422, "task", str(error)) from error

    def task(self, model: ServedModel, asked: str | None) -> str:
        """Return the requested or default task for a dialect that predicts one task.

        Raises:
            RefusedError: there is no such task.
        """
        default = self.settings.task or model.classifier.tasks[0]
        return self.tasks(model, [asked or default])[0]

    async def classify(
        self,
        model: ServedModel,
        articles: Sequence[Article],
        tasks: Sequence[str],
        *,
        cut: bool = True,
    ) -> Answers:
        """Return predictions for articles. Unless `cut`, no article may be longer than the model reads.

        Raises:
            RefusedError: the articles are too many, too long or empty; the queue is full; the prediction
                took too long; the model fails.
        """
        note(articles=len(articles))
        self._check(articles)
        async with self._answering():
            try:
                answers = await model.classify(articles, tasks, cut=cut)
            except TooLongError as error:
                raise _too_long(model.classifier.max_tokens) from error
            except TooMuchError as error:
                raise self._too_much(error, len(articles)) from error
        note(tokens=answers.tokens)
        await self.slices.map(self.metrics.predicted, answers.predictions)
        return answers

    async def explain(
        self,
        model: ServedModel,
        article: Article,
        tasks: Sequence[str],
        labels: Mapping[str, str],
    ) -> Explanation:
        """Return the effect of each word on the prediction.

        Raises:
            RefusedError: as for `classify`, or there is no such label.
        """
        note(articles=1)
        self._check([article])
        for task in labels:
            if task not in tasks:
                raise RefusedError(
                    422, "task", f"a label is given for {task!r}; asked for: {', '.join(tasks)}"
                )
        passes = self.settings.max_explain_passes
        async with self._answering():
            try:
                return await model.explain(article, tasks=tasks, labels=labels, max_passes=passes)
            except TooMuchError as error:
                raise self._too_much(error, 1) from error

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Apply the time limit of a request, and convert errors to refusals."""
        seconds = self.settings.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except LabelError as error:
            raise RefusedError(422, "task", str(error)) from error
        except InputError as error:
            raise RefusedError(422, "empty", str(error)) from error
        except OverloadedError as error:
            raise _overloaded("the queue is full", max(1, math.ceil(error.wait_seconds))) from error
        except TimeoutError as error:
            raise RefusedError(
                504, "timeout", f"no answer within {seconds:g} s; send less at once, or later"
            ) from error
        except BundleError as error:
            raise RefusedError(424, "backend", "the model cannot answer this") from error

    def _too_much(self, error: TooMuchError, articles: int) -> RefusedError:
        """Return the refusal of a request that would miss its deadline even on an idle server."""
        limit = self.settings.request_timeout_seconds
        fit = int(articles * error.share)
        advice = f"send at most {fit} articles like these at once" if fit else "send a shorter text"
        return RefusedError(
            413,
            "deadline",
            f"computing this request takes about {error.seconds:.0f} s here, and an answer may take "
            f"{limit:g} s (setting request_timeout_seconds): {advice}",
        )

    async def probe(self) -> None:
        """Test a failing model at intervals, forever, as it receives no requests any more."""
        while True:
            await asyncio.sleep(self.settings.probe_seconds)
            if self.health.state == "failing":
                await asyncio.to_thread(self._try)

    def _try(self) -> bool:
        """Return True if the model passes its self-test."""
        if self.current is None:
            return False
        try:
            self_test(self.current.classifier)
        except Exception as error:  # any error: the next test comes anyway
            write_line({"level": "error", "event": "the model fails", "fault": place_of(error)})
            return False
        self.health.worked()
        return True

    def _check(self, articles: Sequence[Article]) -> None:
        if not articles:
            raise RefusedError(422, "empty", "no article is given; at least one")
        limit = self.settings.max_articles
        if len(articles) > limit:
            raise RefusedError(
                413, "articles", f"{len(articles)} articles are given; at most {limit} at once"
            )
        limit = self.settings.max_article_characters
        for number, article in enumerate(articles, 1):
            characters = len(article.headline) + len(article.body)
            if characters > limit:
                raise RefusedError(
                    413,
                    "characters",
                    f"article number {number} has {characters:,} characters; at most {limit:,}: "
                    "send its beginning, the model reads no more than that",
                )

    def _report(self, report: BatchReport) -> None:
        self.metrics.batch(report)
        if self.current and (passed_on := self.current.classifier.passed_on):
            self.metrics.cascade(passed_on)
        if report.error is None:
            self.health.worked()
            return
        # The texts may be at fault. No client may make the server unready by sending them, so test the model.
        if not (self.health.at_limit and self._try()):
            self.health.failed()


def _too_long(tokens: int) -> RefusedError:
    return RefusedError(
        413,
        "tokens",
        f'`inputs` must have at most {tokens} tokens; send "truncate": true to let the rest be cut off',
    )


def _overloaded(why: str, seconds: int) -> RefusedError:
    return RefusedError(
        429, "overloaded", f"{why}; try again in {seconds} s", {"Retry-After": str(seconds)}
    )
