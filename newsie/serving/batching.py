"""Batching: the texts of all requests, computed together.

Threads drain a bounded queue (see `newsie.serving.queueing` for its order and its limits). A thread never
waits for a batch to fill: it takes the texts of like length that wait, up to a budget of tokens. A lone
request is computed at once, and a crowd in full batches.
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
"""The model's answer to one text: task -> the row of that text in the answer to its batch."""

RunBatch = Callable[[Sequence[Sequence[int]], Sequence[str]], Mapping[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class BatchReport:
    """What a batch was, for metrics.

    Attributes:
        articles: how many.
        tokens: of them, padding not included.
        seconds: the model took for it.
        waits_seconds: how long each article had waited.
        error: why it failed, or None.
    """

    articles: int
    tokens: int
    seconds: float
    waits_seconds: Sequence[float]
    error: Exception | None = None


@dataclass(eq=False)
class _Request:
    """A request whose texts are queued, and the answers to them so far."""

    ticket: Ticket
    tasks: tuple[str, ...]
    rows: list[Row | None]
    future: asyncio.Future[list[Row]]
    loop: asyncio.AbstractEventLoop
    started: float
    left: int
    queue_seconds: float = 0.0  # until its last batch was begun
    inference_seconds: float = 0.0  # of the model, for that batch

    def finish(self) -> None:
        """In the loop: hand over the answer, unless nobody waits any more."""
        if not self.future.done():
            self.future.set_result([row for row in self.rows if row is not None])

    def fail(self, error: Exception) -> None:
        """In the loop: the same for an error."""
        if not self.future.done():
            self.future.set_exception(error)


class Batcher:
    """A queue of texts and the threads that compute them.

    Args:
        run_batch: token ids of B texts and tasks -> task -> (B, ...); called from several threads.
        limits: limits of the queue, and the number of threads.
        report: called after every batch, from its thread.
        waiting: called with the number of texts that wait, whenever it changes, from any thread.
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
        """Texts in the queue."""
        return self._queue.articles

    @contextmanager
    def admitted(self, articles: int, tokens: int) -> Iterator[Ticket]:
        """A place in the queue for a request that is still to be tokenised. It is given up at the end.

        Args:
            articles: texts of the request.
            tokens: an estimate.

        Raises:
            OverloadedError: there is no room, or the request would wait too long.
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
        """The model's answers to texts, in their order. Cancelling takes them out of the queue.

        Args:
            ids: token ids of each text.
            tasks: tasks to answer.
            ticket: the place of the request; None asks for one now.

        Raises:
            OverloadedError: there is no room, or the request would wait too long.
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
        """Compute what is in the queue, take nothing more, and end the threads."""
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
        """The next batch; empty when the batcher is closed and there is nothing left."""
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
        except Exception as caught:  # whatever it is, those who wait must hear of it
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
        failed, error = error is not None, None  # its traceback would hold this frame
        if failed and len(batch) > 1:
            for text in batch:  # one text must not spoil the answers of others
                if not text.ticket.gone:
                    self._compute([text])

    def _watch(self, watcher: Callable[[T], None], seen: T) -> None:
        """Those who watch must not end a thread, which answers requests."""
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
    """Call in the request's loop; where that has ended, nobody waits."""
    with contextlib.suppress(RuntimeError):
        request.loop.call_soon_threadsafe(function)
