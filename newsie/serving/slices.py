"""Work on the event loop that grows with a request, cut into slices, so that other requests go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

__all__ = ["SLICE_SECONDS", "Slices"]

A = TypeVar("A")
B = TypeVar("B")

FEW_ITEMS = 8
"""The most items that are begun in the current turn of the loop."""

SLICE_SECONDS = 0.002
"""Time after which the loop turns to other work."""


class Slices:
    """Applies functions to many items on the event loop, in slices of 2 ms.

    A small request is done within its first slice. What is larger goes on one at a time, as the slices of
    many large requests would add up in every turn of the loop.
    """

    def __init__(self) -> None:
        self._large = asyncio.Lock()

    async def map(self, function: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """The results of a function for items, in their order."""
        if len(items) > FEW_ITEMS:
            await asyncio.sleep(0)  # what the request did before was a slice of its own
        rest, results = iter(items), list[B]()
        if not _slice(function, rest, results):
            async with self._large:
                done = False
                while not done:
                    await asyncio.sleep(0)
                    done = _slice(function, rest, results)
        return results


def _slice(function: Callable[[A], B], rest: Iterable[A], results: list[B]) -> bool:
    """Work for one slice of time. True if nothing is left."""
    end = time.perf_counter() + SLICE_SECONDS
    for item in rest:
        results.append(function(item))
        if time.perf_counter() >= end:
            return False
    return True
