from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serving.live import Live, exchange

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PATHS = (
    "/",
    "/predict",
    "/v1/classify",
    "/v1/explain",
    "/v1/read",
    "/invocations",
    "/admin/model",
    "/info",
    "/health",
    "/v2",
    "/v2/models/{model_name}/infer",
    "/v2/models/{model_name}",
)


@pytest.mark.parametrize("path", PATHS)
def test_what_the_document_says_is_so(served: Live, path: str) -> None:
    """Requests made from the document, within it and beyond: answers are as it says, and no 500."""
    schema = schemathesis.openapi.from_dict(document(served))
    schema.config.update(base_url=served.url)
    operations = [
        found.ok()
        for found in schema.include(path=path).get_all_operations()
        if isinstance(found, Ok)
    ]
    assert operations
    for operation in operations:

        @settings(
            max_examples=20,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        check()


def document(served: Live) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(served.url + "/openapi.json", trust_env=False).json()
    return answer


def test_every_error_is_in_the_document(served: Live) -> None:
    for path, item in document(served)["paths"].items():
        for method, operation in item.items():
            if method == "post":
                codes = set(operation["responses"])
                assert {"200", "400", "401", "413", "415", "422", "429", "503", "504"} <= codes, (
                    path
                )


def test_examples_are_answered(served: Live, client: httpx.Client) -> None:
    """Each example of the document, posted as it is."""
    found = document(served)
    posted = 0
    for path, item in found["paths"].items():
        body = item.get("post", {}).get("requestBody")
        if body is None or path in ("/admin/model", "/v1/read"):  # the latter takes a file
            continue
        schema = body["content"]["application/json"]["schema"]
        name = forms_of(schema)[0]["$ref"].rsplit("/", 1)[-1]
        [example] = found["components"]["schemas"][name]["examples"]
        path = path.replace("{model_name}", "tiny").replace(
            "{version}", served.app.state.service.current.fingerprint
        )
        answer = client.post(path, json=example)
        assert answer.status_code == 200, (path, answer.text)
        posted += 1
    assert posted >= 6


class Elements(HTMLParser):
    """The elements of a page, and the ids and names that it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.ids |= {found["id"] or ""} if "id" in found else set()
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def test_the_reference_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Elements(answer.text)
    assert "script" not in page.tags
    assert all(link.startswith("#") or link == "openapi.json" for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} == page.ids
    assert not re.search(r"url\(|@import", answer.text)
    assert "<code>text or list of text</code>" in answer.text.replace("string", "text")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert f"curl -X POST {client.base_url}/predict" in answer.text
    for path in json.loads(client.get("/openapi.json").text)["paths"]:
        assert f" {path}<span>" in answer.text


def test_examples_of_the_reference_ask_the_server_that_shows_them(served: Live) -> None:
    head = "GET /docs HTTP/1.1\r\nHost: news.localhost:1234\r\nConnection: close\r\n\r\n"
    page = exchange(served.port, head.encode()).decode()
    assert "curl -X POST http://news.localhost:1234/v1/classify" in page
    assert ":8000" not in page


def forms_of(schema: dict[str, Any]) -> list[dict[str, Any]]:
    forms: list[dict[str, Any]] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return forms


def fields_of(served: Live) -> list[tuple[str, dict[str, Any], tuple[str, ...], str]]:
    """Every number and every flag that a body may hold: route, example, place, type."""
    found = document(served)
    fields = []

    def walk(route: tuple[str, Any], schema: dict[str, Any], place: tuple[str, ...]) -> None:
        for one in forms_of(schema):
            if "$ref" in one:
                one = found["components"]["schemas"][one["$ref"].rsplit("/", 1)[-1]]
            for name, field in one.get("properties", {}).items():
                walk(route, field, (*place, name))
            if one.get("type") == "array":
                walk(route, one["items"], (*place, "[]"))
            if one.get("type") in ("integer", "boolean"):
                fields.append((*route, place, one["type"]))

    for path, item in found["paths"].items():
        body = item.get("post", {}).get("requestBody")
        if body and path != "/v1/read":  # which takes a file
            schema = body["content"]["application/json"]["schema"]
            for one in forms_of(schema):
                part = found["components"]["schemas"][one["$ref"].rsplit("/", 1)[-1]]
                [example] = part["examples"]
                walk((path, example), one, ())
    return fields


def with_value(example: Any, place: tuple[str, ...], value: Any) -> Any:
    """A copy of an example with this value at a place."""
    if not place:
        return value
    if place[0] == "[]":
        return [with_value(example[0] if example else {}, place[1:], value)]
    changed = with_value((example or {}).get(place[0]), place[1:], value)
    return {**(example or {}), place[0]: changed}


def test_a_flag_is_no_number_and_a_number_no_flag(served: Live, client: httpx.Client) -> None:
    fields = fields_of(served)
    assert {place[-1] for *_, place, _ in fields} >= {"top_k", "raw_scores", "truncate", "[]"}
    for path, example, place, kind in fields:
        path = path.replace("{model_name}", "tiny").replace(
            "{version}", served.app.state.service.current.fingerprint
        )
        for wrong in (True, "2", 1.5) if kind == "integer" else (1, "true"):
            answer = client.post(path, json=with_value(example, place, wrong))
            assert answer.status_code == 422, (path, place, wrong, answer.text)
            assert place[-1].strip("[]") in answer.text


def test_a_field_that_is_not_known_is_refused_in_every_dialect(
    served: Live, client: httpx.Client
) -> None:
    """A request for something else than this server does must not be answered as if it were done."""
    found = document(served)
    for path, body, place in (
        ("/", {"inputs": "goal", "parameters": {"candidate_labels": ["a"]}}, "candidate_labels"),
        ("/", {"inputs": "goal", "candidate_labels": ["a"]}, "candidate_labels"),
        ("/invocations", {"inputs": "goal", "parameters": {"return_text": True}}, "return_text"),
        ("/predict", {"inputs": "goal", "normalize": True}, "normalize"),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 422, (path, answer.text)
        assert f"{place} is not a field that is known here" in answer.text
    for name, schema in found["components"]["schemas"].items():
        if name.endswith(("Request", "Parameters", "Input", "Output", "ArticleIn")):
            assert schema.get("additionalProperties") is False, name


def test_what_clients_of_other_servers_send_along(served: Live, client: httpx.Client) -> None:
    body: dict[str, Any] = {"inputs": "goal", "options": {"wait_for_model": True}}
    assert client.post("/", json=body).status_code == 200
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["goal"]}
    plain = {"binary_data": False}
    body = {"inputs": [tensor], "outputs": [{"name": "label", "parameters": plain}]}
    assert client.post("/v2/models/tiny/infer", json=body).status_code == 200
    body["outputs"][0]["parameters"] = {"binary_data": True}
    assert client.post("/v2/models/tiny/infer", json=body).status_code == 422
