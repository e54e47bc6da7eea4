"""Names that are shown to people and written to files: labels, names of models, dates."""

from __future__ import annotations

import unicodedata

__all__ = ["name_fault"]

_NOT_PRINTED = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, halves of a surrogate pair, line and paragraph separators."""


def name_fault(value: object, max_characters: int) -> str | None:
    """Return what keeps a value from being a name, or None if nothing does.

    A name is a text that is not blank, that UTF-8 can encode, that stands on one line, and that moves no
    terminal's cursor.
    """
    if not isinstance(value, str):
        return f"{value!r:.80} is no text"
    if not value.strip():
        return f"{value!r:.80} is empty"
    if len(value) > max_characters:
        return f"{value[:40]!r}... has {len(value):,} characters, more than {max_characters:,}"
    if not value.isprintable():  # quick, and true of nearly all
        for character in value:
            if unicodedata.category(character) in _NOT_PRINTED:
                return f"{value!r:.80} holds the character {character!r}, which cannot be shown or written"
    return None
