"""The id, the metrics and the log line of each request. None of them holds its text."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newsie.serving.http_errors import RefusedError, refuse
from newsie.serving.logs import FACTS, Log, place_of
from newsie.serving.metrics import Metrics

__all__ = ["GONE", "Observing", "request_id_of"]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

GONE = 499
"""The status, as in nginx, of a request whose client disconnected before the response."""

_PROCESS, _NUMBERS = uuid.uuid4().hex[:16], itertools.count(1)
"""The parts of a new request id, unique by process and number. A random id would cost a system call."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


def request_id_of(scope: Scope) -> str:
    """Return the id that the client sent if it is a plain word of up to 64 characters, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return f"{_PROCESS}{next(_NUMBERS):016x}"


class Observing:
    """The outermost middleware: assigns a request id, counts and logs each request once, and hides faults.

    Args:
        app: the wrapped app.
        metrics: metrics to update.
        log: called with the fields of a log line.
        draining: returns True if connections should be closed after their response.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, log: Log, draining: Callable[[], bool]
    ) -> None:
        self.app, self.metrics, self.log, self.draining = app, metrics, log, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        facts: dict[str, Any] = {}
        FACTS.set(facts)
        code = GONE

        async def observed(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if self.draining():
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except asyncio.CancelledError:
            if code != GONE or not self.draining():
                raise
            # The server waits no longer for responses, see `shutdown_timeout_seconds`.
            await refuse(_ENDING, scope["path"], request_id)(scope, receive, observed)
        except Exception as error:  # any error: the client gets the id, and the log gets the place
            facts |= {"refused": "internal", "fault": place_of(error)}
            if code == GONE:
                await refuse(_FAULT, scope["path"], request_id)(scope, receive, observed)
        finally:
            self._note(scope, code, time.perf_counter() - started, request_id, facts)

    def _note(
        self, scope: Scope, code: int, seconds: float, request_id: str, facts: dict[str, Any]
    ) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.answered(route, method, code, seconds, facts.get("refused"))
        line = {"request_id": request_id, "method": method, "route": route, "code": code}
        self.log(line | {"seconds": round(seconds, 6)} | facts)


_ENDING = RefusedError(503, "not_ready", "the server is draining; ask another")
_FAULT = RefusedError(500, "internal", "a fault of the server; its log has more under this id")
