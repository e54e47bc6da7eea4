"""The rehearsal of a new model: every kind of response is built once before the model is served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from newsie.errors import BundleError
from newsie.inference.classifier import Classifier
from newsie.inference.prediction import Prediction
from newsie.serving.model import TEST_TEXTS, Answers, ServedModel
from newsie.serving.responses import json_response
from newsie.serving.routes import hub, tei, v2
from newsie.serving.schemas import ClassifyResponse, ExplainResponse, Scored
from newsie.serving.service import Service

__all__ = ["rehearse"]

MAX_PASSES = 4
"""The passes of the tested explanation. Few are enough, as only its form matters."""


def rehearse(service: Service, model: ServedModel) -> None:
    """Build the responses of all dialects, and validate them as a client would.

    Raises:
        BundleError: a response cannot be written as JSON, or does not have the type of its dialect.
    """
    for route, content, form in _answers(service, model):
        try:
            TypeAdapter(form).validate_json(bytes(json_response(content).body))
        except (TypeError, ValueError) as error:
            raise BundleError(
                f"bundle {model.classifier.bundle.path} cannot be served: its answer to {route} is not "
                f"valid ({_fault_of(error)}); check its name, its tasks and its labels"
            ) from error


def _answers(service: Service, model: ServedModel) -> Iterator[tuple[str, Any, Any]]:
    """Yield the route, the content and the declared type of each response."""
    answers = _classify(model.classifier)
    explanation = model.classifier.explain(TEST_TEXTS[0], max_passes=MAX_PASSES)
    rows = range(len(answers.predictions))
    yield (
        "/v1/classify",
        {
            "predictions": [prediction.to_json() for prediction in answers.predictions],
            "truncated": [prediction.truncated for prediction in answers.predictions],
            "model": model.fingerprint,
        },
        ClassifyResponse,
    )
    explained = {**explanation.to_json(), "model": model.fingerprint}
    yield "/v1/explain", explained, ExplainResponse
    yield "/info", tei.describe(service, model), tei.Info
    yield f"/v2/models/{model.name}", v2.describe(service, model), dict[str, Any]
    text = v2.Input(name="text", shape=[len(rows)], datatype="BYTES", data=list(TEST_TEXTS))
    request = v2.InferRequest(id=None, inputs=[text])
    for task in model.classifier.tasks:
        for name in ("softmax", "sigmoid", "none"):
            how = hub.Parameters(top_k=None, function_to_apply=name)
            scored = [hub.score_row(answers, row, task, how) for row in rows]
            yield "/", scored, list[list[Scored]]
        logits = [tei.score_row(answers, row, task, raw=True) for row in rows]
        yield "/predict", logits, list[list[Scored]]
        yield "/v2/.../infer", v2.answer(request, model, answers, task), v2.InferResponse


def _classify(classifier: Classifier) -> Answers:
    """Return the predictions for the test texts, without the queue."""
    encoded = classifier.encode(TEST_TEXTS)
    logits = classifier.run_batch(encoded.ids, classifier.tasks)
    probabilities = classifier.calibrate(logits)
    predictions = [
        Prediction(
            classifier.labels, {task: rows[row] for task, rows in probabilities.items()}, False
        )
        for row in range(len(encoded.ids))
    ]
    kept = [
        {task: np.asarray(rows[row], np.float64) for task, rows in logits.items()}
        for row in range(len(encoded.ids))
    ]
    return Answers(predictions, kept, sum(map(len, encoded.ids)))


def _fault_of(error: Exception) -> str:
    """Return the fault of a response in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
