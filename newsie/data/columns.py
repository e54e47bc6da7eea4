"""Choosing the columns of a file that hold the headline, the body and so on."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import overload

from newsie.errors import ReadError

__all__ = [
    "ALIASES",
    "MAX_COLUMNS",
    "Columns",
    "Names",
    "check_width",
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
        *("titles", "titres", "titulos", "titoli", "überschriften", "schlagzeile"),
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
        *("highlights", "news", "texts", "summaries", "descriptions", "abstracts"),
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
"""The usual column names of each field of an article, best first. Case, accents, spaces and the characters
_ - : . / are ignored."""

MAX_COLUMNS = 2_000
"""The most columns that a source may have."""
MAX_ALTERNATIVES = 50
"""The most alternative columns to try if the best column of a field is empty."""

SHOWN_NAMES, SHOWN_CHARS, SHOWN_ALIASES = 30, 60, 8
"""The most columns, characters of each name, and usual names that a message lists."""
TEXT_WORDS = 4
"""The fewest words of a column name that is taken for text, if no column has a usual name."""
CLOSE = 0.75
"""The lowest similarity to a usual name at which a message lists a name first (see difflib)."""


class Names(Sequence[str]):
    """Column names in order, indexed by their plain spelling."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: dict[str, None] = {}
        self._spelled: dict[str, list[str]] = {}
        self.add(names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return list(self._names)[index]

    def add(self, names: Iterable[str]) -> None:
        """Append the names that are new."""
        for name in names:
            if name not in self._names:
                self._names[name] = None
                self._spelled.setdefault(_plain(name), []).append(name)

    def cover(self, row: Mapping[str, object]) -> bool:
        """Return True if all columns of a row are among the names."""
        return row.keys() <= self._names.keys()

    def spelled(self, plain: str) -> Sequence[str]:
        """Return the names with a plain spelling."""
        return self._spelled.get(plain, ())


@dataclass(frozen=True)
class Columns:
    """The column that each field of an article is read from, or None if the file has none."""

    headline: str | None = None
    body: str | None = None
    id: str | None = None
    publisher: str | None = None
    published: str | None = None
    url: str | None = None

    def chosen(self) -> dict[str, str]:
        """Return field -> column, for the fields that have one."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: column for name, column in pairs if column is not None}

    def describe(self) -> str:
        """Return one line such as "headline <- 'Title', body <- 'text'"."""
        return ", ".join(f"{name} <- {column!r}" for name, column in self.chosen().items())


def find_columns(
    names: Sequence[str], overrides: Mapping[str, str] | None = None, *, path: str = "columns"
) -> Columns:
    """Choose the columns by name.

    Args:
        names: the columns of the file.
        overrides: field -> column, which takes precedence over the usual names.
        path: the file, for messages.

    Raises:
        ReadError: there is neither a headline nor a body, or an override names a field or a column
            that does not exist.
    """
    check_width(names, path)
    names = names if isinstance(names, Names) else Names(names)
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
        raise _no_text(names, path)
    return Columns(**chosen)


def check_width(names: Sequence[str], path: str) -> None:
    """Raise an error if a source has more than `MAX_COLUMNS` columns.

    Raises:
        ReadError: there are more.
    """
    if len(names) > MAX_COLUMNS:
        raise ReadError(
            path,
            f"has {len(names):,} columns, and at most {MAX_COLUMNS:,} are read; the first line of a "
            "table, or each object of JSON, names the columns: check that it does, or leave columns out",
        )


def find_alternatives(
    names: Sequence[str], columns: Columns, fixed: Container[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the columns to read each field from if the chosen one is empty, best first, at most
    `MAX_ALTERNATIVES`.

    Args:
        names: the columns of the file.
        columns: the chosen ones.
        fixed: fields to read from the chosen column only. Ids always are, because those of two
            columns do not mix.
    """
    names = names if isinstance(names, Names) else Names(names)
    chosen = columns.chosen()
    taken = set(chosen.values())
    alternatives: dict[str, tuple[str, ...]] = {}
    for field in chosen:
        if field != "id" and field not in fixed:
            usual = (name for alias in _PLAIN_ALIASES[field] for name in names.spelled(alias))
            free = (name for name in usual if name not in taken)
            alternatives[field] = tuple(islice(free, MAX_ALTERNATIVES))
    return alternatives


def has_text_column(names: Iterable[str]) -> bool:
    """Return True if one of the names is a usual one for a headline or a body."""
    return any(_plain(name) in _TEXT_NAMES for name in names)


def count_known(names: Iterable[str]) -> int:
    """Return the number of names that are usual ones for a field of an article."""
    return sum(_plain(name) in _KNOWN_NAMES for name in names)


def find_column(names: Sequence[str], name: str) -> str | None:
    """Return the column with a name, or else with that name up to case, accents, spaces and _ - : . /"""
    if name in names:
        return name
    plain = _plain(name)
    if isinstance(names, Names):
        return next(iter(names.spelled(plain)), None) if plain else None
    return next((column for column in names if plain and _plain(column) == plain), None)


def _no_text(names: Sequence[str], path: str) -> ReadError:
    """Return the error for columns without a headline or a body."""
    text = next((name for name in names if len(name.split()) >= TEXT_WORDS), None)
    if text is not None:
        return ReadError(
            path,
            f"no column with text: {_short(text)!r} is the name of a column here, and looks like the "
            "text of an article; the header seems to be missing. Write a first line that names the "
            "columns, e.g. headline,body, or save a list of headlines as .txt, a headline a line",
        )
    close = [name for name in names if _is_close(name)]
    return ReadError(
        path,
        f"no column with text; the columns are: {_list(names, close)}; a headline is found under "
        f"{_few(ALIASES['headline'])}, a body under {_few(ALIASES['body'])}; or say which "
        f"it is, e.g. --columns headline={close[0] if close else 'NAME'} (in Python "
        f"columns={{'headline': {close[0] if close else 'NAME'!r}}})",
    )


def _is_close(name: str) -> bool:
    """Return True if a name is similar to a usual one for a headline or a body."""
    return len(name) <= SHOWN_CHARS and bool(
        difflib.get_close_matches(_plain(name), _TEXT_NAMES, n=1, cutoff=CLOSE)
    )


def _find_override(names: Sequence[str], name: str, column: str, path: str) -> str:
    found = find_column(names, column)
    if found is None:
        short = [name for name in names if len(name) <= SHOWN_CHARS]
        close = difflib.get_close_matches(column, short, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ReadError(
            path,
            f"no column {column!r} for the {name}; the columns are: {_list(names, close)}{hint}",
        )
    return found


def _plain(name: str) -> str:
    if not name.isascii():
        name = unicodedata.normalize("NFKD", name)
    return name.casefold().translate(_IGNORED)


def _short(name: str) -> str:
    return name if len(name) <= SHOWN_CHARS else f"{name[:SHOWN_CHARS]}..."


def _list(names: Sequence[str] | Mapping[str, object], first: Sequence[str] = ()) -> str:
    """Return the names to show in a message, starting with those in `first`."""
    shown = [_short(name) for name in dict.fromkeys((*first, *names))]
    more = len(shown) - SHOWN_NAMES
    return (
        ", ".join([*shown[:SHOWN_NAMES], *([f"and {more:,} more"] if more > 0 else [])]) or "none"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN_ALIASES], "..."])


_IGNORED = dict.fromkeys([*map(ord, " _-:./"), *range(0x300, 0x370)])
"""The characters that are ignored, combining accents included."""
_PLAIN_ALIASES = {
    field: tuple(dict.fromkeys(map(_plain, aliases))) for field, aliases in ALIASES.items()
}
_KNOWN_NAMES = frozenset(alias for aliases in _PLAIN_ALIASES.values() for alias in aliases)
_TEXT_NAMES = frozenset((*_PLAIN_ALIASES["headline"], *_PLAIN_ALIASES["body"]))
