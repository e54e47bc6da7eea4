from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from newsie.serving.faults import describe_fault
from newsie.serving.schemas import ClassifyRequest

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
