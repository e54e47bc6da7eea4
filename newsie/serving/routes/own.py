"""Newsie's own dialect: `/v1/classify`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from newsie.serving.responses import ERRORS, json_response
from newsie.serving.schemas import ClassifyRequest, ClassifyResponse
from newsie.serving.service import Service

__all__ = ["router"]


def router(service: Service) -> APIRouter:
    """The routes of this dialect."""
    routes = APIRouter(tags=["Newsie"])

    @routes.post("/v1/classify", response_model=ClassifyResponse, responses=ERRORS)
    async def classify(request: ClassifyRequest) -> Response:
        """Classify articles: answer i belongs to article i."""
        with service.model() as model:
            tasks = service.tasks(model, request.tasks)
            articles = [article.article() for article in request.articles]
            answers = await service.classify(model, articles, tasks)
        return json_response(
            {
                "predictions": [p.to_json(request.top_k) for p in answers.predictions],
                "truncated": [p.truncated for p in answers.predictions],
                "model": model.fingerprint,
            }
        )

    return routes
