"""Descriptions of invalid requests: what was given and what is allowed. They never quote the text that was
sent, which may be an article's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from newsie.serving.unions import TAGS

__all__ = ["describe_fault"]

Fault = Mapping[str, Any]

_LOOK = "the page /docs shows what is"

_WANTED: dict[str, str] = {
    "article_or_text": "an article (an object) or a text",
    "body_form": 'an object with "articles" or with "inputs"',
    "text_or_texts": "a text or a list of texts",
    "texts": "a list of texts",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a text",
}
"""pydantic's type of an error -> the expected value."""

_OTHERS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "missing": lambda place, _: f"{place} is missing; add it",
    "extra_forbidden": lambda place, _: f"{place} is not a field that is known here; {_LOOK}",
    "too_short": lambda place, about: (
        f"{place} holds {about['actual_length']}; give at least {about['min_length']}"
    ),
    "too_long": lambda place, about: f"{place} holds too many; give at most {about['max_length']}",
    "string_too_long": lambda place, about: (
        f"{place} is longer than {about['max_length']:,} characters; shorten it"
    ),
    "string_too_short": lambda place, about: (
        f"{place} is shorter than {about['min_length']:,} characters; lengthen it"
    ),
    "greater_than_equal": lambda place, about: f"{place} must be {about['ge']:,} or more",
    "less_than_equal": lambda place, about: f"{place} must be {about['le']:,} or less",
    "literal_error": lambda place, about: (
        f"{place} is none of what is allowed: {about['expected']}"
    ),
}


def describe_fault(fault: Fault) -> str:
    """Return a pydantic error as a sentence, such as "articles.0.headline is a number; give a text".

    Args:
        fault: an item of `ValidationError.errors()`.
    """
    kind = str(fault["type"])
    place = ".".join(str(part) for part in fault["loc"][1:] if part not in TAGS) or "the body"
    if kind in _WANTED:
        return f"{place} is {_kind_of(fault.get('input'))}; give {_WANTED[kind]}"
    if kind in _OTHERS:
        return _OTHERS[kind](place, fault.get("ctx", {}))
    return f"{place}: {fault['msg']}"


def _kind_of(value: object) -> str:
    """Return the type of a JSON value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "an object" if isinstance(value, dict) else "a list"
