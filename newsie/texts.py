"""Texts for people: checks of the names that they see, and numbers with their noun."""

from __future__ import annotations

import unicodedata

from newsie.printable import CONTROL

__all__ = ["name_fault", "plural"]

_NOT_VISIBLE = ("Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp")
"""Unicode categories of characters that are invisible on their own: controls, joiners, marks and blanks."""
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that are blank: Hangul fillers and the empty Braille pattern."""


def name_fault(value: object, max_characters: int) -> str | None:
    """Return the reason why a value is not a valid name, or None if it is valid.

    A valid name is a string on one line that has a visible character, that UTF-8 can encode, and that neither
    moves a terminal's cursor nor changes the direction of the text after it.
    """
    if not isinstance(value, str):
        return f"{value!r:.80} is no text"
    if not value.strip():
        return f"{value!r:.80} is empty"
    if len(value) > max_characters:
        return f"{value[:40]!r}... has {len(value):,} characters, more than {max_characters:,}"
    if not value.isprintable():  # a fast check that nearly every name passes
        found = CONTROL.search(value.replace("\n", "\v"))
        if found is not None:
            character = value[found.start()]
            return (
                f"{value!r:.80} holds the character {character!r}, which cannot be shown or written"
            )
    if not any(map(_is_visible, value)):
        return f"{value!a:.80} has no visible character"
    return None


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in _NOT_VISIBLE and character not in _FILLERS


def plural(count: int, one: str, many: str) -> str:
    """Return a number with its noun: "1 article", "2,000 articles"."""
    return f"{count:,} {one if count == 1 else many}"
