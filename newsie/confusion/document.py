"""Conversion of dataclasses and arrays to plain JSON values, as in confusion.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

__all__ = ["as_json"]

_DIGITS = 6


def as_json(value: Any) -> Any:
    """Return plain JSON values: floats to 6 digits, and null for numbers that are not finite.

    A field with `repr=False` is left out.
    """
    if is_dataclass(value):
        return {f.name: as_json(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
