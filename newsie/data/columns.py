"""Which column of a file is the headline, which the body, and so on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from newsie.errors import ReadError

__all__ = ["ALIASES", "Columns", "find_column", "find_columns"]

ALIASES: Mapping[str, tuple[str, ...]] = {
    "headline": ("headline", "title"),
    "body": (
        "body",
        "text",
        "content",
        "article",
        "description",
        "short_description",
        "abstract",
        "lede",
        "snippet",
    ),
    "id": ("id", "article_id", "uid", "guid"),
    "publisher": ("publisher", "source", "outlet", "site"),
    "published": ("published", "date", "published_at", "publication_date", "pub_date"),
    "url": ("url", "link", "web_url"),
}
"""Names that each field of an article is found by, the best first. Case, spaces, underscores and
hyphens do not count."""


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
            f"{_list(ALIASES['headline'])}, a body under {_list(ALIASES['body'])}; or say which "
            "it is, e.g. --columns headline=NAME (in Python columns={'headline': 'NAME'})",
        )
    return Columns(**chosen)


def find_column(names: Sequence[str], name: str) -> str | None:
    """The column of that very name, or else of that name but for case, spaces, "_" and "-"."""
    if name in names:
        return name
    wanted = _plain(name)
    return next((column for column in names if _plain(column) == wanted), None)


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
    return "".join(c for c in name.casefold() if c not in " _-")


def _list(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(names) if names else "none"
