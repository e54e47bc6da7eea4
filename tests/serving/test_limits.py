from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from newsie import Classifier
from newsie.serving.http.protocol import LimitedProtocol
from newsie.serving.http.request_bodies import UNPACKED_BYTES, _Packed
from tests.serving.live import (
    Live,
    code_of,
    dumps,
    exchange,
    hold,
    live,
    post,
    wait_until,
)

BODY = dumps({"articles": [{"headline": "goal"}]})
CLASSIFY = "/v1/classify"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body),
    "deflate": lambda body: zlib.compress(body),
    "raw": raw_deflate,
}


@pytest.fixture(scope="module")
def small(tiny_classifier: Classifier) -> Iterator[Live]:
    """A server whose limits are easily reached."""
    with live(
        tiny_classifier,
        max_body_bytes=20_000,
        max_body_chunks=50,
        max_articles=4,
        max_article_characters=5_000,
        max_header_bytes=2_000,
        header_timeout_seconds=0.5,
        body_timeout_seconds=0.5,
        keep_alive_seconds=1,
    ) as server:
        yield server


def ask(server: Live, body: bytes, *headers: str) -> tuple[int, dict[str, Any]]:
    answer = exchange(server.port, post(CLASSIFY, body, *headers))
    return code_of(answer), json.loads(answer.split(b"\r\n\r\n", 1)[1])


def packed(body: bytes, encoding: str) -> tuple[bytes, str, str]:
    return body, f"Content-Length: {len(body)}", f"Content-Encoding: {encoding}"


def test_body_bytes(small: Live) -> None:
    code, error = ask(small, b" " * 19_900 + BODY)
    assert code == 200
    code, error = ask(small, b" " * 20_000 + BODY)
    assert (code, error["reason"]) == (413, "body_bytes")
    assert "20,000 bytes" in error["error"]


def test_body_bytes_in_chunks(small: Live) -> None:
    pieces = [b" " * 1_000] * 25 + [BODY]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert ask(small, body, "Transfer-Encoding: chunked")[1]["reason"] == "body_bytes"
    body = body.replace(b"3e8\r\n" + b" " * 1_000 + b"\r\n", b"", 10)
    assert ask(small, body, "Transfer-Encoding: chunked")[0] == 200


def test_a_body_that_never_ends_is_not_read_for_ever(small: Live) -> None:
    head = post(CLASSIFY, b"", "Transfer-Encoding: chunked")
    answer = exchange(small.port, [head, *[b"1000\r\n" + b" " * 4_096 + b"\r\n"] * 200])
    assert answer == b"" or code_of(answer) == 413


def test_a_client_that_waits_for_a_word_sends_no_large_body(small: Live) -> None:
    head = "Content-Length: 30000", "Expect: 100-continue"
    assert ask(small, b"", *head)[1]["reason"] == "body_bytes"


def test_chunks(small: Live) -> None:
    for count, code in ((40, 200), (60, 413)):
        body = b"1\r\n \r\n" * count + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        found, error = ask(small, body, "Transfer-Encoding: chunked")
        assert found == code
    assert error["reason"] == "chunks"


def test_extensions_and_trailers_of_chunks(small: Live) -> None:
    for body in (
        b"1;" + b"x" * 2_000_000 + b"\r\n{\r\n",
        b"1\r\n{\r\n0\r\nX: " + b"x" * 2_000_000 + b"\r\n\r\n",
    ):
        answer = exchange(small.port, post(CLASSIFY, body, "Transfer-Encoding: chunked"))
        assert answer == b"" or code_of(answer) in (400, 413)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
def test_packed_bodies(small: Live, encoding: str) -> None:
    squeeze = PACKERS[encoding]
    name = "gzip" if encoding == "gzip" else "deflate"
    assert ask(small, *packed(squeeze(BODY), name))[0] == 200
    code, error = ask(small, *packed(squeeze(BODY + b" " * 10_000_000), name))
    assert (code, error["reason"]) == (413, "body_bytes")
    for broken in (squeeze(BODY)[:-1], squeeze(BODY) + b"more", b"\xff" * 50):
        if encoding == "raw" and broken == squeeze(BODY)[:-1]:
            continue  # its last byte holds nothing that is missed
        code, error = ask(small, *packed(broken, name))
        assert (code, error["reason"]) == (400, "malformed"), broken


def test_packed_bodies_are_unpacked_in_steps() -> None:
    """Each step holds up the event loop, and a body may unpack to a thousand times its size."""
    for size in (0, 1, UNPACKED_BYTES, 3_000_000, 3 * UNPACKED_BYTES + 1):
        parts = list(_Packed("gzip").unpack(gzip.compress(b" " * size)))
        assert sum(map(len, parts)) == size
        assert max(map(len, parts)) <= UNPACKED_BYTES


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
def test_unknown_encodings(small: Live, encoding: str) -> None:
    code, error = ask(small, *packed(BODY, encoding))
    assert (code, error["reason"]) == (415, "content_encoding")


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("application/json", 200),
        ("application/json; charset=UTF-8", 200),
        ("application/vnd.api+json", 200),
        ("application/json; charset=latin-1", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=utf-32le", 415),
        ("application/json, application/json", 415),
        (None, 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_content_types(small: Live, content_type: str | None, code: int) -> None:
    answer = exchange(small.port, post(CLASSIFY, BODY, content_type=content_type))
    assert code_of(answer) == code
    if code == 415:
        assert b'"content_type"' in answer
        assert b"application/json" in answer


def test_two_content_types(small: Live) -> None:
    headers = "Content-Type: text/plain", f"Content-Length: {len(BODY)}"
    assert ask(small, BODY, *headers)[0] == 415


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_bodies_in_another_utf(small: Live, encoding: str) -> None:
    """They would hide their brackets and commas from the limits."""
    for text in (BODY.decode(), '"\u4e00"', "[" * 900):
        code, error = ask(small, text.encode(encoding))
        assert (code, error["reason"]) == (400, "malformed")
        assert "UTF-8" in error["error"]


def test_a_byte_order_mark_of_utf_8(small: Live) -> None:
    assert ask(small, b"\xef\xbb\xbf" + BODY)[0] == 200


@pytest.mark.parametrize("path", ["/nothing", "/v1/classify/", "/health"])
def test_a_path_is_looked_for_before_a_body_is_looked_at(small: Live, path: str) -> None:
    code = 405 if path == "/health" else 404
    for body, content_type in ((b"a=1", "text/plain"), (b" " * 30_000, None), (b"[" * 99, None)):
        assert code_of(exchange(small.port, post(path, body, content_type=content_type))) == code
    late = post(path, b"", "Content-Length: 100")  # and without waiting for the body
    assert code_of(exchange(small.port, late)) == code


def test_depth(small: Live) -> None:
    deep = b"[" * 33 + b"]" * 33
    assert ask(small, deep)[1]["reason"] == "depth"
    assert ask(small, b"[" * 9_000 + b"]" * 9_000)[0] == 400
    assert ask(small, b'{"a":' * 3_000)[0] == 400
    assert ask(small, dumps({"articles": [{"headline": "[" * 99 + '\\"[' * 99}]}))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"articles": [{"headline": "\xff"}]}',
        b'{"articles": [{"headline": "\\ud800"}]}',
        b'{"articles": [{"headline": NaN}]}',
        b'{"articles": [{"headline": "a"}]} x',
        b'{"articles": "a"}',
        b'{"articles": []}',
        b'{"articles": [{}]}',
        b'{"articles": [{"headline": " \\u0000 "}]}',
        b'{"articles": [{"headline": "a"}], "tasks": ["weather"]}',
        b'{"articles": [{"headline": "a"}], "tasks": []}',
        b'{"articles": [{"headline": "a"}], "top_k": 0}',
        b'{"articles": [{"headline": "a"}], "model": "/etc/passwd"}',
        b'{"articles": [{"headline": "a"}], "top_k": 1' + b"0" * 400 + b"}",
    ],
)
def test_bodies_that_say_nothing(small: Live, body: bytes) -> None:
    code, error = ask(small, body)
    assert code in (400, 422)
    assert error["error"]


def test_an_error_says_where_and_never_what(client: httpx.Client) -> None:
    body = {"articles": [{"headline": "a"}, {"headline": ["Secret words"]}]}
    answer = client.post(CLASSIFY, json=body)
    assert answer.status_code == 422
    assert "articles.1.headline" in answer.json()["error"]
    assert "Secret" not in answer.text


def test_articles_and_characters(small: Live) -> None:
    code, error = ask(small, dumps({"articles": [{"headline": "goal"}] * 5}))
    assert (code, error["reason"]) == (413, "articles")
    long = {"headline": "a" * 2_000, "body": "b" * 3_001}
    code, error = ask(small, dumps({"articles": [{"headline": "goal"}, long]}))
    assert (code, error["reason"]) == (413, "characters")
    assert "number 2" in error["error"]


def test_texts_of_all_kinds(client: httpx.Client) -> None:
    for text, code in (
        ("\u202e right to left", 200),
        ("👩‍👩‍👧 emoji", 200),
        ("a\u0000b", 200),
        ("<script>alert(1)</script> goal", 200),
        ("x" * 99_999, 200),
        ("\u0301" * 1_000, 200),
        ("\u200b \u0007", 422),
    ):
        answer = client.post(CLASSIFY, json={"articles": [{"headline": text}]})
        assert answer.status_code == code, (ascii(text[:20]), answer.text)


def test_a_token_of_ten_megabytes(client: httpx.Client) -> None:
    answer = client.post(CLASSIFY, content=dumps({"articles": [{"headline": "x" * 10_000_000}]}))
    assert answer.status_code == 413


def test_headers(small: Live) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    assert code_of(exchange(small.port, head + b"X: " + b"x" * 1_000 + b"\r\n\r\n")) == 200
    for more in (b"X: " + b"x" * 3_000 + b"\r\n\r\n", b"X: 1\r\n" * 500 + b"\r\n"):
        assert code_of(exchange(small.port, head + more)) == 431
    assert code_of(exchange(small.port, b"GET /" + b"x" * 3_000 + b" HTTP/1.1\r\n\r\n")) == 431
    endless = [head, *[b"X: " + b"x" * 500 + b"\r\n"] * 100]
    assert code_of(exchange(small.port, endless, pause=0.001)) == 431


def test_slow_headers(small: Live) -> None:
    started = time.monotonic()
    answer = exchange(small.port, [b"GET /health HTTP/1.1\r\n", *[b"X: 1\r\n"] * 8], pause=0.1)
    assert code_of(answer) == 408
    assert time.monotonic() - started < 5


def test_connections_that_say_nothing_are_closed(small: Live) -> None:
    started = time.monotonic()
    assert exchange(small.port, b"") == b""
    assert exchange(small.port, [b"\r\n"] * 8, pause=0.1) == b""
    assert time.monotonic() - started < 5


def test_a_connection_may_not_idle_for_ever(small: Live) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    started = time.monotonic()
    answer = exchange(small.port, [head, *[b"\r\n"] * 8], pause=0.1)
    assert code_of(answer) == 200
    assert time.monotonic() - started < 6


def test_slow_bodies(small: Live) -> None:
    head = post(CLASSIFY, b"", "Content-Length: 1000")
    started = time.monotonic()
    answer = exchange(small.port, [head, *[b" "] * 10], pause=0.1)
    assert code_of(answer) == 408
    assert b'"body_timeout"' in answer
    assert time.monotonic() - started < 5


def test_a_body_that_nobody_reads_is_not_waited_for(small: Live) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    started = time.monotonic()
    answer = exchange(small.port, [head, *[b" "] * 15], pause=0.1)
    assert code_of(answer) == 200
    assert time.monotonic() - started < 6


def test_connections(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier, max_connections=20) as server:
        wait_until(lambda: not server.server.server_state.connections)
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        try:
            wait_until(lambda: len(server.server.server_state.connections) == 20)
            assert code_of(exchange(server.port, b"")) == 503
        finally:
            for connection in held:
                connection.close()
        wait_until(lambda: not server.server.server_state.connections)
        assert ask(server, BODY)[0] == 200


def test_bodies_together(tiny_classifier: Classifier) -> None:
    """Bodies of 18 kB that do not end: the fourth is more than 60 kB."""
    settings = {"max_body_bytes": 20_000, "max_held_bytes": 60_000, "body_timeout_seconds": 5}
    with live(tiny_classifier, **settings) as server:
        check_bodies_together(server)


def check_bodies_together(server: Live) -> None:
    answers: list[bytes] = []

    def hold() -> None:
        head = post(CLASSIFY, b" " * 18_000, "Content-Length: 19000")
        answers.append(exchange(server.port, head))

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = sorted(map(code_of, answers))
    assert codes == [408] * 3 + [429] * 3
    assert all(b"retry-after" in answer for answer in answers if code_of(answer) == 429)
    assert ask(server, b" " * 19_000 + BODY)[0] == 200  # all of it was released


def test_everything_is_counted(small: Live) -> None:
    """What no route has seen is counted as well, with its reason."""
    before = small.samples("newsie_rejected_total")
    exchange(small.port, b"nonsense\r\n\r\n")
    exchange(small.port, post(CLASSIFY, b"zz", "Transfer-Encoding: chunked"))
    exchange(small.port, b"GET /" + b"x" * 3_000 + b" HTTP/1.1\r\n\r\n")
    after = small.samples("newsie_rejected_total")
    for reason in ("http", "header_bytes"):
        label = f'reason="{reason}"'
        assert after[label] - before.get(label, 0) >= 1


@pytest.mark.parametrize(
    ("path", "start", "item", "end"),
    [
        (CLASSIFY, b'{"articles":[', b"1", b"]}"),
        (CLASSIFY, b'{"articles":[', b"{}", b"]}"),
        (CLASSIFY, b'{"articles":[{"headline":"a"}],"tasks":[', b"1", b"]}"),
        (CLASSIFY, b'{"articles":[{"headline":"a"}],', b'"x%d":1', b"}"),
        ("/v1/explain", b'{"article":{"headline":"a"},"labels":{', b'"x%d":1', b"}}"),
        ("/", b'{"inputs":[', b"1", b"]}"),
        ("/predict", b'{"inputs":[', b"1", b"]}"),
        ("/invocations", b'{"articles":[', b"1", b"]}"),
        ("/v2/models/tiny/infer", b'{"inputs":[{"name":"text","data":[', b"1", b"]}]}"),
    ],
)
def test_a_body_of_many_values(
    client: httpx.Client, path: str, start: bytes, item: bytes, end: bytes
) -> None:
    """Each would be an error of its own: 36 seconds and a gigabyte for a million."""
    for many in (1_900_000 // (len(item) + 8), 1_000):
        items = [item % number if b"%" in item else item for number in range(many)]
        started = time.monotonic()
        answer = client.post(path, content=start + b",".join(items) + end)
        assert answer.status_code in (413, 422)
        assert time.monotonic() - started < 3
        assert len(answer.content) < 2_000
    assert client.post(CLASSIFY, json={"articles": [{"headline": "," * 50_000}]}).status_code == 200


def test_requests_that_are_sent_ahead_do_not_pile_up(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hold(tiny_classifier, monkeypatch)
    body = b" " * 50_000 + BODY
    head = post(CLASSIFY, b"", f"Content-Length: {len(body)}")
    head = head.replace(b"Connection: close\r\n", b"")
    with live(tiny_classifier, send_timeout_seconds=0.5) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=1) as connection:
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 60_000_000:
                    sent += connection.send((head + body) * 10)
            assert sent < 60_000_000
            (protocol,) = server.server.server_state.connections
            assert isinstance(protocol, LimitedProtocol)
            assert len(protocol.pipeline) < 10
            go.set()
            assert connection.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: not server.server.server_state.connections)


def test_many_requests_at_once_delay_nobody(served: Live) -> None:
    ping = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = exchange(served.port, ping * 100_000)
    # At times fewer come through: closing a connection with unread requests may reset it.
    assert answer.count(b"HTTP/1.1 200 OK") <= 130
    with served.client() as client:
        assert client.get("/ping").status_code == 200


def test_who_reads_no_answers_is_cut_off(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier, send_timeout_seconds=0.3, keep_alive_seconds=300) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with connection:
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n" * 120)
            wait_until(lambda: server.server.server_state.connections)
            wait_until(lambda: not server.server.server_state.connections, 15)
        with server.client() as client:
            assert client.get("/health").status_code == 200
