"""Pages for people: `GET /`, `GET /docs`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Request, Response
from fastapi.responses import HTMLResponse

from newsie.serving.api_reference import REFERENCE_POLICY, reference_html
from newsie.serving.page import content_security_policy, page_html
from newsie.serving.responses import json_response
from newsie.version import __version__

__all__ = ["router"]

_LINKS = {"name": "newsie", "version": __version__, "classify": "/v1/classify", "docs": "/docs"}


def router(app: FastAPI) -> APIRouter:
    """Return the routes of the pages."""
    routes = APIRouter(tags=["Pages"])

    @routes.get("/")
    async def page(accept: Annotated[str, Header()] = "*/*") -> Response:
        """The page, for who accepts HTML; else where to go."""
        if "text/html" not in accept:
            return json_response(_LINKS)
        headers = {"Content-Security-Policy": content_security_policy(), "Vary": "Accept"}
        return HTMLResponse(page_html(), headers=headers)

    @routes.get("/docs", response_class=HTMLResponse)
    async def docs(request: Request) -> Response:
        """All routes, made from the OpenAPI document; nothing of it comes from elsewhere."""
        server = f"{request.url.scheme}://{request.url.netloc}"
        return HTMLResponse(
            reference_html(app.openapi(), server),
            headers={"Content-Security-Policy": REFERENCE_POLICY},
        )

    @routes.get("/openapi.json", include_in_schema=False)
    async def document() -> Response:
        """The OpenAPI document."""
        return json_response(app.openapi())

    return routes
