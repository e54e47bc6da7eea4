"""Text that is safe to print: control characters become escapes, so that a terminal does not obey them."""

from __future__ import annotations

import re

__all__ = ["CONTROL", "one_line", "printable"]

CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufdd0-\ufdef]"
)
"""The characters that a terminal may obey or display as something else.

These are C0 except the line feed, DEL and C1; marks and overrides of direction; line and paragraph
separators; surrogates (bytes of a file name that are not UTF-8); noncharacters, which `newsie.cli`
uses for styles.
"""


def printable(text: str) -> str:
    r"""Return the text with each control character, except the line feed, as an escape such as `\x1b`."""
    return CONTROL.sub(_escape, text)


def one_line(text: str) -> str:
    r"""Return the printable text on one line: line feeds become `\n` too."""
    return printable(text).replace("\n", r"\n")


def _escape(match: re.Match[str]) -> str:
    if match[0] == "\t":
        return r"\t"
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that could not be decoded
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
