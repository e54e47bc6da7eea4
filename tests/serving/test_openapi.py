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

from tests.serving.live import Live

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
        if body is None or path == "/admin/model":
            continue
        schema = body["content"]["application/json"]["schema"]
        name = schema.get("anyOf", [schema])[0]["$ref"].rsplit("/", 1)[-1]
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
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    for path in json.loads(client.get("/openapi.json").text)["paths"]:
        assert f" {path}<span>" in answer.text
