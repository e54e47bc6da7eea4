"""The shape of JSON, measured before it is parsed: its depth and its number of values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["JsonShape"]

BLOCK_BYTES = 65_536
"""The number of bytes that are scanned in one step. numpy releases the GIL between and during steps, so that
the event loop keeps running while a thread measures a large body."""

_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_OPEN, _CLOSE = b"{}"
_TO_BRACE = 0x20
"""The bit that maps the codes of [ and ] to those of { and }, and no other code to these."""

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


@dataclass
class JsonShape:
    """The brackets and commas outside of strings in JSON, counted in one pass.

    The time is linear in the number of bytes, whatever they are. If the bytes are not JSON, the counts are
    correct up to the first error, where a parser stops.

    Attributes:
        depth: maximum nesting of brackets.
        commas: number of commas.
    """

    depth: int = 0
    commas: int = 0
    _level: int = 0
    _in_string: bool = False
    _escaped: bool = False  # whether a backslash at the end of a block escapes the next byte

    @classmethod
    def of(cls, body: bytes, block_bytes: int = BLOCK_BYTES) -> JsonShape:
        """Measure a body in UTF-8."""
        shape, codes = cls(), np.frombuffer(body, dtype=np.uint8)
        for start in range(0, len(codes), block_bytes):
            shape._add(codes[start : start + block_bytes])
        return shape

    def _add(self, block: Bytes) -> None:
        outside = self._outside_strings(block)
        self.commas += int(np.count_nonzero((block == _COMMA) & outside))
        braces = block | _TO_BRACE
        steps = ((braces == _OPEN) & outside).view(np.int8)
        steps = steps - ((braces == _CLOSE) & outside).view(np.int8)
        levels = np.cumsum(steps[steps != 0], dtype=np.int64) + self._level
        if levels.size:
            self.depth = max(self.depth, int(levels.max()))
            self._level = int(levels[-1])

    def _outside_strings(self, block: Bytes) -> Flags:
        """Return a mask of the bytes outside of strings. A closing quote counts as outside."""
        quotes = block == _QUOTE
        escaped = self._escaped_places(block)
        quotes[escaped] = False
        inside: Flags = np.bitwise_xor.accumulate(quotes)
        if self._in_string:
            np.logical_not(inside, out=inside)
        self._in_string = bool(inside[-1])
        return ~inside

    def _escaped_places(self, block: Bytes) -> npt.NDArray[np.intp]:
        """Return the indexes of escaped bytes. Of a run of backslashes, every other one escapes."""
        places = np.flatnonzero(block == _BACKSLASH)
        first = np.zeros(1 if self._escaped else 0, dtype=np.intp)
        if self._escaped and places.size and places[0] == 0:
            places = places[1:]
        numbers = np.arange(places.size)
        starts = np.ones(places.size, dtype=bool)
        starts[1:] = np.diff(places) != 1
        run_starts = np.maximum.accumulate(np.where(starts, numbers, 0))
        escaped = places[(numbers - run_starts) % 2 == 0] + 1
        self._escaped = bool(escaped.size) and escaped[-1] == len(block)
        return np.concatenate([first, escaped[:-1] if self._escaped else escaped])
