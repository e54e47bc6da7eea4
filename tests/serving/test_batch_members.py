"""Batches of several requests: tasks of all of them, and none of those that are gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from newsie import BundleError
from newsie.serving.batching import Batcher
from newsie.serving.queueing import Limits


class Model:
    """Answers only the tasks that it is asked for; waits before each batch until it may go on."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.asked: list[tuple[list[int], list[str]]] = []

    def __call__(
        self, ids: Sequence[Sequence[int]], tasks: Sequence[str]
    ) -> Mapping[str, NDArray[np.float64]]:
        self.asked.append(([row[0] for row in ids], list(tasks)))
        assert self.go.acquire(timeout=20)
        if len(ids) > 1 and any(row[0] == 666 for row in ids):
            raise BundleError("the model fails")
        rows = np.array([[float(row[0])] for row in ids])
        return dict.fromkeys(tasks, rows)


def batcher(model: Model) -> Batcher:
    limits = Limits(threads=1, max_batch_tokens=100, max_articles=100, max_tokens=10_000)
    return Batcher(model, limits)


async def first_asked(model: Model, count: int) -> None:
    while len(model.asked) < count:
        await asyncio.sleep(0.001)


def test_requests_of_different_tasks_share_a_batch() -> None:
    model = Model()
    batches = batcher(model)

    async def main() -> None:
        busy = asyncio.create_task(batches.run([[0]], ["section"]))
        await first_asked(model, 1)
        two = [
            asyncio.create_task(batches.run([[number] * 9], [task]))
            for number, task in ((1, "section"), (2, "mood"))
        ]
        await asyncio.sleep(0.05)
        model.go.release(2)
        await busy
        assert [list(rows[0]) for rows in await asyncio.gather(*two)] == [["section"], ["mood"]]

    asyncio.run(asyncio.wait_for(main(), 30))
    batches.close()
    assert model.asked[1] == ([1, 2], ["section", "mood"])


def test_after_a_failure_texts_whose_client_is_gone_are_not_computed() -> None:
    model = Model()
    batches = batcher(model)

    async def main() -> None:
        busy = asyncio.create_task(batches.run([[0]], ["section"]))
        await first_asked(model, 1)
        failing, leaving = (
            asyncio.create_task(batches.run([[number] * 9], ["section"])) for number in (666, 7)
        )
        await asyncio.sleep(0.05)
        model.go.release()
        await busy
        await first_asked(model, 2)
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        model.go.release(3)
        await failing

    asyncio.run(asyncio.wait_for(main(), 30))
    batches.close()
    assert [ids for ids, _ in model.asked] == [[0], [666, 7], [666]]
