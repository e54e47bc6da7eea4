"""Refusals of requests, and their form in each dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from newsie.serving.logs import note

__all__ = ["RefusedError", "refuse", "send_refusal"]


class RefusedError(Exception):
    """Raised if a request is refused.

    Args:
        status: HTTP status.
        reason: one word for metrics and programs, such as "overloaded".
        message: what was given, what is allowed and what to do. It holds no text of articles.
        headers: headers of the response.
    """

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.headers = dict(headers or {})


Body = dict[str, Any]

_TEI_TYPES: dict[str | int, str] = {
    "empty": "Empty",
    422: "Tokenizer",
    424: "Backend",
    429: "Overloaded",
    500: "Backend",
    503: "Unhealthy",
    504: "Overloaded",
}
"""Reason or status -> error_type of text-embeddings-inference; all others are "Validation"."""


def _own(error: RefusedError, request_id: str) -> Body:
    return {"error": error.message, "reason": error.reason, "request_id": request_id}


def _tei(error: RefusedError, request_id: str) -> Body:
    kind = _TEI_TYPES.get(error.reason) or _TEI_TYPES.get(error.status, "Validation")
    return {"error": error.message, "error_type": kind}


def _plain(error: RefusedError, request_id: str) -> Body:
    return {"error": error.message}


def _dialect(path: str) -> Callable[[RefusedError, str], Body]:
    if path == "/predict":
        return _tei
    return _plain if path in ("/", "/v2") or path.startswith("/v2/") else _own


def refuse(error: RefusedError, path: str, request_id: str) -> Response:
    """Return the response to a refused request, in the dialect of the path."""
    note(refused=error.reason)
    dialect, status = _dialect(path), error.status
    if dialect is _tei and error.reason == "empty":
        status = 400
    body = orjson.dumps(dialect(error, request_id))
    return Response(body, status, error.headers, media_type="application/json")


async def send_refusal(error: RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the response to a refused request from a middleware."""
    response = refuse(error, scope["path"], scope["state"]["request_id"])
    await response(scope, receive, send)
