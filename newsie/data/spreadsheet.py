"""Protection of CSV cells that a spreadsheet would run as a formula.

A spreadsheet runs a cell that begins with =, +, - or @, even after blanks and quotation marks, and anybody
can write a headline. CSV files are therefore written as OWASP recommends: an apostrophe before such a cell
makes it text. A byte order mark at the start of the file lets Excel show accents, and tells `newsie.data`
to remove the apostrophes when it reads the file.
"""

from __future__ import annotations

import re

__all__ = ["BYTE_ORDER_MARK", "protect", "unprotect"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Excel also runs the full-width forms of the signs in some languages.
_FORMULA = re.compile(r"""[\s'"]*[=+\-@＝＋－＠]|'*[\t\r\n]""")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?\s*%?")


def protect(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs. Numbers stay as they are."""
    return f"'{text}" if _runs(text) else text


def unprotect(cell: str) -> str:
    """Return the text from which `protect` made a cell."""
    return cell[1:] if cell.startswith("'") and _runs(cell[1:]) else cell


def _runs(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
