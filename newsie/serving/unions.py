"""Request fields that accept one of several forms.

The form is chosen from the value before validation. Only that form is validated, so that errors are about
the form that the client used, and cost no more than those of one form.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from newsie.serving.schemas import ArticleIn, Listed

__all__ = ["TAGS", "ArticleOrText", "TextLists", "TextOrTextLists", "TextOrTexts", "body_form"]

TEXT, TEXTS, LISTS, ARTICLE = "(text)", "(texts)", "(lists)", "(article)"
TAGS = frozenset({TEXT, TEXTS, LISTS, ARTICLE, "(own)", "(hub)"})
"""The names of the forms. pydantic includes them in the location of an error."""


def _form_of(value: object) -> str | None:
    """Return the form of a text or of texts, or None for anything else."""
    if isinstance(value, str):
        return TEXT
    if isinstance(value, list):
        return LISTS if value and isinstance(value[0], list) else TEXTS
    return None


def _form_of_list(value: object) -> str | None:
    return _form_of(value) if isinstance(value, list) else None


def _form_of_text_or_texts(value: object) -> str | None:
    form = _form_of(value)
    return TEXTS if form == LISTS else form


def _form_of_article(value: object) -> str | None:
    if isinstance(value, str):
        return TEXT
    return ARTICLE if isinstance(value, dict | ArticleIn) else None


def body_form(value: Any) -> str | None:
    """Return the form of a body at /invocations: Newsie's own, the hub's, or None for anything else."""
    if not isinstance(value, dict):
        return None
    if "articles" in value:
        return "(own)"
    return "(hub)" if "inputs" in value else None


_Text = Annotated[str, Tag(TEXT)]
_Texts = Annotated[Listed[str], Tag(TEXTS)]
_Lists = Annotated[
    Listed[Annotated[list[str], Field(min_length=1, max_length=1)]],
    Tag(LISTS),
]

TextOrTexts = Annotated[
    _Text | _Texts,
    Discriminator(
        _form_of_text_or_texts,
        custom_error_type="text_or_texts",
        custom_error_message="Input should be a text or a list of texts",
    ),
]
"""A text, or a list of texts."""

TextOrTextLists = Annotated[
    _Text | _Texts | _Lists,
    Discriminator(
        _form_of,
        custom_error_type="text_or_texts",
        custom_error_message="Input should be a text or a list of texts",
    ),
]
"""A text, a list of texts, or a list of lists of one text."""

TextLists = Annotated[
    _Texts | _Lists,
    Discriminator(
        _form_of_list,
        custom_error_type="texts",
        custom_error_message="Input should be a list of texts",
    ),
]
"""A list of texts, or a list of lists of one text."""

ArticleOrText = Annotated[
    _Text | Annotated[ArticleIn, Tag(ARTICLE)],
    Discriminator(
        _form_of_article,
        custom_error_type="article_or_text",
        custom_error_message="Input should be an article or a text",
    ),
]
"""An article, or its text."""
