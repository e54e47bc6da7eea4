"""The app: routes, limits and a model, put together. Nothing happens at import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from newsie.classifier import Classifier
from newsie.serving.logs import write_line
from newsie.serving.observing import Observing
from newsie.serving.refusals import RefusedError, refuse
from newsie.serving.routes import health, own
from newsie.serving.service import Service
from newsie.serving.settings import Settings
from newsie.version import __version__

__all__ = ["create_app"]


def create_app(classifier: Classifier, settings: Settings | None = None) -> FastAPI:
    """A server of a classifier, as an ASGI app.

    Args:
        classifier: the model that answers at first.
        settings: limits and the rest; None reads them from the environment.
    """
    settings = settings or Settings()
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.serve(classifier)
        yield
        service.health.drain()
        if service.models.current:
            await service.models.current.close()

    app = FastAPI(
        title="Newsie",
        version=__version__,
        description="Classifies news articles.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for dialect in (own, health):
        app.include_router(dialect.router(service))
    app.add_middleware(
        Observing,
        metrics=service.metrics,
        log=write_line,
        draining=lambda: service.health.draining,
    )
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    request.state.facts["refused"] = error.reason
    return refuse(error, request.url.path, request.state.request_id)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = {404: "no_route", 405: "method"}.get(error.status_code, "http")
    return await _refused(
        request, RefusedError(error.status_code, reason, str(error.detail), error.headers)
    )


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return await _refused(request, RefusedError(400, "malformed", "the body is not JSON"))
    # Where and why, but never the input itself.
    places = [
        ".".join(str(part) for part in item["loc"][1:]) + ": " + item["msg"] for item in found[:5]
    ]
    return await _refused(request, RefusedError(422, "invalid", "; ".join(places)))
