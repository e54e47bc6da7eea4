"""Figures and foreign names, written for a sentence."""

from __future__ import annotations

import re
import unicodedata

from newsie.confusion.intervals import Estimate

__all__ = ["count", "interval", "one_line", "percent"]

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, direction marks and lone surrogates."""
_ISOLATE, _END = "\u2068", "\u2069"


def count(number: int, noun: str) -> str:
    """Number and noun, as in "1 article" and "2,000 articles"; the plural takes an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """Return a share as in "12 %". Only 0 is written as 0 %, and only 1 as 100 %."""
    if 0 < share <= 0.005:
        return "less than 1 %"
    return "more than 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def interval(found: Estimate) -> str:
    """A share with its interval, as in "12 % [9, 16]" (all in %)."""
    return f"{percent(found.value)} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def one_line(name: str) -> str:
    """Return a foreign name (a label, a publisher, a file) as it can stand within a sentence.

    Line breaks become spaces. Control characters and direction marks are left out. A name in a script
    that is written from right to left is isolated (https://www.unicode.org/reports/tr9/), so that it
    does not reorder the sentence.
    """
    text = _HIDDEN.sub("", " ".join(name.split()))
    turns = any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text)
    return f"{_ISOLATE}{text}{_END}" if turns else text
