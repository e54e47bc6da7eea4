"""Text that is safe to print: control characters are shown as escapes, and so not obeyed by a terminal."""

from __future__ import annotations

import re

__all__ = ["CONTROL", "one_line", "printable"]

CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufdd0-\ufdef]"
)
"""The characters that a terminal may obey or show as something else.

C0 but the line feed, DEL, C1; marks and overrides of direction; line and paragraph separators; surrogates
(bytes of a file name that are not UTF-8); noncharacters, which `newsie.cli` uses for styles.
"""


def printable(text: str) -> str:
    r"""Return the text with each control character but the line feed as an escape such as `\x1b`."""
    return CONTROL.sub(_escape, text)


def one_line(text: str) -> str:
    r"""Return the text as `printable` does, with line feeds as `\n` too."""
    return printable(text).replace("\n", r"\n")


def _escape(match: re.Match[str]) -> str:
    if match[0] == "\t":
        return r"\t"
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that could not be decoded
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
