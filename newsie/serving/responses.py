"""JSON responses, and the errors that the OpenAPI document lists."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from newsie.serving.schemas import ErrorResponse

__all__ = ["ERRORS", "encoded", "errors_of", "json_response"]

_WHY = {
    400: "The body is not JSON, or is cut off.",
    401: "The key is missing or wrong.",
    403: "A web page of another origin sends this.",
    408: "The request did not come in time.",
    413: "The body, an article or the number of articles is too large.",
    415: "The body is not said to be JSON, or is packed in a way that is not known.",
    421: "The server does not answer to the name in the header Host.",
    422: "A field is missing, of another type or unknown; an article has no text; no such task.",
    424: "The model cannot answer.",
    429: "The queue is full; Retry-After says when to try again.",
    500: "A fault of the server; the log has more under the request id.",
    503: "No model is loaded yet, or the server ends.",
    504: "The answer took too long.",
}


def errors_of(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return status -> description for FastAPI, with all errors in the form of a dialect."""
    return {status: {"model": model, "description": why} for status, why in _WHY.items()}


ERRORS = errors_of(ErrorResponse)
"""All errors in Newsie's own form."""


def encoded(content: Any) -> orjson.Fragment:
    """Return content that is encoded as JSON already. `json_response` includes it unchanged."""
    return orjson.Fragment(orjson.dumps(content))


def json_response(content: Any, status: int = 200) -> Response:
    """Return a response with plain values as JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")
