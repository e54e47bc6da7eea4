"""The routes that container hosts require: SageMaker's `/ping` and `/invocations`, and Vertex AI's routes.

Vertex AI sets its paths in `AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE`. Without these, it has no routes.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from newsie.data.articles import Article
from newsie.serving.json_route import JsonRoute
from newsie.serving.responses import ERRORS, encoded, json_response
from newsie.serving.routes.hub import HubRequest, answer_hub
from newsie.serving.routes.own import answer_own
from newsie.serving.schemas import (
    ClassifyRequest,
    ClassifyResponse,
    LabelScore,
    Listed,
    Scored,
    Strict,
    TaskQuery,
    TopK,
)
from newsie.serving.service import Service
from newsie.serving.unions import ArticleOrText, body_form

__all__ = ["sagemaker", "vertex"]


class VertexParameters(Strict):
    """How to answer."""

    tasks: Listed[str] | None = Field(None, min_length=1)
    top_k: TopK = None


class VertexRequest(Strict):
    """Articles or texts; the first line of a text is its headline."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"instances": ["Late goal wins the cup"]}]}
    )

    instances: Listed[ArticleOrText] = Field(min_length=1)
    parameters: VertexParameters | None = None


class VertexResponse(BaseModel):
    """Prediction i belongs to instance i: task -> labels, the best first."""

    predictions: list[dict[str, list[LabelScore]]]


Invocation = Annotated[
    Annotated[ClassifyRequest, Tag("(own)")] | Annotated[HubRequest, Tag("(hub)")],
    Discriminator(
        body_form,
        custom_error_type="body_form",
        custom_error_message="Input should have articles or inputs",
    ),
]
"""A body at /invocations."""


def sagemaker(service: Service) -> APIRouter:
    """Return the routes that SageMaker requires."""
    routes = APIRouter(route_class=JsonRoute, tags=["SageMaker"], responses=ERRORS)

    @routes.get("/ping")
    async def ping() -> Response:
        """Whether requests should come here: 200 or 503."""
        return json_response({"status": service.health.state}, 200 if service.health.ready else 503)

    @routes.post("/invocations", response_model=ClassifyResponse | list[list[Scored]])
    async def invocations(request: Invocation, task: TaskQuery = None) -> Response:
        """Classify, in Newsie's format ("articles") or in the hub's ("inputs")."""
        if isinstance(request, HubRequest):
            return await answer_hub(service, request, task)
        return await answer_own(service, request)

    return routes


def vertex(service: Service) -> APIRouter:
    """Return the routes that Vertex AI requires, at the paths of the settings."""
    settings = service.settings
    routes = APIRouter(route_class=JsonRoute, tags=["Vertex AI"], responses=ERRORS)

    async def vertex_health() -> Response:
        """Whether requests should come here: 200 or 503."""
        return json_response({"status": service.health.state}, 200 if service.health.ready else 503)

    async def vertex_predict(request: VertexRequest) -> Response:
        """Classify instances."""
        parameters = request.parameters or VertexParameters(tasks=None, top_k=None)
        articles = [
            Article.from_text(one) if isinstance(one, str) else one.article()
            for one in request.instances
        ]
        with service.model() as model:
            tasks = service.tasks(model, parameters.tasks)
            answers = await service.classify(model, articles, tasks)
        predictions = await service.slices.map(
            lambda prediction: encoded(prediction.to_json(parameters.top_k)), answers.predictions
        )
        return json_response({"predictions": predictions})

    if settings.vertex_health_route:
        routes.get(settings.vertex_health_route)(vertex_health)
    if settings.vertex_predict_route:
        routes.post(settings.vertex_predict_route, response_model=VertexResponse)(vertex_predict)
    return routes
