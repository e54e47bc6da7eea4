"""Work on the event loop, cut into slices so that a large request does not block others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

__all__ = ["SLICE_SECONDS", "Slices"]

A = TypeVar("A")
B = TypeVar("B")

FEW_ITEMS = 8
"""The maximum number of items that are started in the current turn of the loop."""

SLICE_SECONDS = 0.002
"""The time after which the loop turns to other work."""


class Slices:
    """A runner that applies functions to many items on the event loop, in slices of 2 ms.

    A small request is done within its first slice. Larger requests continue one at a time, as their slices
    would add up in every turn of the loop.
    """

    def __init__(self) -> None:
        self._large = asyncio.Lock()

    async def map(self, function: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """Return the results of a function for items, in order."""
        if len(items) > FEW_ITEMS:
            await asyncio.sleep(0)  # the earlier work of the request was a slice of its own
        rest, results = iter(items), list[B]()
        if not _slice(function, rest, results):
            async with self._large:
                done = False
                while not done:
                    await asyncio.sleep(0)
                    done = _slice(function, rest, results)
        return results


def _slice(function: Callable[[A], B], rest: Iterable[A], results: list[B]) -> bool:
    """Work for one slice of time. Return True if no item is left."""
    end = time.perf_counter() + SLICE_SECONDS
    for item in rest:
        results.append(function(item))
        if time.perf_counter() >= end:
            return False
    return True
