"""What must not hold up the end of a server: `live` fails where it has not ended within 20 seconds."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from newsie import Classifier
from newsie.serving.http.process import Server
from tests.serving.live import Live, codes_of, dumps, hold, live, post, wait_until

CLASSIFY = "/v1/classify"
BODY = dumps({"articles": [{"headline": "goal"}]})
KEEP = post(CLASSIFY, BODY).replace(b"Connection: close\r\n", b"")

PATIENT = dict.fromkeys(
    (
        "header_timeout_seconds",
        "body_timeout_seconds",
        "keep_alive_seconds",
        "request_timeout_seconds",
        "send_timeout_seconds",
        "shutdown_timeout_seconds",
    ),
    600,
)
"""Nothing ends by itself."""


@contextmanager
def connected(server: Live, sent: bytes, read_bytes: int | None = None) -> Iterator[socket.socket]:
    """A client that has sent this and stays."""
    with socket.socket() as connection:
        if read_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_bytes)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(sent)
        yield connection


def rest_of(connection: socket.socket) -> bytes:
    answer = b""
    while data := connection.recv(65_536):
        answer += data
    return answer


def counted(server: Live, code: int) -> float:
    found = server.samples("newsie_http_requests_total")
    return sum(value for labels, value in found.items() if f'code="{code}"' in labels)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n",
        KEEP,
        KEEP * 3,
        KEEP + b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n ",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nmore",
    ],
)
def test_a_client_that_stays_and_is_owed_nothing(tiny_classifier: Classifier, sent: bytes) -> None:
    with live(tiny_classifier, **PATIENT) as server, connected(server, sent) as connection:
        if b"\r\n\r\n" in sent:
            assert connection.recv(12) == b"HTTP/1.1 200"
        else:
            wait_until(lambda: server.server.server_state.connections)
        server.server.should_exit = True
        while connection.recv(65_536):  # until it is closed
            pass


@pytest.mark.parametrize(
    ("ahead", "sent"),
    [
        (b"", post(CLASSIFY, b"{", "Content-Length: 1000")),
        (b"", post(CLASSIFY, b"5\r\n{", "Transfer-Encoding: chunked")),
        (KEEP, post(CLASSIFY, b"{", "Content-Length: 1000")),
    ],
)
def test_a_body_that_does_not_come(tiny_classifier: Classifier, ahead: bytes, sent: bytes) -> None:
    """It is waited for as long as an answer would be; then its sender is told why there is none."""
    with live(tiny_classifier, **PATIENT | {"shutdown_timeout_seconds": 0.5}) as server:
        with connected(server, ahead + sent) as connection:
            if ahead:
                assert connection.recv(12) == b"HTTP/1.1 200"
            wait_until(lambda: any(map(_is_answering, _protocols(server))))
            server.server.should_exit = True
            answer = rest_of(connection)
        assert codes_of(answer) == [503]
        assert b'"not_ready"' in answer
        wait_until(lambda: counted(server, 503) == 1)


def _protocols(server: Live) -> list[Any]:
    return list(server.server.server_state.connections)


def _is_answering(protocol: Any) -> bool:
    return protocol.cycle is not None and not protocol.cycle.response_complete


def test_a_broken_body_behind_another_request(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes behind is read no more, so it is refused when its turn comes, and not waited for."""
    go = hold(tiny_classifier, monkeypatch)
    broken = post(CLASSIFY, b"zz\r\n", "Transfer-Encoding: chunked")
    with live(tiny_classifier, **PATIENT) as server:
        with connected(server, KEEP) as connection:
            wait_until(lambda: server.app.state.service._working == 1)
            connection.sendall(broken + KEEP)
            wait_until(lambda: any(one._stopped for one in _protocols(server)))
            go.set()
            answer = rest_of(connection)
        assert codes_of(answer) == [200, 400]
        assert b'"http"' in answer
        wait_until(lambda: counted(server, 400) == 1)
        assert server.samples("newsie_rejected_total") == {'reason="http"': 1}


def test_a_good_request_before_one_without_sense(tiny_classifier: Classifier) -> None:
    """Both come with one read, so that the first has not been looked at when the second is refused."""
    with live(tiny_classifier, **PATIENT) as server:
        bad = b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with connected(server, KEEP + bad) as connection:
            assert codes_of(rest_of(connection)) == [200]


def test_answers_that_nobody_reads(tiny_classifier: Classifier) -> None:
    settings = PATIENT | {"shutdown_timeout_seconds": 0.5}
    with live(tiny_classifier, **settings) as server:
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with connected(server, ask * 120, read_bytes=4_096):
            wait_until(lambda: any(one.flow.write_paused for one in _protocols(server)), 60)
            server.server.should_exit = True
            wait_until(lambda: not server.server.server_state.connections, 10)  # fails after that


def test_a_connection_of_the_last_moment(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has accepted it, and has told nobody yet, when the server begins to end."""
    held: list[socket.socket] = []

    async def main_loop(server: Server) -> None:
        while not server.should_exit:
            await asyncio.sleep(0.01)
        loop, port = asyncio.get_running_loop(), server.servers[0].sockets[0].getsockname()[1]

        def connect() -> None:
            held.append(socket.create_connection(("127.0.0.1", port)))
            time.sleep(0.1)  # both the connection and the timer below are due at the next turn

        loop.call_later(0.01, connect)
        await asyncio.sleep(0.05)
        server_knows.append(len(server.server_state.connections))

    server_knows: list[int] = []
    monkeypatch.setattr(Server, "main_loop", main_loop)
    with live(tiny_classifier, **PATIENT):
        pass
    with held[0] as connection:
        assert server_knows == [0]
        assert connection.recv(1) == b""


def test_a_model_that_is_still_being_loaded(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(classifier: Classifier) -> None:
        begun.set()
        assert go.wait(60)

    monkeypatch.setattr("newsie.serving.hot_swap.self_test", slow)
    try:
        with live(tiny_classifier, **PATIENT) as server:
            loop = server.server.servers[0].get_loop()
            loop.call_soon_threadsafe(server.server.reload)
            assert begun.wait(20)
    finally:
        go.set()
