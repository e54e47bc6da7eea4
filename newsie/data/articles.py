"""The Article class, which every part of Newsie works on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from numbers import Real

from newsie.errors import InputError

__all__ = ["Article", "as_article", "check_articles", "is_table"]


@dataclass(frozen=True, slots=True)
class Article:
    """One news article.

    Attributes:
        headline: the headline; may be empty when there is a body.
        body: lede, summary or full text; empty when only the headline is known.
        id: the caller's identifier, carried through unchanged.
        publisher: name of the outlet. Never shown to a model.
        published: date as ISO 8601 (YYYY-MM-DD...), or None.
        url: address. Shown only to models with the view "url", which read nothing else.
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
        """Return an article whose headline is the first line of a text, and whose body is the rest."""
        headline, _, body = text.partition("\n")
        return cls(headline, body)


def check_articles(articles: object, call: str) -> None:
    """Raise an error unless an argument can be a sequence of articles.

    Args:
        articles: the argument that the caller passed.
        call: the name of the called function, for the message.

    Raises:
        InputError: the argument is a single article or text, a table, a mapping, a set, bytes, or not
            iterable.
    """
    kind = type(articles).__name__
    if isinstance(articles, str | Article):
        raise InputError(
            f"{call} takes a list of articles, and a single {kind} was given; write {call}([article])"
        )
    if is_table(articles):
        raise InputError(
            f"{call} takes a list of articles, and a {kind} was given; write "
            f'{call}([Article(*row) for row in zip(table["headline"], table["body"])]), with the names of '
            "your columns"
        )
    unordered = isinstance(articles, Mapping | Set | bytes | bytearray)
    if unordered or not isinstance(articles, Iterable) or getattr(articles, "ndim", 1) != 1:
        raise InputError(
            f"{call} takes a list of articles or texts, and a {kind} was given; write {call}([...])"
        )


def is_table(value: object) -> bool:
    """Return True for a pandas, polars or pyarrow table, which iterates over columns instead of rows."""
    return hasattr(value, "columns") and hasattr(value, "shape")


def as_article(value: object, number: int) -> Article:
    """Return a text or an article as an article. None and NaN in its headline or body become empty text.

    Args:
        value: an Article, or a text, whose first line is the headline.
        number: the 1-based position of the article in the input, for messages.

    Raises:
        InputError: the value is neither, or its headline or body is not text.
    """
    if isinstance(value, str):
        return Article.from_text(value)
    if not isinstance(value, Article):
        raise InputError(
            f"article number {number} is given as {type(value).__name__}; give an Article or a text"
        )
    if type(value.headline) is str and type(value.body) is str:
        return value
    headline = _as_text(value.headline, "headline", number)
    return replace(value, headline=headline, body=_as_text(value.body, "body", number))


def _as_text(value: object, field_name: str, number: int) -> str:
    if isinstance(value, str):
        return value
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' missing values
        return ""
    if isinstance(value, Real) and value != value:  # NaN
        return ""
    raise InputError(
        f"article number {number}: its {field_name} is given as {type(value).__name__}; give a text, or None "
        "where there is none"
    )
