"""Clients that close only the sending side of their connection: `nc -N`, some proxies and health checks."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from newsie import Classifier
from tests.serving.live import Live, codes_of, dumps, hold, live, post, wait_until

CLASSIFY = "/v1/classify"
BODY = dumps({"articles": [{"headline": "goal"}]})
CLOSE = post(CLASSIFY, BODY)
KEEP = CLOSE.replace(b"Connection: close\r\n", b"")
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def half_close(server: Live, sent: bytes, meanwhile: Callable[[], object] = lambda: None) -> bytes:
    """Everything that comes for a client that sends this and nothing more."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        meanwhile()
        answer = b""
        while data := connection.recv(65_536):
            answer += data
        return answer


def counted(server: Live, code: int) -> float:
    found = server.samples("newsie_http_requests_total")
    return sum(
        value
        for labels, value in found.items()
        if f'code="{code}"' in labels and f'route="{CLASSIFY}"' in labels
    )


@pytest.mark.parametrize(
    ("sent", "codes"),
    [
        (CLOSE, [200]),
        (KEEP, [200]),
        (GET, [200]),
        (KEEP.replace(b"1.1", b"1.0"), [200]),
        (KEEP * 3 + GET, [200] * 4),
        (KEEP + b"GET /health HT", [200]),
        (KEEP[:-5], []),
        (KEEP[:20], []),
        (b"", []),
    ],
)
def test_every_complete_request_is_answered(served: Live, sent: bytes, codes: list[int]) -> None:
    started = time.monotonic()
    answer = half_close(served, sent)
    assert [int(part[1:4]) for part in answer.split(b"HTTP/1.")[1:] for part in [part[1:]]] == codes
    assert time.monotonic() - started < 10


def test_a_request_without_an_end_behind_a_complete_one(served: Live) -> None:
    assert codes_of(half_close(served, KEEP + KEEP[:-5])) in ([200], [200, 400])


def test_an_answer_that_takes_long(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile interim responses ask the system of the client whether it still reads."""
    go = hold(tiny_classifier, monkeypatch)
    monkeypatch.setattr("newsie.serving.http.protocol.LOOK_SECONDS", 0.1)

    def wait() -> None:
        wait_until(lambda: server.app.state.service._working == 1)
        time.sleep(0.5)
        go.set()

    with live(tiny_classifier) as server:
        answer = half_close(server, KEEP, wait)
    codes = codes_of(answer)
    assert codes[-1] == 200
    assert len(codes) > 1
    assert set(codes[:-1]) == {100}
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ")


def test_http_1_0_knows_no_interim_responses(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hold(tiny_classifier, monkeypatch)
    monkeypatch.setattr("newsie.serving.http.protocol.LOOK_SECONDS", 0.1)

    def wait() -> None:
        wait_until(lambda: server.app.state.service._working == 1)
        time.sleep(0.5)
        go.set()

    with live(tiny_classifier) as server:
        answer = half_close(server, KEEP.replace(b"HTTP/1.1", b"HTTP/1.0"), wait)
    assert codes_of(answer) == [200]


def test_who_has_gone_is_noticed(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks as if it had closed its sending side only, until it is sent something."""
    go = hold(tiny_classifier, monkeypatch)
    with live(tiny_classifier, request_timeout_seconds=60) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(KEEP)
            wait_until(lambda: server.app.state.service._working == 1)
        wait_until(lambda: counted(server, 499) == 1, 10)
        wait_until(lambda: not server.server.server_state.connections)
        go.set()
