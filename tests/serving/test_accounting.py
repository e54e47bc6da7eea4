"""What is counted against a limit is counted exactly, and is free again whatever becomes of a request."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from newsie import Classifier
from newsie.errors import BundleError
from newsie.serving.batching import Batcher, Row
from newsie.serving.http.request_bodies import Bodies
from newsie.serving.queueing import Limits, OverloadedError
from newsie.serving.settings import Settings
from tests.serving.live import code_of, exchange, live, post
from tests.serving.test_batching import Model, batcher, held, numbers, text


def counts(one: Batcher) -> tuple[int, int]:
    return one._queue.articles, one._queue.tokens


async def settle() -> None:
    await asyncio.sleep(0.02)


def test_a_cancelled_request_frees_exactly_its_space() -> None:
    """After it, the next one of the same size fits again, and not one token more is left over."""
    model = Model()
    one = batcher(model, max_articles=100, max_tokens=2_000)

    async def main() -> None:
        first = await held(model, one)
        stays = asyncio.create_task(one.run([text(2, 7)] * 3, ["section"]))
        await settle()
        assert counts(one) == (3, 21)
        for _ in range(5):
            leaving = asyncio.create_task(one.run([text(1, 19)] * 40, ["section"]))
            await settle()
            assert counts(one) == (43, 21 + 40 * 19)
            with pytest.raises(OverloadedError):
                await one.run([text(3, 19)] * 40, ["section"])
            assert counts(one) == (43, 21 + 40 * 19)  # a refusal holds nothing
            leaving.cancel()
            await settle()
            assert counts(one) == (3, 21)
        model.go.set()
        await asyncio.gather(first, stays)
        assert counts(one) == (0, 0)
        assert numbers(await one.run([text(4)], ["section"])) == [4]

    asyncio.run(main())
    one.close()
    assert not any(row[0] == 1 for batch in model.batches for row in batch)


def test_a_place_is_free_again_if_its_request_is_never_tokenised() -> None:
    one = batcher(Model())
    with one.admitted(3, 300):
        assert counts(one) == (3, 300)
    assert counts(one) == (0, 0)
    one.close()


def test_cancelling_in_the_middle_of_a_request_frees_what_is_left() -> None:
    model = Model()
    one = batcher(model)

    async def main() -> None:
        first = await held(model, one)
        leaving = asyncio.create_task(one.run([text(1)] * 30, ["section"]))
        await settle()
        model.go.set()
        while len(model.batches) < 2:  # a part of it is under way
            await asyncio.sleep(0)
        leaving.cancel()
        await first
        await settle()
        assert counts(one) == (0, 0)

    asyncio.run(main())
    one.close()


def test_after_a_failed_batch_only_texts_that_somebody_waits_for_are_tried_again() -> None:
    """Three clients share a batch that fails. One has left by then: its text is not computed alone."""
    tried: list[list[int]] = []
    left = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[list[Row]]] = []

    def fail_together(ids: Sequence[Sequence[int]], tasks: Sequence[str]) -> Any:
        tried.append([row[0] for row in ids])
        if len(ids) > 1:
            asyncio.run_coroutine_threadsafe(leave(), loops[0]).result(10)
            raise BundleError("the model fails")
        return model(ids, tasks)

    async def leave() -> None:
        tasks[1].cancel()
        await settle()
        left.set()

    async def main() -> list[list[Row] | BaseException]:
        loops.append(asyncio.get_running_loop())
        one = Batcher(fail_together, Limits(1, 100, 1_000, 10_000))
        with one.admitted(1, 1), one._changed:  # nothing is taken before all three wait
            tasks.extend(asyncio.create_task(one.run([text(n)], ["section"])) for n in (1, 2, 3))
            await settle()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        one.close()
        return answers

    model = Model()
    first, gone, third = asyncio.run(main())
    assert left.is_set()
    assert isinstance(gone, asyncio.CancelledError)
    assert isinstance(first, list)
    assert isinstance(third, list)
    assert numbers([*first, *third]) == [1, 3]
    assert tried == [[1, 2, 3], [1], [3]]


SMALL: dict[str, Any] = {"max_body_bytes": 100_000, "max_body_chunks": 50}


def chunks(count: int) -> bytes:
    """A valid body in so many chunks."""
    body = b'{"articles": [{"headline": "goal"}]}'
    pieces = [body[:1]] + [b" "] * (count - 2) + [body[1:]]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize(("count", "code"), [(49, 200), (50, 413), (51, 413)])
def test_chunks_that_come_together_are_counted_one_by_one(
    tiny_classifier: Classifier, count: int, code: int
) -> None:
    """They are one piece for whoever reads the body, and one event each for the parser. The empty chunk
    at the end counts too."""
    with live(tiny_classifier, **SMALL) as server:
        request = post("/v1/classify", chunks(count) + b"0\r\n\r\n", "Transfer-Encoding: chunked")
        assert code_of(exchange(server.port, request)) == code


async def ask(pieces: Sequence[bytes], encoding: str = "") -> int:
    """The code that the layer of bodies answers to a body in pieces; 200 where it hands it on."""
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    codes = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            codes.append(message["status"])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        codes.append(200)

    headers = [(b"content-type", b"application/json"), (b"content-encoding", encoding.encode())]
    scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    scope["state"] = {"request_id": "x"}

    class Everything:
        def matches(self, scope: Scope) -> tuple[Any, Scope]:
            return Match.FULL, {}

    routes: Any = [Everything()]
    await Bodies(app, settings=Settings(**SMALL), routes=routes)(scope, receive, send)
    return int(codes[0])


@pytest.mark.parametrize(("count", "code"), [(50, 200), (51, 413)])
def test_pieces_of_a_body_are_counted(count: int, code: int) -> None:
    assert asyncio.run(ask([b"[]", *[b" "] * (count - 1)])) == code


@pytest.mark.parametrize(("size", "code"), [(100_000, 200), (100_001, 413)])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_bytes_of_a_body_are_counted_unpacked(size: int, code: int, encoding: str) -> None:
    body = b"[]" + b" " * (size - 2)
    sent = gzip.compress(body) if encoding else body
    assert asyncio.run(ask([sent], encoding)) == code


def test_a_body_that_unpacks_to_much_is_never_held_whole() -> None:
    """100 kB that unpack to 100 MB: refused with less than 2 MB in hand."""
    bomb = gzip.compress(b" " * 100_000_000)
    assert len(bomb) < SMALL["max_body_bytes"]
    asyncio.run(ask([gzip.compress(b"[]")], "gzip"))  # what is loaded once is loaded
    tracemalloc.start()
    try:
        assert asyncio.run(ask([bomb], "gzip")) == 413
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
