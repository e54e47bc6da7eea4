"""Parsing publication dates in the formats that files and feeds use."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

__all__ = ["read_date"]

MAX_CHARACTERS = 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS = re.compile(r"([+-]?)([0-9]{8,19})(?:\.[0-9]{1,9})?")
_COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""The formats of all-digit dates, by number of digits. GDELT writes the last one."""

_UNITS = {9: 1, 10: 1, 11: 1e3, 12: 1e3, 13: 1e3, 15: 1e6, 16: 1e6, 18: 1e9, 19: 1e9}
"""The units per second of a Unix time, by its number of digits: seconds, milliseconds (pandas'
`to_json`), microseconds, nanoseconds."""


def read_date(text: str | None) -> datetime | None:
    """Parse a date, in UTC if it names no zone. Return None if the text is not a date.

    The formats are ISO 8601, the dates of RSS and mail (RFC 822: "Tue, 10 Jan 2017 08:00:00 GMT"), dates
    of 8, 12 or 14 digits (20170110083000), and seconds, milliseconds, microseconds or nanoseconds since
    1970.
    """
    text = (text or "").strip()
    if not text or len(text) > MAX_CHARACTERS:
        return None
    digits = _DIGITS.fullmatch(text)
    try:
        if digits:
            return _from_digits(digits[1], digits[2])
        moment = _from_iso(text) or parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _from_digits(sign: str, digits: str) -> datetime | None:
    if len(digits) in _COMPACT and not sign and digits[:2] in ("19", "20"):
        try:
            return datetime.strptime(digits, _COMPACT[len(digits)]).replace(tzinfo=UTC)
        except ValueError:  # 12 digits may also be milliseconds
            pass
    if len(digits) not in _UNITS:
        return None
    return _EPOCH + timedelta(seconds=int(sign + digits) / _UNITS[len(digits)])
