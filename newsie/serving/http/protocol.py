"""The HTTP protocol of a connection, with the limits that uvicorn lacks.

uvicorn does not limit the time that headers take, their size with httptools, the number of connections, the
number of chunks, the number of pipelined requests, or the time that a client takes to read a response. It
also loses the body of a request that offers another protocol, accepts messages whose Host or
Transfer-Encoding RFC 9112 tells servers to refuse, and hangs up on clients that close only the sending side.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import httptools
import orjson
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from newsie.serving.http.request_bodies import STOPPED, body_limits, closing, too_many_pieces
from newsie.serving.http_errors import RefusedError
from newsie.serving.settings import Settings

__all__ = ["LimitedProtocol"]

READ_BYTES = 32_768
"""The maximum size of one read, and so the most by which a count can exceed its limit. The parser calls back
for each chunk and each header, which takes about 1 ms of the event loop for 2,000 of them."""

LOOK_SECONDS = 1.0
"""The interval of the checks that a client that has closed its sending side still reads."""

_ABSOLUTE = re.compile(rb"[a-z][a-z0-9+.-]*://([^/?#]+)", re.IGNORECASE)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

MAX_PIPELINED = 128
"""The number of requests that may wait on a connection. With one more, the connection is closed."""


class _StoppedError(Exception):
    """Raised to stop the parsing of a connection that was refused."""


class _Flow(FlowControl):
    """Flow control that resumes reading only while no request waits in the pipeline."""

    def __init__(self, transport: asyncio.Transport, waiting: deque[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class _Parser:
    """A wrapper of httptools' parser for a server that never upgrades from HTTP/1.1.

    A request that offers an upgrade (`Upgrade: h2c`, as Java's client and `curl --http2` do) is served like
    any other. httptools ends such a message with its head, so the parser is restarted to read the body.

    Args:
        protocol: receives the callbacks of the parser.
    """

    def __init__(self, protocol: LimitedProtocol) -> None:
        self._protocol = protocol
        self._parser = self._open()
        self.in_known_head = False

    @property
    def loses_body(self) -> bool:
        """True if httptools reports the end of a message whose body is still to come."""
        return bool(self._parser.should_upgrade()) and bool(self._framing())

    def should_upgrade(self) -> bool:
        """Return False. Called by uvicorn."""
        return False

    def should_keep_alive(self) -> bool:
        """Return True if the connection may be kept open. Called by uvicorn."""
        return bool(self._parser.should_keep_alive())

    def get_http_version(self) -> str:
        """Return the HTTP version of the message. Called by uvicorn."""
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        """Return the method of the request. Called by uvicorn."""
        return bytes(self._parser.get_method())

    def feed_data(self, data: bytes) -> None:
        """Parse received bytes. Raise httptools.HttpParserError if they are not HTTP."""
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offered:
                data = data[offered.args[0] :]
            if framing := self._framing():
                self._parser = self._open()
                self.in_known_head = True
                self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
                self.in_known_head = False

    def _framing(self) -> bytes:
        """Return the headers that frame the body, as received."""
        return b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in self._protocol.headers
            if name in (b"content-length", b"transfer-encoding")
        )

    def _open(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self._protocol)
        with contextlib.suppress(AttributeError):  # httptools before 0.6.3
            # As in uvicorn: answer the first of several pipelined requests.
            parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser


class LimitedProtocol(HttpToolsProtocol):
    """A connection with limits.

    Args:
        settings: limits of connections, headers and bodies.
        refused: called with the status and the reason of a refusal that no route sees.
        rest: arguments from uvicorn.
    """

    def __init__(
        self, *, settings: Settings, refused: Callable[[int, str], None], **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.parser = cast(Any, _Parser(self))
        self.headers = []
        self._settings, self._refused = settings, refused
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._in_headers = self._in_body = self._stopped = False
        self._bytes = self._chunks = self._header_bytes = 0  # of the message that is being read
        self._max_body_bytes, self._max_chunks = settings.max_body_bytes, settings.max_body_chunks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        cast(Any, transport).max_size = READ_BYTES  # of asyncio's selector transports
        self.flow = _Flow(transport, self.pipeline)
        if len(self.connections) > self._settings.max_connections:
            self._refuse(503, "connections", "the server has as many connections as it may")
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        for timer in (self._sending, self._looking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Handle a client that sends no more. Return True if it may still read a response."""
        if self.transport.is_closing() or self._is_idle():
            return False
        if self._in_body and not self.pipeline:
            return False  # the only open request can never be completed
        if self._in_body:
            self._stop_body(closing(400, "malformed", "the body ends before its length"))
        self.cycle.keep_alive = False
        self._looking = self.loop.call_later(LOOK_SECONDS, self._look_for_client)
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_sent()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_sent()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._stopped:
            return
        super().data_received(data)
        if self._in_headers or self._in_body:
            self._bytes += len(data)
        if self._in_headers and self._bytes > self._settings.max_header_bytes:
            self._refuse_headers()
        elif self._in_body and self._bytes > 5 * self._max_body_bytes + READ_BYTES:
            self._stop_body(too_many_pieces())
        elif not self._in_body and self._timer is None and self._is_idle():
            self._await_headers()  # blank lines must not keep a connection open

    def on_message_begin(self) -> None:
        if self._reading.in_known_head:
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _StoppedError
        super().on_message_begin()
        self._in_headers, self._bytes, self._chunks = True, 0, 0
        self._header_bytes = 0
        self._await_headers()

    def on_url(self, url: bytes) -> None:
        if not self._reading.in_known_head:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_headers:
            return  # trailers, which nobody reads
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + 4
        self._check_header_bytes()

    def on_headers_complete(self) -> None:
        if self._reading.in_known_head:
            return
        self._check_header_bytes()
        version = self._reading.get_http_version()
        for status, reason, message in _faults(self.headers, version):
            self._refuse(status, reason, message)
            raise _StoppedError
        _take_host_of_target(self.url, self.headers)
        super().on_headers_complete()  # raises if the headers are not valid, and then there is no body
        self._max_body_bytes, self._max_chunks = body_limits(
            cast(Scope, self.scope), self._settings
        )
        self._in_headers, self._in_body, self._bytes = False, True, 0
        self._arm(self._settings.body_timeout_seconds, self._body_is_late)

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks == self._max_chunks + 1:
            self._stop_body(too_many_pieces())
            raise _StoppedError

    def on_message_complete(self) -> None:
        if self._reading.loses_body:
            return
        self._in_body = False
        self._disarm()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a message that is not HTTP. Called by uvicorn."""
        self._refuse(400, "http", "this is not HTTP/1.1, or its headers contradict each other")

    @property
    def _reading(self) -> _Parser:
        return cast(_Parser, self.parser)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _check_header_bytes(self) -> None:
        if len(self.url) + self._header_bytes > self._settings.max_header_bytes:
            self._refuse_headers()
            raise _StoppedError

    def _look_for_client(self) -> None:
        """Check whether a client that sends no more has gone or still waits for its response.

        The two look alike until the server sends something: if the client has gone, its system resets the
        connection. So an interim response is sent, which every HTTP/1.1 client must skip (RFC 9110, 15.2).
        """
        if self.transport.is_closing() or self._is_idle():
            return
        connection: socket.socket = self.transport.get_extra_info("socket")
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        is_next = not self.pipeline and not self.cycle.response_started
        if is_next and self.cycle.scope["http_version"] != "1.0":
            self.transport.write(_CONTINUE)
        self._looking = self.loop.call_later(LOOK_SECONDS, self._look_for_client)

    def _await_headers(self) -> None:
        self._arm(self._settings.header_timeout_seconds, self._headers_are_late)

    def _await_sent(self) -> None:
        """Start the timer that closes the connection of a client that does not read its response."""
        if self._sending is not None:
            self._sending.cancel()
        self._sending = self.loop.call_later(self._settings.send_timeout_seconds, self._cut_off)

    def _cut_off(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _arm(self, seconds: float, late: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _headers_are_late(self) -> None:
        if not self._is_idle():  # the response to the previous request is in progress
            self._await_headers()
        elif self._in_headers:
            self._refuse(408, "header_timeout", "the headers did not come in time")
        else:
            self.transport.close()  # no request has begun, so no response is due

    def _body_is_late(self) -> None:
        """Close the connection if it is idle. Otherwise `Bodies` refuses the late body."""
        self._arm(self._settings.body_timeout_seconds, self._body_is_late)
        if self._is_idle():
            self.transport.close()

    def _stop_body(self, refusal: RefusedError) -> None:
        """Stop reading a body, and let `Bodies` send the refusal when the request has its turn."""
        if self._is_idle():
            self.transport.close()
            return
        self._stopped = True
        self.cycle.scope["state"][STOPPED] = refusal
        self.cycle.keep_alive = self.cycle.more_body = False
        self.cycle.message_event.set()
        self.flow.pause_reading()

    def _refuse_headers(self) -> None:
        limit = self._settings.max_header_bytes
        self._refuse(431, "header_bytes", f"the headers are larger than {limit:,} bytes")

    def _refuse(self, status: int, reason: str, message: str) -> None:
        """Send a refusal without any route, then close the connection."""
        if self.transport.is_closing() or self._stopped:
            return
        if self._in_body and not self._is_idle():
            self._stop_body(closing(status, reason, message))
            return
        self._disarm()
        if not self._is_idle():
            self.cycle.keep_alive = False  # responses in progress come first
            self._stopped = True
            return
        self._refused(status, reason)
        body = orjson.dumps({"error": message, "reason": reason})
        head = [STATUS_LINE[status]]
        for name, value in (
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ):
            head += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*head, b"\r\n", body]))
        self.transport.close()
        self._await_sent()


def _take_host_of_target(target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Replace the header Host with the host of a target such as `http://host/path` (RFC 9112, 3.2.2)."""
    if found := _ABSOLUTE.match(target):
        headers[:] = [(name, value) for name, value in headers if name != b"host"]
        headers.append((b"host", found[1]))


def _faults(headers: Sequence[tuple[bytes, bytes]], version: str) -> list[tuple[int, str, str]]:
    """Return the faults of the headers as (status, reason, message) of a refusal each."""
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    needed = version != "1.0"  # RFC 9112, 3.2
    faults = []
    if len(hosts) > 1 or (needed and not (hosts and hosts[0])):
        faults.append((400, "host", "send exactly one header Host, with the name of this server"))
    if codings and not needed:
        faults.append((400, "http", "HTTP/1.0 has no Transfer-Encoding; send a Content-Length"))
    elif codings and [coding.lower() for coding in codings] != [b"chunked"]:
        faults.append((501, "http", "the only Transfer-Encoding that is known here is chunked"))
    return faults
