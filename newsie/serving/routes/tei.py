"""The dialect of text-embeddings-inference: `POST /predict`, `GET /info`.

https://huggingface.github.io/text-embeddings-inference/ . One thing differs: there, `["a", "b"]` is a pair
of texts. Here it is a batch of two, as users expect.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from newsie.data.articles import Article
from newsie.serving.http_errors import RefusedError
from newsie.serving.json_route import JsonRoute
from newsie.serving.model import Answers, ServedModel
from newsie.serving.responses import encoded, errors_of, json_response
from newsie.serving.schemas import Flag, Scored, Strict, TaskQuery
from newsie.serving.service import Service
from newsie.serving.unions import TextOrTextLists
from newsie.version import __version__

__all__ = ["describe", "router", "score_row"]


class PredictRequest(Strict):
    """A text, or several as a list of texts or of lists of one text."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": "Late goal wins the cup"}]}
    )

    inputs: TextOrTextLists
    raw_scores: Flag = Field(False, description="Logits in the place of probabilities.")
    truncate: Flag | None = Field(
        None,
        description="Cut what is longer than the model reads; without it, the server's setting.",
    )
    truncation_direction: Literal["Right", "right"] = "Right"


class TeiError(BaseModel):
    """Why there is no answer."""

    error: str
    error_type: str


class Classifier(BaseModel):
    """The labels of the task that is answered when none is asked for."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(BaseModel):
    """What the model does."""

    classifier: Classifier


class Info(BaseModel):
    """What this server is and allows."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    model_sha: str = Field(description="Fingerprint of the model: equal ones answer equally.")
    model_dtype: str = Field(description="int8 or float32.")
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
    tasks: dict[str, list[str]] = Field(description="Task -> its labels.")


def router(service: Service) -> APIRouter:
    """Return the routes of this dialect."""
    routes = APIRouter(
        route_class=JsonRoute, tags=["text-embeddings-inference"], responses=errors_of(TeiError)
    )

    @routes.post("/predict", response_model=list[Scored] | list[list[Scored]])
    async def predict(request: PredictRequest, task: TaskQuery = None) -> Response:
        """Classify a text (a list of all labels, the best first) or several (a list of such lists)."""
        texts = _texts(request.inputs)
        if not texts:
            raise RefusedError(400, "empty", "`inputs` cannot be empty")
        with service.model() as model:
            name = service.task(model, task)
            articles = [Article.from_text(text) for text in texts]
            cut = service.settings.auto_truncate if request.truncate is None else request.truncate
            answers = await service.classify(model, articles, [name], cut=cut)
        rows = await service.slices.map(
            lambda row: encoded(score_row(answers, row, name, raw=request.raw_scores)),
            range(len(answers.predictions)),
        )
        return json_response(rows[0] if isinstance(request.inputs, str) else rows)

    @routes.get("/info", response_model=Info)
    async def info() -> Response:
        """What this server is and allows."""
        with service.model() as model:
            return json_response(describe(service, model))

    return routes


def _texts(inputs: str | list[str] | list[list[str]]) -> list[str]:
    if isinstance(inputs, str):
        return [inputs]
    return [text if isinstance(text, str) else text[0] for text in inputs]


def score_row(answers: Answers, row: int, task: str, *, raw: bool) -> list[dict[str, Any]]:
    """Return the labels of one text with their probabilities or logits, best first."""
    if not raw:
        return answers.predictions[row].to_json()[task]
    names, logits = answers.predictions[row].labels[task].labels, answers.logits[row][task]
    order = (-logits).argsort(kind="stable")
    return [{"label": names[i], "score": float(logits[i])} for i in order]


def describe(service: Service, model: ServedModel) -> dict[str, Any]:
    """Return the content of `/info`."""
    settings, classifier = service.settings, model.classifier
    labels = classifier.labels[service.task(model, None)].labels
    return {
        "model_id": model.name,
        "model_sha": model.fingerprint,
        "model_dtype": model.dtype,
        "model_type": {
            "classifier": {
                "id2label": {str(i): label for i, label in enumerate(labels)},
                "label2id": {label: i for i, label in enumerate(labels)},
            }
        },
        "max_concurrent_requests": settings.max_concurrent_requests,
        "max_input_length": classifier.max_tokens,
        "max_batch_tokens": settings.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_articles,
        "auto_truncate": settings.auto_truncate,
        "tokenization_workers": classifier.threads,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "tasks": {task.name: list(task.labels) for task in classifier.labels.tasks},
    }
