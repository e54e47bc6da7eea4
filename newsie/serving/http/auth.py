"""Authentication by key. If keys are set, every route except health requires one of them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from newsie.serving.http_errors import RefusedError, send_refusal

__all__ = ["OPEN_PATHS", "Auth"]

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/ping"})
"""Paths that can be read without a key, so that health checks need none."""

_PAGES = frozenset({"/", "/docs"})


class Auth:
    """Middleware that requires a key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    A browser can send neither when it opens a page. It is asked for a password, which is a key.

    Args:
        app: the wrapped app.
        keys: the valid keys; if there are none, every request passes.
        open_paths: paths that can be read without a key.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Collection[str], open_paths: Collection[str] = OPEN_PATHS
    ) -> None:
        self.app, self.open_paths = app, frozenset(open_paths)
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not self._digests or self._may_pass(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await send_refusal(_refusal(scope), scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["type"] != "http":
            return False
        if scope["path"] in self.open_paths and scope["method"] in ("GET", "HEAD"):
            return True
        # Digests have equal length and all are compared, so that the timing reveals nothing about the keys.
        given = [_digest(key) for key in _keys(scope)]
        matches = [hmac.compare_digest(one, known) for one in given for known in self._digests]
        return any(matches)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _keys(scope: Scope) -> list[bytes]:
    """Return the keys that a request sends."""
    keys = []
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            keys.append(value)
        elif name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                keys.append(rest.strip())
            elif scheme.lower() == b"basic" and not scope["path"].startswith("/admin/"):
                # Not for administration: a browser adds its stored password to requests of any page.
                keys.append(_password(rest))
    return keys


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _refusal(scope: Scope) -> RefusedError:
    page = scope["method"] == "GET" and scope["path"] in _PAGES
    challenge = 'Basic realm="Newsie: the key is the password"' if page else 'Bearer realm="Newsie"'
    return RefusedError(
        401,
        "key",
        "the key is missing or wrong; send it as  Authorization: Bearer KEY  or  X-API-Key: KEY",
        {"WWW-Authenticate": challenge},
    )
