"""Request bodies: read as a whole within limits, unpacked, and checked before they are parsed.

All of this runs on the event loop. So it works in steps of a few milliseconds at most, and the shape of a
large body, which takes longer, is measured in a thread.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newsie.serving.http_errors import RefusedError, send_refusal
from newsie.serving.json_shape import JsonShape
from newsie.serving.settings import Settings

__all__ = [
    "FILE_PATHS",
    "FILE_TYPES",
    "STOPPED",
    "Bodies",
    "body_limits",
    "closing",
    "too_many_pieces",
]

FILE_PATHS = frozenset({"/v1/read"})
"""The paths of routes whose body is a file rather than JSON of a dialect."""

FILE_TYPES = frozenset(
    {
        "application/json",
        "application/jsonl",
        "application/octet-stream",
        "application/x-ndjson",
        "text/csv",
        "text/tab-separated-values",
    }
)
"""The accepted types of files. A foreign page cannot send them without a preflight, as it can text/plain."""

STOPPED = "newsie_stopped"
"""The key in the scope's state of the `RefusedError` that made the connection stop reading a body."""

LINGER_SECONDS = 2.0
"""The time that the rest of a too large body is discarded, so that its sender reads the response."""

SMALL_BYTES = 65_536
"""The size up to which a body is measured on the event loop. A thread would cost more, about 1 ms."""

UNPACKED_BYTES = 262_144
"""The number of bytes that are unpacked in one step."""

VALUES_PER_ARTICLE, OTHER_VALUES = 3, 1_000
"""The limit of values in a body: an article has headline, body and id; the others name tasks and labels."""

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_OTHER_UTF = re.compile(rb"\xff\xfe|\xfe\xff|.?\x00", re.DOTALL)
"""The beginning of UTF-16 and UTF-32: a byte order mark, or a zero beside the first character, which is ASCII
in JSON."""

_JSON_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;\s*charset=\"?utf-?8\"?\s*)?", re.I)


class Bodies:
    """Middleware that passes on requests with a body of JSON or a file within the limits, and refuses others.

    Args:
        app: the wrapped app.
        settings: settings of the server.
        routes: routes of the app. A request that matches none is passed on without its body, so that it is
            refused for that reason, and not for its body.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, routes: Sequence[BaseRoute]) -> None:
        self.app, self.settings, self.routes = app, settings, routes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self.app(scope, receive, send)
            return
        if not any(route.matches(scope)[0] is Match.FULL for route in self.routes):
            await self.app(scope, _replayed(b"", receive), send)
            return
        with self._holding() as held:
            try:
                body = await self._read(scope, receive, held)
                if body is None:
                    return  # the client has disconnected
                kind = "application/octet-stream" if _is_file(scope) else "application/json"
                body = await self._check(scope, body)
            except RefusedError as error:
                await send_refusal(error, scope, receive, send)
                return
            await self.app(_described(scope, body, kind), _replayed(body, receive), send)

    @contextmanager
    def _holding(self) -> Iterator[_Held]:
        held = _Held(self)
        try:
            yield held
        finally:
            held.release()

    async def _read(self, scope: Scope, receive: Receive, held: _Held) -> bytes | None:
        """Read and unpack a body. Return None if the client disconnects."""
        packed = _Packed(Headers(scope=scope).get("content-encoding", ""))
        limit, most_pieces = body_limits(scope, self.settings)
        pieces = size = 0
        _check_length(scope, limit)
        unpacked: list[bytes] = []
        try:
            async with asyncio.timeout(self.settings.body_timeout_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    if STOPPED in scope["state"]:
                        raise scope["state"][STOPPED]
                    piece, more = message.get("body", b""), message.get("more_body", False)
                    pieces, size = pieces + 1, size + len(piece)
                    if pieces > most_pieces:
                        raise too_many_pieces()
                    if size <= limit:
                        unpacked += await _unpack(packed, piece, held, limit)
                    if size > limit or held.bytes > limit:
                        await _throw_away(receive, more, 4 * limit)
                        raise _too_large(limit)
        except TimeoutError:
            raise closing(
                408,
                "body_timeout",
                f"the body did not come within {self.settings.body_timeout_seconds:g} s",
            ) from None
        packed.finish()
        return b"".join(unpacked)

    async def _check(self, scope: Scope, body: bytes) -> bytes:
        """Return the body without a byte order mark. Raise RefusedError if it is not acceptable."""
        if _is_file(scope):
            _check_file_type(Headers(scope=scope).getlist("content-type"))
            return body
        if body:
            _check_type(Headers(scope=scope).getlist("content-type"))
        if _OTHER_UTF.match(body):
            raise RefusedError(
                400, "malformed", "the body is in UTF-16 or UTF-32; send the JSON in UTF-8"
            )
        if len(body) <= SMALL_BYTES:
            self._check_shape(body)
        else:
            await asyncio.to_thread(self._check_shape, body)
        return body.removeprefix(codecs.BOM_UTF8)

    def _check_shape(self, body: bytes) -> None:
        deepest, articles = self.settings.max_json_depth, self.settings.max_articles
        # A parser creates an object for each value, and validation reports errors value by value, so that a
        # million values would take half a minute.
        most = VALUES_PER_ARTICLE * articles + OTHER_VALUES
        if body.count(b",") < most and body.count(b"[") + body.count(b"{") <= deepest:
            return
        shape = JsonShape.of(body)
        if shape.depth > deepest:
            raise RefusedError(400, "depth", f"the JSON is nested deeper than {deepest} levels")
        if shape.commas >= most:
            raise RefusedError(
                413,
                "articles",
                f"the body holds too many values; at most {articles} articles at once",
            )


def body_limits(scope: Scope, settings: Settings) -> tuple[int, int]:
    """Return the maximum bytes and pieces of a request's body. A larger file may have more pieces."""
    size, pieces = settings.max_body_bytes, settings.max_body_chunks
    if not _is_file(scope):
        return size, pieces
    return settings.max_file_bytes, max(pieces, pieces * settings.max_file_bytes // size)


def _is_file(scope: Scope) -> bool:
    return scope["path"] in FILE_PATHS


async def _unpack(packed: _Packed, piece: bytes, held: _Held, limit: int) -> list[bytes]:
    """Unpack a piece of a body, up to the first step beyond the limit."""
    parts = []
    for part in packed.unpack(piece):
        parts.append(part)
        held.add(len(part))
        if held.bytes > limit:
            break
        if len(part) >= UNPACKED_BYTES:
            await asyncio.sleep(0)  # let other requests run
    return parts


def _check_length(scope: Scope, limit: int) -> None:
    """Refuse a body that announces a size over the limit, if its client waits for `100 Continue`."""
    headers = Headers(scope=scope)
    if headers.get("expect", "").lower() != "100-continue":
        return
    if int(headers.get("content-length", "0")) > limit:
        raise _too_large(limit)


def _check_file_type(given: list[str]) -> None:
    """Raise RefusedError unless a file has one of the accepted types."""
    kind = given[0].partition(";")[0].strip().lower() if len(given) == 1 else ""
    if kind not in FILE_TYPES:
        raise RefusedError(
            415,
            "content_type",
            f"a file is sent with one of these as its Content-Type: {', '.join(sorted(FILE_TYPES))}",
        )


def _check_type(given: list[str]) -> None:
    """Raise RefusedError unless the Content-Type of a body is JSON.

    A foreign page can make a browser send other types, or none, without a preflight request.
    """
    if len(given) == 1 and _JSON_TYPE.fullmatch(given[0].strip()):
        return
    raise RefusedError(
        415,
        "content_type",
        "the body must be JSON in UTF-8 and say so: send  Content-Type: application/json",
    )


class _Held:
    """The bytes that a request holds, counted together with those of all others."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.bytes = 0

    def add(self, count: int) -> None:
        """Count more bytes. Raise RefusedError if all requests together hold too many."""
        self.bytes += count
        self._bodies._held += count
        if self._bodies._held > self._bodies.settings.max_held_bytes:
            raise closing(
                429,
                "held_bytes",
                "the server holds as many requests as it may; try again later",
                {"Retry-After": "1"},
            )

    def release(self) -> None:
        """Release all bytes of this request."""
        self._bodies._held -= self.bytes
        self.bytes = 0


class _Packed:
    """A decoder for the encoding of a body. It unpacks piece by piece in bounded steps."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise closing(
                415, "content_encoding", "Content-Encoding may be gzip, deflate or identity"
            )
        self._plain = self._encoding in ("", "identity")
        self._unpacker: zlib._Decompress | None = None

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        """Yield the unpacked parts of a piece. Raise RefusedError if it is damaged."""
        if self._plain or not piece:
            yield piece
            return
        try:
            if self._unpacker is None:
                self._unpacker = self._open(piece)
            elif self._unpacker.eof:
                raise self._broken()
            is_full = False
            while piece or is_full:
                part = self._unpacker.decompress(piece, UNPACKED_BYTES)
                piece, is_full = self._unpacker.unconsumed_tail, len(part) >= UNPACKED_BYTES
                yield part
        except zlib.error:
            raise self._broken() from None

    def finish(self) -> None:
        """Raise RefusedError if the end is missing or followed by more data."""
        if self._unpacker is not None and (
            not self._unpacker.eof or self._unpacker.unused_data or self._unpacker.unconsumed_tail
        ):
            raise self._broken()

    def _open(self, start: bytes) -> zlib._Decompress:
        if self._encoding != "deflate":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # RFC 9110 requires a zlib header, but some clients omit it.
        framed = start[0] & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)

    def _broken(self) -> RefusedError:
        return closing(400, "malformed", f"the body is not what {self._encoding} makes")


def _described(scope: Scope, body: bytes, kind: str) -> Scope:
    """Update the headers of a scope to those of the unpacked body, and return the scope."""
    gone = (b"content-encoding", b"content-length", b"content-type", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in gone]
    headers += [
        (b"content-length", str(len(body)).encode()),
        (b"content-type", kind.encode()),
    ]
    scope["headers"] = headers
    return scope


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that delivers the whole body at once."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


async def _throw_away(receive: Receive, more: bool, limit: int) -> None:
    """Discard the rest of a body for a moment. A client that is cut off while sending reads no response."""
    end, size = time.monotonic() + LINGER_SECONDS, 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while more and size < limit and time.monotonic() < end:
                message = await receive()
                size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    except TimeoutError:
        return


def closing(
    status: int, reason: str, message: str, headers: dict[str, str] | None = None
) -> RefusedError:
    """Return a refusal of a body that was not read to its end. The connection is closed after it."""
    return RefusedError(status, reason, message, {"Connection": "close", **(headers or {})})


def too_many_pieces() -> RefusedError:
    """Return the refusal of a body with too many chunks, or with too long chunk extensions or trailers."""
    return closing(413, "chunks", "the body comes in too many pieces; send fewer, larger")


def _too_large(limit: int) -> RefusedError:
    return closing(
        413, "body_bytes", f"the body is larger than {limit:,} bytes, as sent or unpacked"
    )
