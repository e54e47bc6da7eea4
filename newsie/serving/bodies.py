"""Bodies of requests: read whole, within limits, unpacked and looked at before anything parses them.

All of this runs on the event loop, before anybody has shown a key. So it works in steps of some milliseconds
at most, and what takes longer, the shape of a large body, is measured in a thread.
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

from newsie.serving.json_shape import JsonShape
from newsie.serving.refusals import RefusedError, send_refusal
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
"""Routes whose body is a file and no JSON of a dialect."""

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
"""Types that a file may have. A foreign page cannot send them without asking first, as it can text/plain."""

STOPPED = "newsie_stopped"
"""Where the scope's state holds the `RefusedError` for which the connection reads no more of a body."""

LINGER_SECONDS = 2.0
"""How long the rest of a body that is too large is thrown away, so that its sender sees the answer."""

SMALL_BYTES = 65_536
"""Up to this size, a body is measured at once. That takes less than a thread's start and end, about 1 ms."""

UNPACKED_BYTES = 262_144
"""How much is unpacked in one step."""

VALUES_PER_ARTICLE, OTHER_VALUES = 3, 1_000
"""Values that a body may hold: an article has headline, body and id; the rest names tasks and labels."""

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_OTHER_UTF = re.compile(rb"\xff\xfe|\xfe\xff|.?\x00", re.DOTALL)
"""How UTF-16 and UTF-32 begin: with a mark, or with a zero beside the first character, which JSON takes from
ASCII."""

_JSON_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;\s*charset=\"?utf-?8\"?\s*)?", re.I)


class Bodies:
    """Hands on requests whose body is JSON within the limits, as a whole; refuses all others.

    Args:
        app: the rest.
        settings: limits.
        routes: of the app. A request that none of them answers is handed on without its body, so that it
            is refused for that, and not for its body.
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
                    return  # the client has gone
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
        """The body, unpacked; None if the client leaves."""
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
        """The body, JSON without a byte order mark. Raises RefusedError."""
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
        # A parser makes an object of each value, and what is wrong with a body is told value by value, so
        # that a million would take half a minute.
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
    """Return the most bytes and the most pieces of a request's body; a larger file has more pieces."""
    size, pieces = settings.max_body_bytes, settings.max_body_chunks
    if not _is_file(scope):
        return size, pieces
    return settings.max_file_bytes, max(pieces, pieces * settings.max_file_bytes // size)


def _is_file(scope: Scope) -> bool:
    return scope["path"] in FILE_PATHS


async def _unpack(packed: _Packed, piece: bytes, held: _Held, limit: int) -> list[bytes]:
    """What a piece of a body holds, up to the first step beyond the limit."""
    parts = []
    for part in packed.unpack(piece):
        parts.append(part)
        held.add(len(part))
        if held.bytes > limit:
            break
        if len(part) >= UNPACKED_BYTES:
            await asyncio.sleep(0)  # others have their turn
    return parts


def _check_length(scope: Scope, limit: int) -> None:
    """Refuse at once what says that it is too large and waits for a word before it is sent."""
    headers = Headers(scope=scope)
    if headers.get("expect", "").lower() != "100-continue":
        return
    if int(headers.get("content-length", "0")) > limit:
        raise _too_large(limit)


def _check_file_type(given: list[str]) -> None:
    """Raises RefusedError where a file has none of the types that are read."""
    kind = given[0].partition(";")[0].strip().lower() if len(given) == 1 else ""
    if kind not in FILE_TYPES:
        raise RefusedError(
            415,
            "content_type",
            f"a file is sent with one of these as its Content-Type: {', '.join(sorted(FILE_TYPES))}",
        )


def _check_type(given: list[str]) -> None:
    """Raises RefusedError where a body is not said to be JSON.

    A page of anybody else can make a browser send other types here, or none, without asking first.
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
        """Hold more. Raises RefusedError when all requests together hold too much."""
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
        """Hold nothing more."""
        self._bodies._held -= self.bytes
        self.bytes = 0


class _Packed:
    """The encoding of a body, unpacked piece by piece and never beyond a limit."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise closing(
                415, "content_encoding", "Content-Encoding may be gzip, deflate or identity"
            )
        self._plain = self._encoding in ("", "identity")
        self._unpacker: zlib._Decompress | None = None

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        """What a piece holds, in parts. Raises RefusedError where it is broken."""
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
        """Raises RefusedError when the end is missing, or something comes behind it."""
        if self._unpacker is not None and (
            not self._unpacker.eof or self._unpacker.unused_data or self._unpacker.unconsumed_tail
        ):
            raise self._broken()

    def _open(self, start: bytes) -> zlib._Decompress:
        if self._encoding != "deflate":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # RFC 9110 says with a zlib header; some clients leave it out.
        framed = start[0] & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)

    def _broken(self) -> RefusedError:
        return closing(400, "malformed", f"the body is not what {self._encoding} makes")


def _described(scope: Scope, body: bytes, kind: str) -> Scope:
    """The scope, with headers as they are now that the body is read."""
    gone = (b"content-encoding", b"content-length", b"content-type", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in gone]
    headers += [
        (b"content-length", str(len(body)).encode()),
        (b"content-type", kind.encode()),
    ]
    scope["headers"] = headers
    return scope


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` as if the whole body came at once."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


async def _throw_away(receive: Receive, more: bool, limit: int) -> None:
    """Take what still comes, for a moment: who is cut off while sending does not read the answer."""
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
    """A refusal of a body that was not read to its end, after which nothing more can be read."""
    return RefusedError(status, reason, message, {"Connection": "close", **(headers or {})})


def too_many_pieces() -> RefusedError:
    """The refusal of a body in too many chunks, or with too long extensions of chunks or trailers."""
    return closing(413, "chunks", "the body comes in too many pieces; send fewer, larger")


def _too_large(limit: int) -> RefusedError:
    return closing(
        413, "body_bytes", f"the body is larger than {limit:,} bytes, as sent or unpacked"
    )
