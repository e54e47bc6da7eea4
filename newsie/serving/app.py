"""The ASGI app with its routes, limits and model. Importing this module has no side effects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from newsie.inference.classifier import Classifier
from newsie.serving.hot_swap import Swapper
from newsie.serving.http.access_log import Observing
from newsie.serving.http.auth import OPEN_PATHS, Auth
from newsie.serving.http.disconnects import Leaving
from newsie.serving.http.head_requests import Heads
from newsie.serving.http.hosts import Hosts
from newsie.serving.http.request_bodies import Bodies
from newsie.serving.http_errors import RefusedError, refuse
from newsie.serving.logs import Log, write_line
from newsie.serving.routes import admin, cloud, files, health, hub, own, pages, tei, v2
from newsie.serving.service import Service
from newsie.serving.settings import Settings
from newsie.serving.tracing import trace
from newsie.serving.validation_messages import describe_fault
from newsie.version import __version__

__all__ = ["create_app"]


def create_app(
    classifier: Classifier | None = None,
    settings: Settings | None = None,
    *,
    log: Log = write_line,
) -> FastAPI:
    """Return an ASGI app that serves a classifier.

    Args:
        classifier: the first model; if None, the server is not ready until `app.state.swapper.reload()` has
            loaded the model of the settings.
        settings: settings of the server; None reads them from the environment.
        log: called with the fields of a log line for each request.

    Raises:
        InputError: a key cannot be used.
    """
    settings = settings or Settings()
    service = Service(settings)
    swapper = Swapper(service, settings)
    keys = settings.read_keys()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if classifier is not None:
            service.serve(service.prepare(classifier))
        probing = asyncio.create_task(service.probe())
        yield
        service.health.drain()
        probing.cancel()
        await swapper.close()

    app = FastAPI(
        title="Newsie",
        version=__version__,
        summary="Classifies news articles.",
        lifespan=lifespan,
        openapi_url=None,  # it is a route of ours, so that it is counted as one
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service, app.state.swapper = service, swapper
    for routes in (
        cloud.vertex(service),  # first, as the host chooses its paths
        own.router(service),
        files.router(settings),
        hub.router(service),
        tei.router(service),
        v2.router(service),
        cloud.sagemaker(service),
        health.router(service),
        admin.router(swapper, has_key=bool(keys)),
        pages.router(app),
    ):
        app.include_router(routes)
    _add_layers(app, settings, service, keys, log)
    for error, handler in _HANDLERS.items():
        app.add_exception_handler(error, handler)
    trace(app)
    return app


def _add_layers(
    app: FastAPI, settings: Settings, service: Service, keys: Collection[str], log: Log
) -> None:
    """Add the middleware around the routes, from the inside out."""
    app.add_middleware(Heads)
    app.add_middleware(Leaving)
    app.add_middleware(Bodies, settings=settings, routes=app.routes)
    watched = {settings.vertex_health_route} if settings.vertex_health_route else set()
    app.add_middleware(Auth, keys=keys, open_paths=OPEN_PATHS | watched)
    app.add_middleware(
        Hosts,
        bound=settings.host,
        allowed=settings.allowed_hosts,
        open_paths=OPEN_PATHS | watched,
    )
    app.add_middleware(
        Observing,
        metrics=service.metrics,
        log=log,
        draining=lambda: service.health.draining,
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return refuse(error, request.url.path, request.state.request_id)


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = {400: "malformed", 404: "no_route", 405: "method"}.get(error.status_code, "http")
    message = {
        400: "the body is not JSON in UTF-8",
        404: "there is no such route; /docs lists them",
        405: f"{request.method} does not work here; use {(error.headers or {}).get('Allow')}",
    }.get(error.status_code, str(error.detail))
    return await _refused(request, RefusedError(error.status_code, reason, message, error.headers))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    for item in found:
        if item["type"] == "json_invalid":
            why = f"{item['ctx']['error']}, at character {item['loc'][1]}"
            why = f"the body is not JSON in UTF-8: {why}"
            return await _refused(request, RefusedError(400, "malformed", why))
    message = ". ".join(describe_fault(item) for item in found[:5])
    return await _refused(request, RefusedError(422, "invalid", message))


_HANDLERS = {
    RefusedError: _refused,
    HTTPException: _not_served,
    RequestValidationError: _invalid,
}
