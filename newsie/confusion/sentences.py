"""Formatting of numbers for sentences."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

from newsie.metrics.estimates import Estimate

__all__ = ["count", "decimal", "interval", "percent"]


def count(number: int, noun: str) -> str:
    """Return a number and its noun, as in "1 article" and "2,000 articles"; the plural takes an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """Return a share as in "12 %". Only 0 is written as 0 %, and only 1 as 100 %."""
    if 0 < share <= 0.005:
        return "less than 1 %"
    return "more than 99 %" if 0.995 <= share < 1 else f"{_whole(100 * share)} %"


def interval(found: Estimate) -> str:
    """Return a share with its interval, as in "12 % [9, 16]" (all in %)."""
    return f"{percent(found.value)} [{_whole(100 * found.low)}, {_whole(100 * found.high)}]"


def decimal(value: float, digits: int, *, sign: bool = False) -> str:
    """Return a number with a fixed count of digits, halves rounded up as `toFixed` does on the page."""
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded:+}" if sign else f"{rounded}"


def _whole(value: float) -> int:
    """Return the nearest whole number, halves rounded up as `Math.round` does on the page."""
    return math.floor(value + 0.5)
