from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from newsie import Classifier
from newsie.serving.schemas import ClassifyRequest
from newsie.serving.validation_messages import describe_fault
from tests.serving.live import live
from tests.tiny import PANICS, write_panicking_bundle

SECRET = "never shown"
ARTICLE = {"headline": "goal"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "articles is missing; add it"),
        ({"articles": []}, "articles holds 0; give at least 1"),
        ({"articles": {"headline": SECRET}}, "articles is an object; give a list"),
        ({"articles": [SECRET]}, "articles.0 is a text; give an object"),
        ({"articles": [{"headline": 3}]}, "articles.0.headline is a number; give a text"),
        ({"articles": [{"headline": None}]}, "articles.0.headline is null; give a text"),
        ({"articles": [{"headline": [SECRET]}]}, "articles.0.headline is a list; give a text"),
        (
            {"articles": [{"id": "x" * 257}]},
            "articles.0.id is longer than 256 characters; shorten it",
        ),
        (
            {"articles": [{"hedline": SECRET}]},
            "articles.0.hedline is not a field that is known here; the page /docs shows what is",
        ),
        ({"articles": [ARTICLE], "top_k": 0}, "top_k must be 1 or more"),
        ({"articles": [ARTICLE], "top_k": 10**7}, "top_k must be 1,000,000 or less"),
        ({"articles": [ARTICLE], "top_k": SECRET}, "top_k is a text; give a whole number"),
        ({"articles": [ARTICLE], "tasks": True}, "tasks is true or false; give a list"),
    ],
)
def test_a_fault_says_what_was_given_and_what_is_allowed(body: Any, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        ClassifyRequest.model_validate(body)
    # As FastAPI gives them: the first part of the place is where in the request it was.
    found = [
        describe_fault(item | {"loc": ("body", *item["loc"])}) for item in raised.value.errors()
    ]
    assert found == [message]
    assert SECRET not in found[0]


def test_a_fault_of_another_kind_keeps_its_words() -> None:
    assert describe_fault({"type": "odd", "loc": ("body",), "msg": "Odd"}) == "the body: Odd"


INFER = {"name": "text", "shape": [1], "datatype": "BYTES"}


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        (
            "/invocations",
            {},
            'the body is an object; give an object with "articles" or with "inputs"',
        ),
        ("/invocations", [], 'the body is a list; give an object with "articles" or with "inputs"'),
        ("/invocations", {"articles": []}, "articles holds 0; give at least 1"),
        ("/invocations", {"inputs": ["a", 5]}, "inputs.1 is a number; give a text"),
        (
            "/invocations",
            {"articles": [{"headline": 1}]},
            "articles.0.headline is a number; give a text",
        ),
        ("/", {"inputs": 5}, "inputs is a number; give a text or a list of texts"),
        ("/", {"inputs": [["a"]]}, "inputs.0 is a list; give a text"),
        ("/predict", {"inputs": 5}, "inputs is a number; give a text or a list of texts"),
        ("/predict", {"inputs": [["a", "b"]]}, "inputs.0 holds too many; give at most 1"),
        (
            "/v2/models/tiny/infer",
            {
                "inputs": [INFER | {"data": ["a"]}],
                "outputs": [{"name": "label"}] * 17,
            },
            "outputs holds too many; give at most 16",
        ),
        (
            "/v2/models/tiny/infer",
            {"inputs": [INFER | {"data": "a"}]},
            "inputs.0.data is a text; give a list of texts",
        ),
    ],
)
def test_errors_name_only_what_was_sent(
    client: httpx.Client, path: str, body: object, error: str
) -> None:
    """Not the forms of a field, which have names in the code only."""
    assert client.post(path, json=body).json()["error"] == error


def test_an_instance_is_an_article_or_a_text(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier, vertex_predict_route="/go") as server, server.client() as client:
        answer = client.post("/go", json={"instances": [5]})
    assert answer.json()["error"] == (
        "instances.0 is a number; give an article (an object) or a text"
    )


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/explain"])
def test_a_panic_of_the_tokenizer_is_a_fault_of_the_model(
    tiny_bundle: Path, tmp_path: Path, path: str
) -> None:
    bundle = write_panicking_bundle(tiny_bundle, tmp_path / "panicking")

    def body(text: str) -> dict[str, Any]:
        article = {"headline": text}
        return {"articles": [article]} if path == "/v1/classify" else {"article": article}

    with live(Classifier.from_pretrained(bundle, threads=1)) as server, server.client() as client:
        answer = client.post(path, json=body(PANICS))
        assert (answer.status_code, answer.json()["reason"]) == (424, "backend")
        line = server.line(answer.headers["X-Request-Id"])
        assert (line["code"], line["refused"]) == (424, "backend")
        assert client.post(path, json=body("goal")).status_code == 200
