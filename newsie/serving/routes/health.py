"""Health and metrics: `/health`, `/health/live`, `/health/ready`, `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from newsie.serving.metrics import CONTENT_TYPE
from newsie.serving.responses import json_response
from newsie.serving.service import Service

__all__ = ["router"]


def router(service: Service) -> APIRouter:
    """Return the routes for health and metrics."""
    routes = APIRouter(tags=["Health"])

    @routes.get("/health")
    @routes.get("/health/ready")
    async def ready() -> Response:
        """Whether requests should come here: 200, or 503 while loading, failing or draining."""
        return json_response({"status": service.health.state}, 200 if service.health.ready else 503)

    @routes.get("/health/live")
    async def live() -> Response:
        """Whether the process is alive: 200."""
        return json_response({"status": "live"})

    @routes.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    return routes
