"""Bytes that no client should send: no 500, no hang, no growth, and the server answers afterwards."""

from __future__ import annotations

import gzip
import random
import socket
import zlib

import pytest

from tests.serving.live import Live, code_of, codes_of, dumps, exchange, post

BODY = dumps({"articles": [{"headline": "goal"}]})
GOOD = post("/v1/classify", BODY)
FINE = {200, 400, 404, 405, 408, 411, 413, 415, 417, 421, 422, 431, 501, 503}
PATHS = ("/", "/predict", "/v1/classify", "/v1/explain", "/invocations", "/v2/models/tiny/infer")


def ask(server: Live, sent: bytes) -> None:
    """Send bytes, close our side, and take what comes; a request that is complete must be answered."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
        answer = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65_536):
                answer += data
        except (ConnectionResetError, BrokenPipeError):
            pass
    for part in answer.split(b"HTTP/1.1 ")[1:]:
        assert int(part[:3]) in FINE, (sent[:200], part[:200])


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00" * 100,
        b"\xff" * 1_000,
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff%00%zz?\xc3 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nX : 1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: localhost\n\n",
        post("/v1/classify", BODY, "Content-Length: -1"),
        post("/v1/classify", BODY, "Content-Length: 1e3"),
        post("/v1/classify", BODY, "Content-Length: 99999999999999999999999"),
        post("/v1/classify", BODY, "Content-Length: 5", "Content-Length: 6"),
        post("/v1/classify", BODY, "Content-Length: 5"),
        post("/v1/classify", BODY, f"Content-Length: {len(BODY) + 5}"),
        post("/v1/classify", BODY, "Content-Length: 5", "Transfer-Encoding: chunked"),
        post("/v1/classify", BODY, "Transfer-Encoding: gzip"),
        post("/v1/classify", BODY, "Transfer-Encoding: chunked, identity"),
        post("/v1/classify", b"ffffffffffffffffff\r\n", "Transfer-Encoding: chunked"),
        post("/v1/classify", b"-1\r\nx\r\n", "Transfer-Encoding: chunked"),
        post("/v1/classify", b"5\r\nabc", "Transfer-Encoding: chunked"),
        post("/v1/classify", b"0\r\nX-Api-Key: 1\r\n\r\n", "Transfer-Encoding: chunked"),
        post("/v1/classify", b"", "Expect: 200-maybe", "Content-Length: 0"),
        post("/v1/classify", b"", "Content-Encoding: gzip", "Content-Length: 0"),
        post("/v1/classify", b"\x1f\x8b", "Content-Encoding: gzip", "Content-Length: 2"),
    ],
)
def test_broken_requests(served: Live, sent: bytes) -> None:
    ask(served, sent)
    assert code_of(exchange(served.port, GOOD)) == 200


@pytest.mark.parametrize("path", PATHS)
def test_broken_bodies(served: Live, path: str) -> None:
    text = '"' + "\\ud800" + '"'
    bodies = [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 20 + b"1" * 100_000 + b"]" * 20,
        b'"' + b"\\" * 100_001,
        b'{"inputs": ' + text.encode() + b"}",
        b'{"inputs": "\x00"}',
        b'{"inputs": "\xed\xa0\x80"}',
        b'{"inputs": ["\\u0000", "\\ud83d"]}',
        b'{"inputs": 1e999, "inputs": "goal"}',
        b'{"inputs": {"a": 1}, "parameters": []}',
        b'{"inputs": "goal", "parameters": {"top_k": 1e30}}',
        b"-" * 1_000,
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b"{}" * 1_000,
    ]
    for body in bodies:
        ask(served, post(path, body))
        for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
            headers = f"Content-Length: {len(packed)}", f"Content-Encoding: {encoding}"
            ask(served, post(path, packed, *headers))
    assert code_of(exchange(served.port, GOOD)) == 200


def test_mutated_requests(served: Live) -> None:
    """A good request with bytes changed, dropped and doubled."""
    chance = random.Random(0)
    for _ in range(300):
        sent = bytearray(GOOD)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(sent))
            match chance.randrange(4):
                case 0:
                    sent[place] = chance.randrange(256)
                case 1:
                    del sent[place : place + chance.randint(1, 20)]
                case 2:
                    sent[place:place] = sent[place : place + 30]
                case 3:
                    sent[place:place] = chance.randbytes(3)
            sent = sent or bytearray(b"x")
        ask(served, bytes(sent))
    assert code_of(exchange(served.port, GOOD)) == 200


def test_bombs_do_not_grow(served: Live) -> None:
    bomb = gzip.compress(b" " * 200_000_000, 1)
    assert len(bomb) < 2_000_000
    before = resident()
    for _ in range(5):
        headers = f"Content-Length: {len(bomb)}", "Content-Encoding: gzip"
        assert code_of(exchange(served.port, post("/v1/classify", bomb, *headers))) == 413
    assert resident() - before < 50_000_000


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_pipelining(served: Live) -> None:
    """Requests that are sent without waiting are answered in their order."""
    body = dumps({"inputs": "goal"})
    head = post("/predict", body).replace(b"Connection: close\r\n", b"")
    head = head.removesuffix(b"\r\n" + body) + b"X-Request-Id: n%d\r\n\r\n"
    sent = b"".join(head % number + body for number in range(100))
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = exchange(served.port, sent + last)
    assert codes_of(answer) == [200] * 101
    places = [answer.index(b"x-request-id: n%d\r\n" % number) for number in range(100)]
    assert places == sorted(places)


@pytest.mark.parametrize("size", [1, 70, 1_000_000])
def test_an_offer_of_another_protocol_is_not_taken_up(served: Live, size: int) -> None:
    """As Java's client makes with its first request: the body is read, and what comes behind it."""
    offer = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAAA",
    )
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    nothing = (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + "\r\n".join(offer).encode() + b"\r\n\r\n"
    )
    sent = [
        post("/v1/classify", BODY, f"Content-Length: {len(BODY)}", *offer),
        nothing,
        post("/v1/classify", chunks, *offer, "Transfer-Encoding: chunked"),
        post("/v1/classify", b"", *offer, "Content-Length: 0"),
        nothing,
    ]
    whole = b"".join(one.replace(b"Connection: close\r\n", b"") for one in sent) + GOOD
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert codes_of(exchange(served.port, pieces)) == [200, 200, 200, 422, 200, 200]


def test_offers_do_not_hide_what_is_broken(served: Live) -> None:
    offer = "Connection: Upgrade", "Upgrade: h2c"
    for body, *framing in (
        (b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
        (b"zz\r\n", "Transfer-Encoding: chunked"),
        (b"", "Transfer-Encoding: gzip"),
        (b"", "Content-Length: 1", "Content-Length: 2"),
    ):
        smuggled = b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = exchange(served.port, post("/v1/classify", body, *offer, *framing) + smuggled)
        assert codes_of(answer) == [501 if "gzip" in framing[0] else 400]
    many = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    assert set(codes_of(exchange(served.port, many * 4_000))) <= {200}


def test_what_follows_a_broken_request_is_not_taken_as_one(served: Live) -> None:
    """A good one before is answered; what is smuggled in behind a contradiction is not."""
    keep = GOOD.replace(b"Connection: close\r\n", b"")
    smuggled = b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
    broken = post("/v1/classify", b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked")
    answer = exchange(served.port, keep + broken + smuggled)
    assert b"model_id" not in answer
    assert codes_of(answer)[0] in (200, 400)


def test_tiny_pieces(served: Live) -> None:
    assert code_of(exchange(served.port, [GOOD[i : i + 1] for i in range(len(GOOD))])) == 200
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    sent = post("/v1/classify", chunks, "Transfer-Encoding: chunked")
    assert code_of(exchange(served.port, sent)) == 200
