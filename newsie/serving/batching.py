"""Batching: the texts of all requests, computed together.

Threads drain a bounded queue. A thread never waits for a batch to fill: it takes what is there, texts of
like length, up to a budget of tokens, so that a lone request is computed at once and a crowd in full
batches.

The order is fair queueing by tags (as Goyal, Vin & Cheng 1996): every text of a request has one, the tokens
that were taken when the request came plus the tokens of the request before it, and the lowest tag is
computed next. So the texts of a large request are spread over time and a small one that comes later is
answered between them; and as the clock goes on with every batch, nothing waits forever, however many come.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from newsie.serving.logs import note, place_of, write_line

__all__ = ["BatchReport", "Batcher", "OverloadedError", "Row"]

T = TypeVar("T")

Row = Mapping[str, NDArray[np.float64]]
"""What the model says of one text: task -> a row of what it says of a batch."""

RunBatch = Callable[[Sequence[Sequence[int]], Sequence[str]], Mapping[str, NDArray[np.float64]]]

LIKE_LENGTH = 1.15
"""Texts of a batch differ in length by at most this factor; padding costs more beyond it."""


class OverloadedError(Exception):
    """The queue is full.

    Args:
        wait_seconds: when there will be room again, about; 0 where that is not known yet.
    """

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"the queue is full; try again in {wait_seconds:.1f} s")
        self.wait_seconds = wait_seconds


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
    """What one request asks for, and how much of it is still to come."""

    tasks: tuple[str, ...]
    rows: list[Row | None]
    future: asyncio.Future[list[Row]]
    loop: asyncio.AbstractEventLoop
    started: float
    left: int
    gone: bool = False  # answered, cancelled or failed: what is left of it is not computed
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


@dataclass(order=True, slots=True)
class _Text:
    tag: int
    number: int  # no two are equal, so that a heap never compares requests
    index: int = field(compare=False)
    ids: Sequence[int] = field(compare=False)
    request: _Request = field(compare=False)


class Batcher:
    """A queue of texts and the threads that compute them.

    Args:
        run_batch: token ids of B texts and tasks -> task -> (B, ...); called from several threads.
        threads: how many.
        max_batch_tokens: budget of a batch, padding included; a longer text is a batch of its own.
        max_articles: texts that may wait.
        max_tokens: tokens that may wait.
        max_wait_seconds: how long they may have to wait, as fast as the last batches were computed.
        report: called after every batch, from its thread.
        waiting: called with the number of texts that wait, whenever it changes, from any thread.
    """

    def __init__(
        self,
        run_batch: RunBatch,
        *,
        threads: int,
        max_batch_tokens: int,
        max_articles: int,
        max_tokens: int,
        max_wait_seconds: float = math.inf,
        report: Callable[[BatchReport], None] = lambda report: None,
        waiting: Callable[[int], None] = lambda articles: None,
    ) -> None:
        self._run_batch, self._report, self._waiting = run_batch, report, waiting
        self._max_batch_tokens = max_batch_tokens
        self._max_articles, self._max_tokens = max_articles, max_tokens
        self._max_wait_seconds = max_wait_seconds
        self._changed = threading.Condition()
        self._queues: dict[int, list[_Text]] = {}  # class of length -> heap
        self._articles = self._tokens = self._numbered = 0
        self._taken_tokens = 0  # the clock of the order
        self._done_tokens, self._done_seconds = 0.0, 0.0  # of the last batches
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"newsie-batch-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return self._articles

    async def run(self, ids: Sequence[Sequence[int]], tasks: Sequence[str]) -> list[Row]:
        """What the model says of texts, in their order. Cancelling takes them out of the queue.

        Raises:
            OverloadedError: there is no room for them.
            BundleError: the model fails.
        """
        if not ids:
            return []
        loop = asyncio.get_running_loop()
        request = _Request(
            tasks=tuple(tasks),
            rows=[None] * len(ids),
            future=loop.create_future(),
            loop=loop,
            started=time.monotonic(),
            left=len(ids),
        )
        self._put(request, ids)
        try:
            rows = await request.future
            note(
                queue_seconds=round(request.queue_seconds, 6),
                inference_seconds=round(request.inference_seconds, 6),
            )
            return rows
        finally:
            self._leave(request)

    def close(self) -> None:
        """Compute what is in the queue, take nothing more, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _put(self, request: _Request, ids: Sequence[Sequence[int]]) -> None:
        tokens = sum(map(len, ids))
        with self._changed:
            if self._closed:
                raise OverloadedError(1.0)
            full = (
                self._articles + len(ids) > self._max_articles
                or self._tokens + tokens > self._max_tokens
                or self._seconds_for(self._tokens + tokens) > self._max_wait_seconds
            )
            if full and self._articles:  # an empty queue takes whatever a request may hold
                raise OverloadedError(self._seconds_for(self._tokens))
            tag = self._taken_tokens
            for index in sorted(range(len(ids)), key=lambda index: len(ids[index])):
                self._numbered += 1
                text = _Text(tag, self._numbered, index, ids[index], request)
                heapq.heappush(self._queues.setdefault(_length_class(ids[index]), []), text)
                tag += len(ids[index])
            self._count(len(ids), tokens)
            self._changed.notify(min(len(ids), len(self._threads)))

    def _leave(self, request: _Request) -> None:
        """Take what is left of a request out of the queue."""
        if not request.left or request.gone:
            return
        with self._changed:
            request.gone = True
            for length, queue in list(self._queues.items()):
                kept = [text for text in queue if text.request is not request]
                if len(kept) < len(queue):
                    left = sum(len(text.ids) for text in queue if text.request is request)
                    self._count(len(kept) - len(queue), -left)
                    heapq.heapify(kept)
                    self._queues[length] = kept
                    if not kept:
                        del self._queues[length]

    def _work(self) -> None:
        while batch := self._take():
            self._compute(batch)

    def _take(self) -> list[_Text]:
        """The next batch; empty when the batcher is closed and there is nothing left."""
        with self._changed:
            while not self._queues:
                if self._closed:
                    return []
                self._changed.wait()
            length = min(self._queues, key=lambda length: self._queues[length][0])
            queue = self._queues[length]
            # A smaller budget where there is little to do, so that every thread has something to do.
            budget = min(self._max_batch_tokens, math.ceil(self._tokens / len(self._threads)))
            batch, longest = [heapq.heappop(queue)], 0
            longest = len(batch[0].ids)
            while queue:
                longest = max(longest, len(queue[0].ids))
                if (len(batch) + 1) * longest > budget:
                    break
                batch.append(heapq.heappop(queue))
            if not queue:
                del self._queues[length]
            tokens = sum(len(text.ids) for text in batch)
            self._taken_tokens += tokens
            self._count(-len(batch), -tokens)
            return batch

    def _count(self, articles: int, tokens: int) -> None:
        self._articles += articles
        self._tokens += tokens
        self._watch(self._waiting, self._articles)

    def _compute(self, batch: list[_Text]) -> None:
        begun = time.monotonic()
        tasks = dict.fromkeys(task for text in batch for task in text.request.tasks)
        error: Exception | None = None
        try:
            found = self._run_batch([text.ids for text in batch], list(tasks))
        except Exception as caught:  # whatever it is, those who wait must hear of it
            error = caught
        seconds = time.monotonic() - begun
        tokens = sum(len(text.ids) for text in batch)
        if error is None:
            self._measure(tokens, seconds)
            self._deliver(batch, found, begun, seconds)
        elif len(batch) == 1:
            self._tell(batch[0].request, error)
        waits = [begun - text.request.started for text in batch]
        self._watch(self._report, BatchReport(len(batch), tokens, seconds, waits, error))
        if error is not None and len(batch) > 1:
            for text in batch:  # one text must not spoil the answers of others
                if not text.request.gone:
                    self._compute([text])

    def _measure(self, tokens: int, seconds: float) -> None:
        """Half of what is known of the speed comes from as many tokens as eight full batches hold."""
        kept = 0.5 ** (tokens / (8 * self._max_batch_tokens))
        with self._changed:
            self._done_tokens = kept * self._done_tokens + tokens
            self._done_seconds = kept * self._done_seconds + seconds

    def _seconds_for(self, tokens: int) -> float:
        """How long the threads take for so many tokens; 0 where nothing is known yet."""
        if not self._done_tokens:
            return 0.0
        return tokens * self._done_seconds / self._done_tokens / len(self._threads)

    def _watch(self, watcher: Callable[[T], None], seen: T) -> None:
        """Those who watch must not end a thread, which answers requests."""
        try:
            watcher(seen)
        except Exception as error:
            write_line({"level": "error", "event": "not counted", "fault": place_of(error)})

    def _deliver(
        self,
        batch: list[_Text],
        found: Mapping[str, NDArray[np.float64]],
        begun: float,
        seconds: float,
    ) -> None:
        done: list[_Request] = []
        with self._changed:
            for row, text in enumerate(batch):
                request = text.request
                request.rows[text.index] = {task: found[task][row] for task in request.tasks}
                request.left -= 1
                if begun - request.started > request.queue_seconds:
                    request.queue_seconds = begun - request.started
                    request.inference_seconds = seconds
                if not request.left:
                    done.append(request)
        for request in done:
            _call(request, request.finish)

    def _tell(self, request: _Request, error: Exception) -> None:
        self._leave(request)
        _call(request, lambda: request.fail(error))


def _call(request: _Request, function: Callable[[], None]) -> None:
    """Call in the request's loop; where that has ended, nobody waits."""
    with contextlib.suppress(RuntimeError):
        request.loop.call_soon_threadsafe(function)


def _length_class(ids: Sequence[int]) -> int:
    """Equal for texts of like length."""
    return int(math.log(max(len(ids), 1)) / math.log(LIKE_LENGTH))
