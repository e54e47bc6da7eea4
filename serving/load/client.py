"""Many clients in one process, light enough to share a small machine with the server they load.

Closed loop: each of N clients asks again as soon as it is answered. Open loop: requests start at a rate,
whether the server keeps up or not, which is how overload looks (Schroeder et al. 2006, "Open versus closed").
Schedule: N connections and a time for each request; one that finds no connection free is late, and its time
goes on counting, since whoever asked waits (Tene, "How not to measure latency": coordinated omission).
Only the loopback interface is ever spoken to.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serving.load.requests import Request

__all__ = ["Connection", "Tally", "closed_loop", "open_loop", "scheduled_loop"]

HOST = "127.0.0.1"
TIMEOUT_SECONDS = 90.0
IDLE_SECONDS = 2.0
"""A connection that was not used for longer is opened anew: the server may just be closing it."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass
class Tally:
    """What clients were told.

    Attributes:
        codes: answers by status code.
        seconds: how long each answer of code 200 took, from when it was due to be asked for.
        finished: when it came, by the clock of `time.perf_counter`.
        articles: articles in the requests of `seconds`, by request.
        unanswered: requests to which no whole answer came.
        wrong: answers of code 200 that were not those of the model.
        not_sent: requests of an open loop that would have needed one connection too many.
    """

    codes: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    articles: list[int] = field(default_factory=list)
    unanswered: int = 0
    wrong: int = 0
    not_sent: int = 0

    @property
    def requests(self) -> int:
        """Requests that were sent."""
        return self.codes.total() + self.unanswered

    async def ask(self, connection: Connection, request: Request, due: float | None = None) -> None:
        """Send one request and note what comes of it, timed from when it was due; None: from now."""
        began = time.perf_counter() if due is None else due
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                code, body = await connection.ask(request.content)
        except (OSError, EOFError, TimeoutError):
            await connection.close()
            self.unanswered += 1
            return
        self.codes[code] += 1
        if code == 200:
            ended = time.perf_counter()
            self.seconds.append(ended - began)
            self.finished.append(ended)
            self.articles.append(request.articles)
            self.wrong += not request.is_answered_by(body)


class Connection:
    """One connection that is kept open, as browsers and client libraries do."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def ask(self, content: bytes) -> tuple[int, bytes]:
        """Status code and body of the answer to one request.

        Raises:
            OSError, EOFError: the connection broke.
        """
        if self._streams and time.perf_counter() - self._used > IDLE_SECONDS:
            await self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._port)
        reader, writer = self._streams
        writer.write(content)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        self._used = time.perf_counter()
        if _CLOSE.search(head):
            await self.close()
        return int(head[9:12]), body

    async def close(self) -> None:
        """Close it; the next question opens it again."""
        if self._streams is None:
            return
        writer, self._streams = self._streams[1], None
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            return  # it was broken already


async def closed_loop(
    port: int, requests: Sequence[Request], *, clients: int, seconds: float
) -> Tally:
    """Clients that ask one after the other; when time is up, each waits for its last answer."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = Connection(port)
        while time.perf_counter() < end:
            await tally.ask(connection, requests[number % len(requests)])
            number += clients
        await connection.close()

    await asyncio.gather(*map(client, range(clients)))
    return tally


async def open_loop(
    port: int,
    requests: Sequence[Request],
    *,
    rate: float,
    seconds: float,
    max_connections: int = 900,
) -> Tally:
    """Requests at a rate a second; when time is up, all that were sent are waited for.

    900 connections are more than the requests that a server works on by itself (512), so that it must
    refuse some, and less than the connections that it takes (1,024).
    """
    tally, running, free = Tally(), set[asyncio.Task[None]](), list[Connection]()

    async def one(request: Request) -> None:
        connection = free.pop() if free else Connection(port)
        await tally.ask(connection, request)
        free.append(connection)

    began, number = time.perf_counter(), 0
    while (now := time.perf_counter() - began) < seconds:
        while number < int(now * rate):
            if len(running) < max_connections:
                task = asyncio.create_task(one(requests[number % len(requests)]))
                running.add(task)
                task.add_done_callback(running.discard)
            else:
                tally.not_sent += 1
            number += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*running)
    for connection in free:
        await connection.close()
    return tally


async def scheduled_loop(
    port: int, requests: Sequence[Request], due: Sequence[float], *, connections: int
) -> Mapping[str, Tally]:
    """Requests at given times, whether the server keeps up or not; all of them are waited for.

    Args:
        due: seconds from the start at which request 0, 1, ... is to be sent, in order.
        connections: requests that may be under way at once; the next ones wait for a free one.

    Returns:
        What was told to requests of each kind.
    """
    tallies = {request.kind: Tally() for request in requests}
    left, began = enumerate(due), time.perf_counter()

    async def client() -> None:
        connection = Connection(port)
        for number, seconds in left:  # the next one that no other client has taken
            await asyncio.sleep(began + seconds - time.perf_counter())
            request = requests[number % len(requests)]
            await tallies[request.kind].ask(connection, request, began + seconds)
        await connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return tallies
