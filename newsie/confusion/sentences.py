"""Figures as sentences have them."""

from __future__ import annotations

from newsie.confusion.intervals import Estimate

__all__ = ["count", "interval", "percent"]


def count(number: int, noun: str) -> str:
    """Number and noun, as in "1 article" and "2,000 articles"; the plural takes an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """As in "12 %"; a share that is not 0 is never told as 0 %."""
    return f"{100 * share:.0f} %" if share >= 0.005 or not share else "less than 1 %"


def interval(found: Estimate) -> str:
    """A share with its interval, as in "12 % [9, 16]" (all in %)."""
    return f"{percent(found.value)} [{100 * found.low:.0f}, {100 * found.high:.0f}]"
