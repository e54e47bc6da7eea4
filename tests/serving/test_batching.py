from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from newsie import BundleError, Classifier
from newsie.serving.batching import Batcher, BatchReport, Row
from newsie.serving.queueing import LIKE_LENGTH, Limits, OverloadedError
from tests.tiny import tiny_articles

Rows = Mapping[str, NDArray[np.float64]]


class Model:
    """Answers each text with its first token and its length; holds still until it is let go."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.go = threading.Event()
        self.go.set()
        self.seconds = seconds
        self.batches: list[list[list[int]]] = []

    def __call__(self, ids: Sequence[Sequence[int]], tasks: Sequence[str]) -> Rows:
        self.batches.append([list(row) for row in ids])
        assert self.go.wait(10)
        time.sleep(self.seconds)
        if any(row[0] == 666 for row in ids):
            raise BundleError("the model fails")
        rows = np.asarray([[row[0], len(row)] for row in ids], np.float64)
        return dict.fromkeys(tasks, rows)


def text(number: int, length: int = 10) -> list[int]:
    return [number] * length


def numbers(rows: Sequence[Row]) -> list[int]:
    return [int(row["section"][0]) for row in rows]


@pytest.fixture
def model() -> Model:
    return Model()


def batcher(model: Any, **changes: Any) -> Batcher:
    watchers = {name: changes.pop(name) for name in ("report", "waiting") if name in changes}
    limits = {"threads": 1, "max_batch_tokens": 100, "max_articles": 1_000, "max_tokens": 10_000}
    return Batcher(model, Limits(**(limits | changes)), **watchers)


@pytest.fixture
def one(model: Model) -> Iterator[Batcher]:
    found = batcher(model)
    yield found
    model.go.set()
    found.close()


async def held(model: Model, batcher: Batcher) -> asyncio.Task[list[Row]]:
    """Keep the only thread busy, so that what comes now has to wait."""
    model.go.clear()
    task = asyncio.create_task(batcher.run([text(0, 1)], ["section"]))
    while not model.batches:
        await asyncio.sleep(0.001)
    return task


def test_answers_come_in_order(one: Batcher) -> None:
    lengths = np.random.default_rng(0).integers(1, 99, 200).tolist()
    texts = [text(number, length) for number, length in enumerate(lengths)]
    rows = asyncio.run(one.run(texts, ["section", "mood"]))
    assert numbers(rows) == list(range(200))
    assert [int(row["mood"][1]) for row in rows] == lengths


def test_batches_are_of_like_length_and_within_the_budget(model: Model) -> None:
    one = batcher(model, max_batch_tokens=600)
    lengths = np.random.default_rng(1).integers(1, 150, 500).tolist()
    asyncio.run(one.run([text(1, length) for length in lengths], ["section"]))
    one.close()
    assert sorted(len(row) for batch in model.batches for row in batch) == sorted(lengths)
    for batch in model.batches:
        found = [len(row) for row in batch]
        assert max(found) <= max(min(found) * LIKE_LENGTH, min(found) + 1)
        assert len(batch) == 1 or len(batch) * max(found) <= 600
    assert len(model.batches) < 120


def test_a_lone_request_does_not_wait(one: Batcher) -> None:
    started = time.monotonic()
    asyncio.run(one.run([text(1)], ["section"]))
    assert time.monotonic() - started < 5


def test_what_waits_is_computed_together(model: Model, one: Batcher) -> None:
    async def main() -> None:
        first = await held(model, one)
        rest = [asyncio.create_task(one.run([text(n)], ["section"])) for n in range(1, 11)]
        await asyncio.sleep(0.05)
        model.go.set()
        answers = await asyncio.gather(first, *rest)
        assert [number for rows in answers for number in numbers(rows)] == list(range(11))

    asyncio.run(main())
    assert [len(batch) for batch in model.batches] == [1, 10]


def test_a_small_request_passes_a_large_one(model: Model, one: Batcher) -> None:
    """200 texts in 20 batches wait; the one that comes later is in one of the next two."""

    async def main() -> None:
        first = await held(model, one)
        large = asyncio.create_task(one.run([text(1)] * 200, ["section"]))
        await asyncio.sleep(0.05)
        small = asyncio.create_task(one.run([text(7)], ["section"]))
        await asyncio.sleep(0.05)
        model.go.set()
        await asyncio.gather(first, large, small)

    asyncio.run(main())
    place = next(i for i, batch in enumerate(model.batches) if text(7) in batch)
    assert place <= 2
    assert len(model.batches) == 1 + 21


def test_large_requests_share(model: Model, one: Batcher) -> None:
    async def main() -> None:
        first = await held(model, one)
        tasks = [asyncio.create_task(one.run([text(n)] * 50, ["section"])) for n in (1, 2)]
        await asyncio.sleep(0.05)
        model.go.set()
        await asyncio.gather(first, *tasks)

    asyncio.run(main())
    for batch in model.batches[1:-1]:
        assert abs(sum(row[0] == 1 for row in batch) - 5) <= 1


def test_long_texts_are_not_starved_by_short_ones() -> None:
    """While 8 clients ask short texts without a pause, a long one is answered soon."""
    model = Model(0.002)
    one = batcher(model)

    async def main() -> float:
        async def chatter() -> None:
            while True:
                await one.run([text(1, 10)] * 20, ["section"])

        tasks = [asyncio.create_task(chatter()) for _ in range(8)]
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await one.run([text(2, 90)], ["section"])
        for task in tasks:
            task.cancel()
        return time.monotonic() - started

    try:
        assert asyncio.run(main()) < 1
    finally:
        one.close()


def test_large_requests_are_not_starved_by_small_ones() -> None:
    """While more small requests wait than a batch holds, always, a large one is answered."""
    answer, ended = Model(), threading.Event()

    def crowded(ids: Sequence[Sequence[int]], tasks: Sequence[str]) -> Rows:
        while crowd.waiting < 40 and not ended.wait(0.001):
            pass
        return answer(ids, tasks)

    crowd = batcher(crowded)

    async def main() -> None:
        async def chatter() -> None:
            while True:
                await crowd.run([text(1)], ["section"])

        tasks = [asyncio.create_task(chatter()) for _ in range(50)]
        large = asyncio.create_task(crowd.run([text(2)] * 20, ["section"]))
        while not large.done() and len(answer.batches) < 200:
            await asyncio.sleep(0.001)
        ended.set()
        for task in tasks:
            task.cancel()
        assert numbers(await large) == [2] * 20

    asyncio.run(main())
    crowd.close()
    assert len(answer.batches) < 50


def test_a_full_queue_says_when_to_come_again(model: Model) -> None:
    one = batcher(model, max_articles=3, max_tokens=100)

    async def main() -> None:
        first = await held(model, one)
        waiting = asyncio.create_task(one.run([text(1)] * 3, ["section"]))
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError) as caught:
            await one.run([text(2)], ["section"])
        assert 0 <= caught.value.wait_seconds < 60
        model.go.set()
        await asyncio.gather(first, waiting)
        assert numbers(await one.run([text(3, 50)] * 3, ["section"])) == [3, 3, 3]  # it was empty

    asyncio.run(main())
    one.close()


def test_who_leaves_is_not_computed(model: Model, one: Batcher) -> None:
    waited: list[int] = []
    one._waiting = waited.append

    async def main() -> None:
        first = await held(model, one)
        leaving = asyncio.create_task(one.run([text(1)] * 30, ["section"]))
        staying = asyncio.create_task(one.run([text(2)], ["section"]))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.sleep(0.01)
        assert one.waiting == waited[-1] == 1
        model.go.set()
        await asyncio.gather(first, staying)

    asyncio.run(main())
    assert not any(row[0] == 1 for batch in model.batches for row in batch)
    assert one.waiting == 0


def test_a_text_that_fails_fails_alone(model: Model, one: Batcher) -> None:
    reports: list[BatchReport] = []
    one._report = reports.append

    async def main() -> list[Any]:
        first = await held(model, one)
        tasks = [asyncio.create_task(one.run([text(n)], ["section"])) for n in (1, 666, 2)]
        await asyncio.sleep(0.01)
        model.go.set()
        return await asyncio.gather(first, *tasks, return_exceptions=True)

    _, good, bad, other = asyncio.run(main())
    assert numbers([*good, *other]) == [1, 2]
    assert isinstance(bad, BundleError)
    one.close()  # the last report comes after the answer
    assert [report.error is None for report in reports] == [True, False, True, False, True]


def test_closing_computes_what_waits(model: Model) -> None:
    one = batcher(model)

    async def main() -> None:
        first = await held(model, one)
        waiting = asyncio.create_task(one.run([text(1)] * 30, ["section"]))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(asyncio.to_thread(one.close))
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError):
            await one.run([text(2)], ["section"])
        model.go.set()
        await asyncio.gather(first, waiting, closing)

    asyncio.run(main())


def test_an_answer_does_not_depend_on_its_batch(tiny_classifier: Classifier) -> None:
    articles = tiny_articles(300)
    encoded = tiny_classifier.encode(articles)

    def run(ids: Sequence[Sequence[int]], tasks: Sequence[str]) -> Rows:
        return {t: rows.astype(float) for t, rows in tiny_classifier.run_batch(ids, tasks).items()}

    one = batcher(run, threads=2, max_batch_tokens=512)
    rows = asyncio.run(one.run(encoded.ids, ["section"]))
    one.close()
    found = np.stack([row["section"] for row in rows])
    np.testing.assert_allclose(found, tiny_classifier.logits(articles)["section"], atol=2e-5)


def test_who_watches_cannot_end_a_thread(model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(seen: object) -> None:
        raise ZeroDivisionError("Secret words")

    one = batcher(model, report=fail, waiting=fail)
    for number in range(3):
        assert numbers(asyncio.run(one.run([text(number)], ["section"]))) == [number]
    with pytest.raises(BundleError):
        asyncio.run(one.run([text(666)], ["section"]))
    assert all(thread.is_alive() for thread in one._threads)
    one.close()
    said = capfd.readouterr().err
    assert "ZeroDivisionError at " in said
    assert "Secret" not in said


def test_who_waits_is_answered_before_it_is_told(model: Model) -> None:
    go = threading.Event()
    one, other = (batcher(model, report=lambda report: go.wait(10)) for _ in range(2))
    try:
        asyncio.run(asyncio.wait_for(one.run([text(1)], ["section"]), 5))
        with pytest.raises(BundleError):
            asyncio.run(asyncio.wait_for(other.run([text(666)], ["section"]), 5))
    finally:
        go.set()
        one.close()
        other.close()


def test_what_would_come_too_late_is_refused_at_once() -> None:
    """At four times what a model can do, it does what it can, and nobody waits longer than is allowed."""

    def run(ids: Sequence[Sequence[int]], tasks: Sequence[str]) -> Rows:
        time.sleep(sum(map(len, ids)) / 5_000)
        return dict.fromkeys(tasks, np.zeros((len(ids), 2)))

    one = batcher(run, max_articles=100_000, max_tokens=10_000_000, max_wait_seconds=0.5)
    waits: list[float] = []
    refusals: list[float] = []
    told: list[float] = []

    async def ask() -> None:
        started = time.monotonic()
        try:
            await one.run([text(1)], ["section"])
            waits.append(time.monotonic() - started)
        except OverloadedError as error:
            refusals.append(time.monotonic() - started)
            told.append(error.wait_seconds)

    async def main() -> None:
        await one.run([text(1)], ["section"])
        async with asyncio.TaskGroup() as group:
            for _ in range(300):  # 3 seconds of 4 times 500 a second
                for _ in range(20):
                    group.create_task(ask())
                await asyncio.sleep(0.01)

    started = time.monotonic()
    asyncio.run(main())
    took = time.monotonic() - started
    one.close()
    assert len(waits) > 0.6 * 500 * took
    assert len(waits) + len(refusals) == 6_000
    assert max(waits) < 1.5
    assert np.median(refusals) < 0.05
    assert 0 < min(told) < max(told) < 2
