"""Which column of a file is the headline, which the body, and so on."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from newsie.errors import ReadError

__all__ = [
    "ALIASES",
    "Columns",
    "count_known",
    "find_alternatives",
    "find_column",
    "find_columns",
    "has_text_column",
]

ALIASES: Mapping[str, tuple[str, ...]] = {
    "headline": (
        *("headline", "title", "web_title", "headline_text", "news_headline", "article_title"),
        *("news_title", "headlines", "titel", "titre", "titulo", "título", "titolo", "überschrift"),
    ),
    "body": (
        # The whole text,
        *("body", "text", "content", "article", "maintext", "full_text", "article_body"),
        *("article_text", "article_content", "body_text", "news_article", "news_text", "story"),
        *("plaintext", "plain_text", "content_text", "content_encoded", "body_html"),
        *("content_html", "inhalt", "texte", "contenu", "texto", "contenido", "testo"),
        # its start, or a summary of it.
        *("description", "short_description", "summary", "abstract", "lead_paragraph", "lede"),
        *("lead", "teaser", "standfirst", "trail_text", "excerpt", "snippet", "vorspann"),
        *("highlights", "news"),
    ),
    "id": ("id", "article_id", "uid", "guid", "uuid", "news_id"),
    "publisher": (
        *("publisher", "source", "outlet", "site", "publication", "newspaper", "source_name"),
        *("site_name", "source_domain"),
    ),
    "published": (
        *("published", "date", "published_at", "publication_date", "pub_date", "published_date"),
        *("publish_date", "date_published", "publishing_date", "date_publish", "publish_time"),
        *("web_publication_date", "datetime", "date_time", "timestamp", "datum"),
    ),
    "url": ("url", "link", "web_url", "article_url", "news_url", "permalink"),
}
"""Names that each field of an article is found by, the best first. Case, spaces and the characters _ - : . /
do not count."""

SHOWN_NAMES, SHOWN_CHARS, SHOWN_ALIASES = 30, 60, 8
"""Columns, characters of each, and usual names that a message lists at most."""


@dataclass(frozen=True)
class Columns:
    """The column that each field of an article is read from; None where the file has none."""

    headline: str | None = None
    body: str | None = None
    id: str | None = None
    publisher: str | None = None
    published: str | None = None
    url: str | None = None

    def chosen(self) -> dict[str, str]:
        """Field -> column, for the fields that there are."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: column for name, column in pairs if column is not None}

    def describe(self) -> str:
        """One line to show: "headline <- 'Title', body <- 'text'"."""
        return ", ".join(f"{name} <- {column!r}" for name, column in self.chosen().items())


def find_columns(
    names: Sequence[str], overrides: Mapping[str, str] | None = None, *, path: str = "columns"
) -> Columns:
    """Choose the columns by name.

    Args:
        names: the columns of the file.
        overrides: field -> column, where the names do not tell.
        path: the file, for messages.

    Raises:
        ReadError: there is neither a headline nor a body, or an override names a field or a column
            that does not exist.
    """
    chosen: dict[str, str] = {}
    for name, column in (overrides or {}).items():
        if name not in ALIASES:
            raise ReadError(path, f"there is no field {name!r} to read; fields: {_list(ALIASES)}")
        chosen[name] = _find_override(names, name, column, path)
    taken = set(chosen.values())
    for name, aliases in ALIASES.items():
        if name not in chosen:
            found = (find_column(names, alias) for alias in aliases)
            free = [c for c in found if c is not None and c not in taken]
            if free:
                chosen[name] = free[0]
    if "headline" not in chosen and "body" not in chosen:
        raise ReadError(
            path,
            f"no column with text; the columns are: {_list(names)}; a headline is found under "
            f"{_few(ALIASES['headline'])}, a body under {_few(ALIASES['body'])}; or say which "
            "it is, e.g. --columns headline=NAME (in Python columns={'headline': 'NAME'})",
        )
    return Columns(**chosen)


def find_alternatives(
    names: Sequence[str], columns: Columns, fixed: Container[str] = ()
) -> dict[str, tuple[str, ...]]:
    """For each field, the further columns to read it from where the chosen one is empty, the best
    first.

    Args:
        names: the columns of the file.
        columns: the chosen ones.
        fixed: fields that are read from the chosen column only. So is an id: those of two columns
            would not fit together.
    """
    chosen = columns.chosen()
    free: dict[str, list[str]] = {}
    for name in names:
        if name not in chosen.values():
            free.setdefault(_plain(name), []).append(name)
    alternatives: dict[str, tuple[str, ...]] = {}
    for field in chosen:
        if field != "id" and field not in fixed:
            plain = dict.fromkeys(map(_plain, ALIASES[field]))
            alternatives[field] = tuple(name for alias in plain for name in free.get(alias, ()))
    return alternatives


def has_text_column(names: Iterable[str]) -> bool:
    """Whether a headline or a body is found among these names."""
    return any(_plain(name) in _TEXT_NAMES for name in names)


def count_known(names: Iterable[str]) -> int:
    """The number of names by which some field of an article is found."""
    return sum(_plain(name) in _KNOWN_NAMES for name in names)


def find_column(names: Sequence[str], name: str) -> str | None:
    """The column of that very name, or else of that name but for case, spaces and _ - : . /"""
    if name in names:
        return name
    plain = _plain(name)
    return next((column for column in names if plain and _plain(column) == plain), None)


def _find_override(names: Sequence[str], name: str, column: str, path: str) -> str:
    found = find_column(names, column)
    if found is None:
        close = difflib.get_close_matches(column, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ReadError(
            path, f"no column {column!r} for the {name}; the columns are: {_list(names)}{hint}"
        )
    return found


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in _IGNORED)


def _list(names: Sequence[str] | Mapping[str, object]) -> str:
    shown = [n if len(n) <= SHOWN_CHARS else f"{n[:SHOWN_CHARS]}..." for n in names]
    more = len(shown) - SHOWN_NAMES
    return (
        ", ".join([*shown[:SHOWN_NAMES], *([f"and {more:,} more"] if more > 0 else [])]) or "none"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN_ALIASES], "..."])


_IGNORED = frozenset(" _-:./")
_KNOWN_NAMES = frozenset(_plain(alias) for aliases in ALIASES.values() for alias in aliases)
_TEXT_NAMES = frozenset(_plain(a) for field in ("headline", "body") for a in ALIASES[field])
