"""Newsie's own dialect: `/v1/classify`, `/v1/explain`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from newsie.serving.json_route import JsonRoute
from newsie.serving.responses import ERRORS, encoded, json_response
from newsie.serving.schemas import (
    ClassifyRequest,
    ClassifyResponse,
    ExplainRequest,
    ExplainResponse,
)
from newsie.serving.service import Service

__all__ = ["answer_own", "router"]


def router(service: Service) -> APIRouter:
    """Return the routes of this dialect."""
    routes = APIRouter(route_class=JsonRoute, tags=["Newsie"], responses=ERRORS)

    @routes.post("/v1/classify", response_model=ClassifyResponse)
    async def classify(request: ClassifyRequest) -> Response:
        """Classify articles: answer i belongs to article i."""
        return await answer_own(service, request)

    @routes.post("/v1/explain", response_model=ExplainResponse)
    async def explain(request: ExplainRequest) -> Response:
        """Explain an answer word by word: how it changes when a word is left out."""
        with service.model() as model:
            tasks = service.tasks(model, request.tasks)
            explanation = await service.explain(
                model, request.article.article(), tasks, request.labels or {}
            )
        return json_response({**explanation.to_json(), "model": model.fingerprint})

    return routes


async def answer_own(service: Service, request: ClassifyRequest) -> Response:
    """Return the response to a request in this dialect."""
    with service.model() as model:
        tasks = service.tasks(model, request.tasks)
        articles = [article.article() for article in request.articles]
        answers = await service.classify(model, articles, tasks)
    predictions = await service.slices.map(
        lambda prediction: encoded(prediction.to_json(request.top_k)), answers.predictions
    )
    return json_response(
        {
            "predictions": predictions,
            "truncated": [p.truncated for p in answers.predictions],
            "model": model.fingerprint,
        }
    )
