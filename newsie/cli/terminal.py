"""Terminal output: tables on stdout, progress and notes on stderr."""

from __future__ import annotations

import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO, TypeVar

from newsie.cli.streams import CLEAR_LINE, MARKS
from newsie.printable import one_line, printable

__all__ = ["Style", "bar", "counted", "note", "one_line", "print_json", "shorten", "width_of"]

T = TypeVar("T")
EIGHTHS = " ▏▎▍▌▋▊▉█"
UPDATE_SECONDS = 0.2
LINE_SECONDS = 60.0
WEIGHTS = (0.6, 0.25, 0.08)
"""The least weights at which a word is shown in reverse, in bold, and in colour."""


class Style:
    """Bold, dim and coloured text, if the stream is a terminal that supports it."""

    def __init__(self, stream: TextIO) -> None:
        self.terminal = stream.isatty()
        self.width = min(shutil.get_terminal_size((100, 24)).columns, 120)
        colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._enabled = self.terminal and colour

    def bold(self, text: str) -> str:
        return self._wrap("1", text)

    def dim(self, text: str) -> str:
        return self._wrap("2", text)

    def accent(self, text: str) -> str:
        return self._wrap("36", text)

    def weigh(self, text: str, weight: float) -> str:
        """Colour a text that speaks for something (weight up to 1, cyan) or against it (down to -1, yellow).

        A greater weight is more conspicuous.
        """
        level = next((i for i, least in enumerate(WEIGHTS) if abs(weight) >= least), None)
        if level is None:
            return text
        return self._wrap(("7;1;", "1;", "")[level] + ("36" if weight > 0 else "33"), text)

    @property
    def coloured(self) -> bool:
        """True if styles are shown."""
        return self._enabled

    def _wrap(self, code: str, text: str) -> str:
        return f"{MARKS[code]}{text}{MARKS['0']}" if self._enabled and text else text


def bar(share: float, width: int) -> str:
    """Return a bar of up to `width` characters, in steps of an eighth."""
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def width_of(text: str) -> int:
    """Return the number of columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def shorten(text: str, width: int) -> str:
    """Return the text, or as much of it as fits, with an ellipsis."""
    if width_of(text) <= width:
        return text
    kept, used = [], 1
    for character in text:
        used += width_of(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def note(text: str) -> None:
    """Print a note on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a value as a line of JSON, in UTF-8 whatever the encoding of stdout."""
    from newsie.data.writers import json_line, open_stdout

    open_stdout().write(json_line(value))


def counted(
    items: Iterable[T], what: str, share: Callable[[], float | None] = lambda: None
) -> Iterator[T]:
    """Yield the same items while showing their number, the speed and the time left on stderr.

    The line is updated five times a second on a terminal, and once a minute in a log.

    Args:
        items: the items.
        what: the plural noun for the items.
        share: returns the share of the work that is done, from 0 to 1, or None if unknown.
    """
    terminal = sys.stderr.isatty()
    every = UPDATE_SECONDS if terminal else LINE_SECONDS
    started = shown = time.monotonic()
    first = share() or 0.0
    try:
        for count, item in enumerate(items, 1):
            if count == 1:  # work done before this run began does not count
                started, first = time.monotonic(), share() or 0.0
            yield item
            if (now := time.monotonic()) - shown > every:
                shown = now
                line = _progress(count, what, now - started, first, share())
                _show_progress(line) if terminal else note(line)
    finally:
        if terminal:
            _show_progress("")


def _show_progress(line: str) -> None:
    """Replace the last line on a terminal."""
    print(f"{CLEAR_LINE}{printable(line)}", end="", file=sys.stderr, flush=True)


def _progress(count: int, what: str, seconds: float, first: float, share: float | None) -> str:
    """Return a line such as "12,000 articles, 4,000/s, 38 %, 5 min left"."""
    line = f"{count:,} {what}, {count / max(seconds, 1e-9):,.0f}/s"
    if share is None:
        return line
    line += f", {100 * share:.0f} %"
    if share > first:
        line += f", {_duration(seconds * (1 - share) / (share - first))} left"
    return line


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
