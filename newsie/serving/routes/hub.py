"""The dialect of the Hugging Face hub's client: `POST /`.

    huggingface_hub.InferenceClient(model="http://127.0.0.1:8000").text_classification("text", top_k=2)

posts {"inputs": "text", "parameters": {...}} and takes the first element of the response. So the response is
a list of lists, one for each text.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field, JsonValue

from newsie.data.articles import Article
from newsie.serving.json_route import JsonRoute
from newsie.serving.model import Answers
from newsie.serving.responses import encoded, errors_of, json_response
from newsie.serving.schemas import PlainError, Scored, Strict, TaskQuery, TopK
from newsie.serving.service import Service
from newsie.serving.unions import TextOrTexts

__all__ = ["HubRequest", "Parameters", "answer_hub", "router", "score_row"]


class Parameters(Strict):
    """How to answer."""

    top_k: TopK = Field(None, description="Without it, all labels.")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="Without it, softmax."
    )


class HubRequest(Strict):
    """A text or several; the first line of each is its headline."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": "Late goal wins the cup", "parameters": {"top_k": 2}}]
        }
    )

    inputs: TextOrTexts
    parameters: Parameters | None = None
    options: dict[str, JsonValue] | None = Field(
        None,
        description="Not used: for the hub's own cache and queue, as some of its clients send it.",
    )


def router(service: Service) -> APIRouter:
    """Return the route of this dialect."""
    routes = APIRouter(
        route_class=JsonRoute, tags=["Hugging Face hub client"], responses=errors_of(PlainError)
    )

    @routes.post("/", response_model=list[list[Scored]])
    async def classify(request: HubRequest, task: TaskQuery = None) -> Response:
        """Classify texts: a list of labels for each, the best first."""
        return await answer_hub(service, request, task)

    return routes


async def answer_hub(service: Service, request: HubRequest, task: str | None) -> Response:
    """Return the response to a request in this dialect."""
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    parameters = request.parameters or Parameters(top_k=None, function_to_apply=None)
    with service.model() as model:
        name = service.task(model, task)
        answers = await service.classify(model, [Article.from_text(text) for text in texts], [name])
    return json_response(
        await service.slices.map(
            lambda row: encoded(score_row(answers, row, name, parameters)),
            range(len(answers.predictions)),
        )
    )


def score_row(
    answers: Answers, row: int, task: str, parameters: Parameters
) -> list[dict[str, object]]:
    """Return the labels of one text with their scores, best first."""
    prediction = answers.predictions[row]
    function = parameters.function_to_apply or "softmax"
    if function == "softmax":
        return prediction.to_json(parameters.top_k)[task]
    values = answers.logits[row][task]
    if function == "sigmoid":
        values = 1 / (1 + np.exp(-values))
    labels = prediction.labels[task].labels
    order = np.argsort(-values, kind="stable")[: parameters.top_k]
    return [{"label": labels[i], "score": float(values[i])} for i in order]
