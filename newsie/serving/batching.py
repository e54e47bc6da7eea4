"""Batching of the texts of all requests.

Threads drain a bounded queue (see `newsie.serving.queueing` for its order and its limits). A thread never
waits for a batch to fill: it takes the waiting texts of similar length, up to a budget of tokens. A single
request is computed at once, and many requests in full batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from newsie.serving.logs import note, place_of, write_line
from newsie.serving.queueing import FairQueue, Limits, OverloadedError, Text, Ticket

__all__ = ["BatchReport", "Batcher", "Row"]

T = TypeVar("T")

Row = Mapping[str, NDArray[np.float64]]
"""The output of the model for one text: task -> its row in the output of the batch."""

RunBatch = Callable[[Sequence[Sequence[int]], Sequence[str]], Mapping[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class BatchReport:
    """The size and the timing of a batch, for metrics.

    Attributes:
        articles: number of articles.
        tokens: number of tokens, without padding.
        seconds: time that the model took.
        waits_seconds: time that each article had waited.
        error: the error if the batch failed, or None.
    """

    articles: int
    tokens: int
    seconds: float
    waits_seconds: Sequence[float]
    error: Exception | None = None


@dataclass(eq=False)
class _Request:
    """A request whose texts are queued, with the rows computed so far."""

    ticket: Ticket
    tasks: tuple[str, ...]
    rows: list[Row | None]
    future: asyncio.Future[list[Row]]
    loop: asyncio.AbstractEventLoop
    started: float
    left: int
    queue_seconds: float = 0.0  # the longest wait until a batch began
    inference_seconds: float = 0.0  # time of the model for that batch

    def finish(self) -> None:
        """Set the result, unless the request was cancelled. Call it in the event loop."""
        if not self.future.done():
            self.future.set_result([row for row in self.rows if row is not None])

    def fail(self, error: Exception) -> None:
        """Set the error, unless the request was cancelled. Call it in the event loop."""
        if not self.future.done():
            self.future.set_exception(error)


class Batcher:
    """A queue of texts and the threads that compute them.

    Args:
        run_batch: maps token ids of B texts and tasks to task -> (B, ...); called from several threads.
        limits: limits of the queue, and the number of threads.
        report: called after every batch, from its thread.
        waiting: called from any thread with the number of waiting texts, whenever it changes.
    """

    def __init__(
        self,
        run_batch: RunBatch,
        limits: Limits,
        *,
        report: Callable[[BatchReport], None] = lambda report: None,
        waiting: Callable[[int], None] = lambda articles: None,
    ) -> None:
        self._run_batch, self._report, self._waiting = run_batch, report, waiting
        self._changed = threading.Condition()
        self._queue: FairQueue[_Request] = FairQueue(limits)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"newsie-batch-{number}", daemon=True)
            for number in range(limits.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """The number of texts in the queue."""
        return self._queue.articles

    @contextmanager
    def admitted(self, articles: int, tokens: int) -> Iterator[Ticket]:
        """Hold a place in the queue for a request that is still to be tokenised.

        Args:
            articles: number of texts of the request.
            tokens: estimated number of their tokens.

        Raises:
            OverloadedError: the queue has no room, or the request would wait too long.
        """
        with self._changed:
            self._check_open()
            ticket = self._queue.admit(articles, tokens)
            self._tell_waiting()
        try:
            yield ticket
        finally:
            self._leave(ticket)

    async def run(
        self, ids: Sequence[Sequence[int]], tasks: Sequence[str], ticket: Ticket | None = None
    ) -> list[Row]:
        """Return the model's output for each text, in order. Cancelling removes the texts from the queue.

        Args:
            ids: token ids of each text.
            tasks: tasks to compute.
            ticket: the place of the request; None requests one now.

        Raises:
            OverloadedError: the queue has no room, or the request would wait too long.
            TooMuchError: the request could not be computed in time by an idle server.
            BundleError: the model fails.
        """
        if not ids:
            return []
        if ticket is None:
            with self.admitted(len(ids), sum(map(len, ids))) as ticket:
                return await self.run(ids, tasks, ticket)
        request = self._put(ids, tasks, ticket)
        rows = await request.future
        note(
            queue_seconds=round(request.queue_seconds, 6),
            inference_seconds=round(request.inference_seconds, 6),
        )
        return rows

    def close(self) -> None:
        """Refuse new texts, compute those in the queue, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _put(self, ids: Sequence[Sequence[int]], tasks: Sequence[str], ticket: Ticket) -> _Request:
        loop = asyncio.get_running_loop()
        request = _Request(
            ticket=ticket,
            tasks=tuple(tasks),
            rows=[None] * len(ids),
            future=loop.create_future(),
            loop=loop,
            started=time.monotonic(),
            left=len(ids),
        )
        with self._changed:
            self._check_open()
            self._queue.put(ticket, ids, request)
            self._tell_waiting()
            self._changed.notify(min(len(ids), len(self._threads)))
        return request

    def _check_open(self) -> None:
        if self._closed:
            raise OverloadedError(1.0)

    def _leave(self, ticket: Ticket) -> None:
        with self._changed:
            self._queue.leave(ticket)
            self._tell_waiting()

    def _work(self) -> None:
        while batch := self._take():
            self._compute(batch)

    def _take(self) -> list[Text[_Request]]:
        """Wait for the next batch and return it; empty if the batcher is closed and no text is left."""
        with self._changed:
            while not (batch := self._queue.take()):
                if self._closed:
                    return []
                self._changed.wait()
            self._tell_waiting()
            return batch

    def _tell_waiting(self) -> None:
        self._watch(self._waiting, self._queue.articles)

    def _compute(self, batch: list[Text[_Request]]) -> None:
        begun = time.monotonic()
        tasks = dict.fromkeys(task for text in batch for task in text.owner.tasks)
        error: Exception | None = None
        try:
            answers = self._run_batch([text.ids for text in batch], list(tasks))
        except Exception as caught:  # any error must reach the waiting requests
            error = caught
        seconds = time.monotonic() - begun
        tokens = sum(len(text.ids) for text in batch)
        if error is None:
            with self._changed:
                self._queue.measure(tokens, seconds)
            self._deliver(batch, answers, begun, seconds)
        elif len(batch) == 1:
            self._fail(batch[0].owner, error)
        waits = [begun - text.owner.started for text in batch]
        self._watch(self._report, BatchReport(len(batch), tokens, seconds, waits, error))
        failed, error = error is not None, None  # its traceback would keep this frame alive
        if failed and len(batch) > 1:
            for text in batch:  # one text must not spoil the results of others
                if not text.ticket.gone:
                    self._compute([text])

    def _watch(self, watcher: Callable[[T], None], seen: T) -> None:
        """Call a watcher. Its errors are logged, as they must not end the thread."""
        try:
            watcher(seen)
        except Exception as error:
            write_line({"level": "error", "event": "not counted", "fault": place_of(error)})

    def _deliver(
        self,
        batch: list[Text[_Request]],
        answers: Mapping[str, NDArray[np.float64]],
        begun: float,
        seconds: float,
    ) -> None:
        done: list[_Request] = []
        with self._changed:
            for row, text in enumerate(batch):
                request = text.owner
                request.rows[text.index] = {task: answers[task][row] for task in request.tasks}
                request.left -= 1
                if begun - request.started > request.queue_seconds:
                    request.queue_seconds = begun - request.started
                    request.inference_seconds = seconds
                if not request.left:
                    done.append(request)
        for request in done:
            _call(request, request.finish)

    def _fail(self, request: _Request, error: Exception) -> None:
        self._leave(request.ticket)
        _call(request, lambda: request.fail(error))


def _call(request: _Request, function: Callable[[], None]) -> None:
    """Call a function in the request's event loop. Do nothing if the loop is closed."""
    with contextlib.suppress(RuntimeError):
        request.loop.call_soon_threadsafe(function)
