"""Extracting the text or the label from a list or an object in a cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["NestedError", "NestedText", "label_of", "text_of"]

TEXT_KEYS = ("main", "rendered", "text", "content", "value", "name", "label", "title", "default")
"""The keys of the text in an object, best first: {"main": ...} of The New York Times, {"rendered": ...} of
WordPress, {"name": ...} of a publisher or a section."""

TYPED_KEYS = ("$date", "$oid", "$numberLong", "#text", "@value", "_")
"""The keys that MongoDB, XML converters and JSON-LD use for a plain value."""

MAX_DEPTH = 8


class NestedError(ValueError):
    """An error for a nested value that is not text, or not a single label.

    Attributes:
        reason: the reason, in a few fixed words.
        detail: the start of the value.
    """

    def __init__(self, reason: str, value: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = json.dumps(value, ensure_ascii=False, default=str)[:80]


class NestedText(str):
    """A list or an object as JSON text, which also keeps the original value."""

    __slots__ = ("value",)
    value: Any

    @classmethod
    def of(cls, value: Any) -> NestedText:
        """Return a list or an object as JSON text."""
        text = cls(json.dumps(value, ensure_ascii=False, default=str))
        text.value = value
        return text


def text_of(cell: str) -> str:
    """Return the text of a cell. The text of an object is under one of `TEXT_KEYS`. A list of paragraphs is
    joined, one per line.

    Raises:
        NestedError: the value is nested in another way.
    """
    if not isinstance(cell, NestedText):
        return cell
    return "\n".join(text for text in _texts(cell.value, cell.value, MAX_DEPTH) if text)


def _texts(value: Any, whole: Any, depth: int) -> Iterator[str]:
    if isinstance(value, dict) and value and depth:
        key = next((key for key in (*TEXT_KEYS, *TYPED_KEYS) if key in value), None)
        if key is None:
            raise NestedError("a nested value that is no text", whole)
        yield from _texts(value[key], whole, depth - 1)
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _texts(item, whole, depth - 1)
    elif isinstance(value, dict | list) and value:
        raise NestedError("a nested value that is no text", whole)
    elif value is not None and not isinstance(value, dict | list):
        yield str(value).lower() if isinstance(value, bool) else str(value)


def label_of(cell: str) -> str:
    """Return the label in a cell, which may be a list of one or an object such as {"name": "sport"}.

    Raises:
        NestedError: there are several labels, or the value is nested in another way.
    """
    if not isinstance(cell, NestedText):
        return cell
    labels = list(dict.fromkeys(text for text in _texts(cell.value, cell.value, MAX_DEPTH) if text))
    if len(labels) > 1:
        raise NestedError(
            "several labels in one cell, and a task has one for each article", cell.value
        )
    return labels[0] if labels else ""
