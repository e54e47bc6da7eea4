"""The article: what every part of Newsie works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Article"]


@dataclass(frozen=True, slots=True)
class Article:
    """One news article.

    Attributes:
        headline: the headline; may be empty when there is a body.
        body: lede, summary or full text; empty when only the headline is known.
        id: the caller's identifier, carried through unchanged.
        publisher: name of the outlet. Never shown to a model.
        published: date as ISO 8601 (YYYY-MM-DD...), or None.
        url: address. Shown to no model but to those that are made to read nothing else (view "url").
        labels: gold label by task name; an absent task means unlabelled.
    """

    headline: str
    body: str = ""
    id: str = ""
    publisher: str = ""
    published: str | None = None
    url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str) -> Article:
        """A text as an article: its first line is the headline, the rest the body."""
        headline, _, body = text.partition("\n")
        return cls(headline, body)
