"""Refusals: why a request is not answered, and how each dialect says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.responses import Response

__all__ = ["RefusedError", "dialect_of", "refuse"]


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: the HTTP status.
        reason: one word for metrics and programs: "overloaded".
        message: for people: what was given, what is allowed, what to do. Holds no text of articles.
        headers: of the answer.
    """

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.headers = dict(headers or {})


Body = dict[str, Any]

_TEI_TYPES = {
    "empty": "Empty",
    413: "Validation",
    422: "Validation",
    424: "Backend",
    429: "Overloaded",
    503: "Unhealthy",
    504: "Overloaded",
}
"""Reason or status -> error_type of text-embeddings-inference; what is not listed is "Validation" below
500 and "Backend" from there."""


def _own(refusal: RefusedError, request_id: str) -> Body:
    return {"error": refusal.message, "reason": refusal.reason, "request_id": request_id}


def _tei(refusal: RefusedError, request_id: str) -> Body:
    default = "Validation" if refusal.status < 500 else "Backend"
    kind = _TEI_TYPES.get(refusal.reason) or _TEI_TYPES.get(refusal.status, default)
    return {"error": refusal.message, "error_type": kind}


def _plain(refusal: RefusedError, request_id: str) -> Body:
    return {"error": refusal.message}


_DIALECTS: dict[str, Callable[[RefusedError, str], Body]] = {
    "own": _own,
    "tei": _tei,
    "plain": _plain,
}


def dialect_of(path: str) -> str:
    """The dialect in which the clients of a path expect errors: "own", "tei" or "plain"."""
    if path == "/predict":
        return "tei"
    return "plain" if path == "/" or path == "/v2" or path.startswith("/v2/") else "own"


def refuse(refusal: RefusedError, path: str, request_id: str) -> Response:
    """The answer to a request that is refused."""
    body = _DIALECTS[dialect_of(path)](refusal, request_id)
    return Response(
        orjson.dumps(body), refusal.status, refusal.headers, media_type="application/json"
    )
