"""The Open Inference Protocol, version 2 (KServe, Triton): `/v2/...`.

https://github.com/kserve/open-inference-protocol . Tensors are JSON. The binary extension is not supported.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from newsie.data.articles import Article
from newsie.serving.http_errors import RefusedError
from newsie.serving.json_route import JsonRoute
from newsie.serving.model import Answers, ServedModel
from newsie.serving.responses import errors_of, json_response
from newsie.serving.schemas import Listed, PlainError, Strict, Whole
from newsie.serving.service import Service
from newsie.serving.unions import TextLists
from newsie.version import __version__

__all__ = ["InferRequest", "answer", "describe", "router"]

Dimension = Annotated[Whole, Field(ge=0, le=1_000_000)]
OUTPUTS = ("label", "probabilities")
NO_MODEL: dict[int | str, dict[str, Any]] = {
    404: {"model": PlainError, "description": "No model of that name or version."}
}


class TensorParameters(Strict):
    """How a tensor is sent; JSON is the only way here."""

    binary_data: Literal[False] = False


class Input(Strict):
    """The texts; the first line of each is its headline."""

    name: Literal["text"]
    shape: list[Dimension] = Field(min_length=1, max_length=2, description="[n] or [n, 1].")
    datatype: Literal["BYTES"]
    parameters: TensorParameters | None = None
    data: TextLists


class Output(Strict):
    """An output that is asked for."""

    name: Literal["label", "probabilities"]
    parameters: TensorParameters | None = None


class RequestParameters(Strict):
    """How to answer."""

    task: str | None = None
    binary_data_output: Literal[False] = False


class InferRequest(Strict):
    """n texts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": [
                        {
                            "name": "text",
                            "shape": [1],
                            "datatype": "BYTES",
                            "data": ["Late goal wins the cup"],
                        }
                    ]
                }
            ]
        }
    )

    id: str | None = Field(None, max_length=256)
    inputs: list[Input] = Field(min_length=1, max_length=1)
    outputs: Annotated[Listed[Output], Field(max_length=16)] | None = None
    parameters: RequestParameters | None = None


class Tensor(BaseModel):
    """A tensor; data in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    data: list[str] | list[float]


class InferResponse(BaseModel):
    """`label` (n) and `probabilities` (n, C), in the order of the task's labels."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any]
    outputs: list[Tensor]


def router(service: Service) -> APIRouter:
    """Return the routes of this dialect."""
    routes = APIRouter(
        route_class=JsonRoute,
        tags=["Open Inference Protocol v2"],
        responses=errors_of(PlainError) | NO_MODEL,
    )

    @routes.get("/v2")
    async def server() -> Response:
        """What the server is."""
        return json_response({"name": "newsie", "version": __version__, "extensions": []})

    @routes.get("/v2/health/live")
    async def live() -> Response:
        """Whether the process is alive."""
        return json_response({"live": True})

    @routes.get("/v2/health/ready")
    async def ready() -> Response:
        """Whether requests should come here."""
        _check_ready(service)
        return json_response({"ready": True})

    @routes.get("/v2/models/{model_name}")
    @routes.get("/v2/models/{model_name}/versions/{version}")
    async def model(model_name: str, version: str | None = None) -> Response:
        """What the model takes and gives."""
        with service.model() as served:
            _check_name(served, model_name, version)
            return json_response(describe(service, served))

    @routes.get("/v2/models/{model_name}/ready")
    @routes.get("/v2/models/{model_name}/versions/{version}/ready")
    async def model_ready(model_name: str, version: str | None = None) -> Response:
        """Whether the model answers."""
        with service.model() as served:
            _check_name(served, model_name, version)
            _check_ready(service)
            return json_response({"name": served.name, "ready": True})

    @routes.post("/v2/models/{model_name}/infer", response_model=InferResponse)
    @routes.post("/v2/models/{model_name}/versions/{version}/infer", response_model=InferResponse)
    async def infer(request: InferRequest, model_name: str, version: str | None = None) -> Response:
        """Classify n texts."""
        texts = _texts(request.inputs[0])
        with service.model() as served:
            _check_name(served, model_name, version)
            asked = request.parameters.task if request.parameters else None
            task = service.task(served, asked)
            articles = [Article.from_text(text) for text in texts]
            answers = await service.classify(served, articles, [task])
        return json_response(answer(request, served, answers, task))

    return routes


def _check_ready(service: Service) -> None:
    if not service.health.ready:
        raise RefusedError(503, "not_ready", f"the server is {service.health.state}")


def _check_name(model: ServedModel, name: str, version: str | None) -> None:
    if name != model.name:
        raise RefusedError(404, "no_model", f"the model here is {model.name!r}")
    if version not in (None, model.fingerprint):
        raise RefusedError(404, "no_model", f"the version here is {model.fingerprint!r}")


def _texts(tensor: Input) -> list[str]:
    count = len(tensor.data)
    wanted = [count] if count and isinstance(tensor.data[0], str) else [count, 1]
    if tensor.shape not in (wanted, [count], [count, 1]) or not count:
        raise RefusedError(
            400, "shape", f"shape is {tensor.shape} and data has {count} texts; at least one text"
        )
    return [text if isinstance(text, str) else text[0] for text in tensor.data]


def describe(service: Service, model: ServedModel) -> dict[str, Any]:
    """Return the content of `/v2/models/{model}`."""
    labels = model.classifier.labels[service.task(model, None)].labels
    return {
        "name": model.name,
        "versions": [model.fingerprint],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [-1, len(labels)],
                "parameters": {"labels": list(labels)},
            },
        ],
    }


def answer(
    request: InferRequest, model: ServedModel, answers: Answers, task: str
) -> dict[str, Any]:
    """Return the content of the response to `infer`."""
    labels, count = model.classifier.labels[task].labels, len(answers.predictions)
    rows = [prediction.probabilities[task] for prediction in answers.predictions]
    tensors = {
        "label": {
            "name": "label",
            "shape": [count],
            "datatype": "BYTES",
            "data": [p.label(task) for p in answers.predictions],
        },
        "probabilities": {
            "name": "probabilities",
            "shape": [count, len(labels)],
            "datatype": "FP32",
            "data": np.concatenate(rows).tolist(),
        },
    }
    asked = dict.fromkeys(output.name for output in request.outputs or ()) or OUTPUTS
    content = {
        "model_name": model.name,
        "model_version": model.fingerprint,
        "parameters": {"task": task, "labels": list(labels)},
        "outputs": [tensors[name] for name in asked],
    }
    return content if request.id is None else content | {"id": request.id}
