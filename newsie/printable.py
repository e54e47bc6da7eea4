"""Text that is safe to print. Control characters are shown as escapes, so that a terminal does not obey them."""

from __future__ import annotations

import re

__all__ = ["one_line", "printable"]

# C0 but tab and line feed, DEL, C1; marks and overrides of direction; line and paragraph separators;
# surrogates (bytes of a file name that are not UTF-8); noncharacters, which `newsie.cli` uses for styles.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufdd0-\ufdef]"
)
_BREAK = re.compile("[\t\n]")
_BREAKS = {"\t": r"\t", "\n": r"\n"}


def printable(text: str) -> str:
    r"""Return the text with each control character as an escape such as `\x1b`. Tabs and line feeds stay."""
    return _CONTROL.sub(_escape, text)


def one_line(text: str) -> str:
    r"""Return the text as `printable` does, with tabs and line feeds as `\t` and `\n` too."""
    return _BREAK.sub(lambda match: _BREAKS[match[0]], printable(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that could not be decoded
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
