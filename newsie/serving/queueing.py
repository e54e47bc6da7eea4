"""The fair queue: the order in which waiting texts are computed, and the requests that may join it.

The order is start-time fair queueing (Goyal, Vin & Cheng 1996). The clock counts the tokens taken so far.
A text's tag is the clock at its request's arrival plus the tokens of that request before it, and the lowest
tag is taken first. The texts of a large request are therefore spread over time, a small request that comes
later is computed between them, and nothing waits forever.

Admission follows the same order: a request is refused if what the queue would compute before it takes too
long, however much waits behind it. Space is shared by a dynamic threshold (Choudhury & Hahne 1998): a request
may take at most half of the space that is free, so that a few large requests cannot fill the queue.

This module is not thread-safe: its caller holds a lock.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["FairQueue", "Limits", "OverloadedError", "Text", "Ticket", "TooMuchError"]

R = TypeVar("R")

LIKE_LENGTH = 1.15
"""The maximum ratio of lengths in a batch. Beyond it, padding costs more than it saves."""


class OverloadedError(Exception):
    """Raised if the queue has no room for a request, or could not compute it in time.

    Args:
        wait_seconds: estimated time until there is room; 0 while the speed is unknown.
    """

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"the queue is full; try again in {wait_seconds:.1f} s")
        self.wait_seconds = wait_seconds


class TooMuchError(Exception):
    """Raised if a request is so large that it would miss its deadline on an idle server.

    Args:
        seconds: estimated time to compute it.
        share: the part of it that could be computed within the deadline, 0 to 1.
    """

    def __init__(self, seconds: float, share: float) -> None:
        super().__init__(f"computing this request takes about {seconds:.0f} s")
        self.seconds, self.share = seconds, share


@dataclass(frozen=True)
class Limits:
    """The limits of a queue.

    Attributes:
        threads: threads that compute batches.
        max_batch_tokens: budget of a batch, padding included; a longer text is a batch of its own.
        max_articles: maximum number of waiting texts.
        max_tokens: maximum number of waiting tokens.
        max_wait_seconds: maximum estimated time that a request waits for the texts before it.
        deadline_seconds: maximum estimated time until a request is computed, its own work included.
    """

    threads: int
    max_batch_tokens: int
    max_articles: int
    max_tokens: int
    max_wait_seconds: float = math.inf
    deadline_seconds: float = math.inf


@dataclass(eq=False, slots=True)
class Ticket:
    """The place of one request in the queue.

    Attributes:
        start: tag of the next text to be taken.
        end: tag after the last text; an estimate until the texts are known.
        articles: number of waiting texts.
        checked: whether the request is known to be in time.
        gone: whether the request was cancelled.
    """

    start: int
    end: int
    articles: int
    checked: bool = True
    gone: bool = False

    @property
    def tokens(self) -> int:
        """The number of waiting tokens."""
        return self.end - self.start


@dataclass(order=True, slots=True)
class Text(Generic[R]):
    """A waiting text.

    Attributes:
        tag: position in the order of the queue.
        number: unique, so that a heap never compares the other fields.
        index: position in its request.
        ids: token ids.
        ticket: place of its request.
        owner: the caller's object for the request.
    """

    tag: int
    number: int
    index: int = field(compare=False)
    ids: Sequence[int] = field(compare=False)
    ticket: Ticket = field(compare=False)
    owner: R = field(compare=False)


class FairQueue(Generic[R]):
    """A queue of texts in fair order, taken in batches of similar length.

    Args:
        limits: limits of the queue.

    Attributes:
        articles: number of waiting texts, including those of admitted requests that are being tokenised.
        tokens: number of waiting tokens, estimated for texts that are being tokenised.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.articles = self.tokens = 0
        self._tickets: set[Ticket] = set()
        self._heaps: dict[int, list[Text[R]]] = {}  # length class -> heap
        self._numbered = 0
        self._clock = 0
        self._done_tokens = self._done_seconds = 0.0  # of the last batches
        self._best_speed = 0.0  # tokens per second and thread in the fastest large batch

    def admit(self, articles: int, tokens: int) -> Ticket:
        """Give a request a place in the order.

        Args:
            articles: number of texts of the request.
            tokens: number of their tokens, or an estimate.

        Raises:
            OverloadedError: the queue has no room, or the request would wait too long.
        """
        if self.articles:  # an empty queue accepts a request of any size
            self._refuse_after(self._wait_for_room(articles, tokens))
        # Only the exact number, known in `put`, can prove that a request is too large for its deadline.
        checked = self._alone_seconds(tokens) <= self._limits.deadline_seconds
        if checked:
            self._refuse_after(self._wait_for_turn(tokens))
        else:
            tokens = 0
        ticket = Ticket(self._clock, self._clock + tokens, articles, checked)
        self._tickets.add(ticket)
        self.articles += articles
        self.tokens += tokens
        return ticket

    def put(self, ticket: Ticket, ids: Sequence[Sequence[int]], owner: R) -> None:
        """Queue the texts of an admitted request, shortest first.

        Raises:
            TooMuchError: they could not be computed within the deadline on an idle server.
            OverloadedError: the texts would be late, which was not checked because of a high estimate.
        """
        tokens = sum(map(len, ids))
        self._check_size(tokens)
        if not ticket.checked:
            self._refuse_after(self._wait_for_turn(tokens))
        self.articles += len(ids) - ticket.articles
        self.tokens += tokens - ticket.tokens
        ticket.articles, ticket.end = len(ids), ticket.start + tokens
        tag = ticket.start
        for index in sorted(range(len(ids)), key=lambda index: len(ids[index])):
            self._numbered += 1
            text = Text(tag, self._numbered, index, ids[index], ticket, owner)
            heapq.heappush(self._heaps.setdefault(_length_class(ids[index]), []), text)
            tag += len(ids[index])

    def leave(self, ticket: Ticket) -> None:
        """Give up a place. Texts that still wait are skipped when their turn comes."""
        ticket.gone = True
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            self.articles -= ticket.articles
            self.tokens -= ticket.tokens

    def take(self) -> list[Text[R]]:
        """Return the next batch; empty if no text waits."""
        for length in list(self._heaps):
            self._drop_gone(length)
        if not self._heaps:
            return []
        length = min(self._heaps, key=lambda length: self._heaps[length][0])
        # With little work, use a smaller budget, so that every thread has something to do.
        share = math.ceil(self.tokens / self._limits.threads)
        budget = min(self._limits.max_batch_tokens, share)
        batch = [self._pop(length)]
        longest = len(batch[0].ids)
        while heap := self._heaps.get(length):
            longest = max(longest, len(heap[0].ids))
            if (len(batch) + 1) * longest > budget:
                break
            batch.append(self._pop(length))
        return batch

    def measure(self, tokens: int, seconds: float) -> None:
        """Record the duration of a batch. The last eight full batches make up half of the estimated speed."""
        full = self._limits.max_batch_tokens
        kept = 0.5 ** (tokens / (8 * full))
        self._done_tokens = kept * self._done_tokens + tokens
        self._done_seconds = kept * self._done_seconds + seconds
        if 2 * tokens >= full and seconds > 0:  # small batches are slower per token
            self._best_speed = max(self._best_speed, tokens / seconds)

    def seconds_for(self, tokens: int) -> float:
        """Return the estimated time that all threads take for some tokens; 0 while the speed is unknown."""
        if not self._done_tokens:
            return 0.0
        return tokens * self._done_seconds / self._done_tokens / self._limits.threads

    def _wait_for_room(self, articles: int, tokens: int) -> float:
        """Return the estimated time until a request fits into half of the free space."""
        free_articles = self._limits.max_articles - self.articles
        free_tokens = self._limits.max_tokens - self.tokens
        if 2 * articles <= free_articles + 1 and 2 * tokens <= free_tokens:
            return 0.0
        short = (2 * articles - free_articles) / self.articles
        missing = max(2 * tokens - free_tokens, math.ceil(short * self.tokens))
        return max(self.seconds_for(min(missing, self.tokens)), 1e-3)

    def _wait_for_turn(self, tokens: int) -> float:
        """Return the estimated time by which a request would be late if it joined the queue now."""
        allowed = min(
            self._limits.max_wait_seconds,
            self._limits.deadline_seconds - self._alone_seconds(tokens),
        )
        if self.seconds_for(self.tokens) <= allowed:  # at most these tokens come before it
            return 0.0
        return max(self.seconds_for(self._tokens_before(tokens)) - allowed, 0.0)

    def _tokens_before(self, tokens: int) -> int:
        """Return the number of waiting tokens that come before the end of a request of this size."""
        end = self._clock + tokens
        return sum(
            min(ticket.end, end) - ticket.start for ticket in self._tickets if ticket.start < end
        )

    def _alone_seconds(self, tokens: int) -> float:
        """Return the estimated time that an idle server takes for some tokens; 0 while it is unknown.

        The speed of the fastest batch is used, so that a slow moment never locks out large requests.
        """
        return tokens / self._best_speed / self._limits.threads if self._best_speed else 0.0

    def _check_size(self, tokens: int) -> None:
        seconds = self._alone_seconds(tokens)
        if seconds > self._limits.deadline_seconds:
            raise TooMuchError(seconds, self._limits.deadline_seconds / seconds)

    def _refuse_after(self, wait_seconds: float) -> None:
        if wait_seconds > 0:
            raise OverloadedError(wait_seconds)

    def _pop(self, length: int) -> Text[R]:
        """Take the first text of a length class. Its request must not be gone."""
        text = heapq.heappop(self._heaps[length])
        size, ticket = len(text.ids), text.ticket
        ticket.articles -= 1
        ticket.start += size
        if not ticket.articles:
            self._tickets.discard(ticket)
        self.articles -= 1
        self.tokens -= size
        self._clock += size
        self._drop_gone(length)
        return text

    def _drop_gone(self, length: int) -> None:
        """Remove the texts of gone requests from the front of a heap, and the heap if it is empty."""
        heap = self._heaps[length]
        while heap and heap[0].ticket.gone:
            heapq.heappop(heap)
        if not heap:
            del self._heaps[length]


def _length_class(ids: Sequence[int]) -> int:
    """Return a number that is equal for texts of similar length."""
    return int(math.log(max(len(ids), 1)) / math.log(LIKE_LENGTH))
