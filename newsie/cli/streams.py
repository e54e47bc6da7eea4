"""The standard streams of a command.

A command prints text from outside: headlines, labels, column and file names, messages of libraries. `Screen`
stands between this text and the terminal: it shows control characters as escapes, and replaces signs that the
encoding of the output lacks by plainer ones. Our own styles pass it as noncharacters, which it turns into
control sequences; outside text can at most be bold.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from newsie.printable import printable

__all__ = ["CLEAR_LINE", "MARKS", "Screen", "standard_streams"]

MARKS = {
    code: chr(0xFDD0 + number)
    for number, code in enumerate(
        ("0", "1", "2", "33", "36", "1;33", "1;36", "7;1;33", "7;1;36"), start=1
    )
}
"""Code of a style -> the noncharacter that stands for it until printing."""

CLEAR_LINE = "\ufdd0"
"""The noncharacter for the sequence that clears the line of a terminal."""

_SEQUENCES = {mark: f"\x1b[{code}m" for code, mark in MARKS.items()} | {CLEAR_LINE: "\r\x1b[K"}
_MARK = re.compile("([\ufdd0-\ufdef])")

PLAIN = {
    **dict.fromkeys("█▉▊▋▌", "#"),
    **dict.fromkeys("▍▎▏", ""),
    **dict.fromkeys("·•", "*"),
    **dict.fromkeys("–—", "-"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    "→": "->",
    "←": "<-",
    "…": "...",
    "✗": "x",
    "✓": "v",
    "×": "x",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "−": "-",
    "\u00a0": " ",
    "\u202f": " ",
}
"""The signs of our own tables and sentences, with replacements if the encoding lacks them."""

PLAINER = "newsie.plainer"


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    if character in PLAIN:
        return PLAIN[character]
    parts = unicodedata.normalize("NFKD", character)
    letters = "".join(part for part in parts if not unicodedata.combining(part))
    if letters.isascii() and (letters or unicodedata.combining(character)):
        return letters
    return character.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(PLAINER, _plainer)


class Screen:
    """A text stream in front of another one that prints no control character of outside text.

    Attributes:
        rich_proxied_file: the other stream, which Rich writes to, because its output is control sequences.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(
            "".join(_SEQUENCES.get(part) or printable(part) for part in _MARK.split(text))
            if _MARK.search(text)
            else printable(text)
        )
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


class _ClosedOutput:
    """A replacement for a standard output that was closed before the command started."""

    encoding, errors = "utf-8", PLAINER

    @property
    def buffer(self) -> _ClosedOutput:
        return self

    def write(self, _data: object) -> int:
        raise OSError(errno.EBADF, "standard output is closed; send it to a file, or to /dev/null")

    def flush(self) -> None:
        """Do nothing, because nothing is buffered."""

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return 1


@contextmanager
def standard_streams() -> Iterator[None]:
    """Put a `Screen` before standard output and standard error, and replace closed standard streams.

    A closed standard input is empty. Writing to a closed standard output is an error, and what is written to
    a closed standard error is lost.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _occupy_descriptors()
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    output = sys.stdout or cast(TextIO, _ClosedOutput())
    error = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    errors = [(stream, stream.errors) for stream in (output, error)]
    for stream, _ in errors:
        _reconfigure(stream, PLAINER)
    sys.stdout, sys.stderr = cast(TextIO, Screen(output)), cast(TextIO, Screen(error))
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        for stream, handler in errors:
            _reconfigure(stream, handler)


def _reconfigure(stream: TextIO, errors: str | None) -> None:
    """Set the error handler of a stream, if it has one."""
    if (reconfigure := getattr(stream, "reconfigure", None)) and not stream.closed:
        reconfigure(errors=errors)


def _occupy_descriptors() -> None:
    """Open the null device under each standard descriptor that is closed.

    Otherwise the next opened file would get its number, and what a library writes to standard error would end
    up in that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
