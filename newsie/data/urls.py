"""The words of an address: what is known of an article that nobody has opened yet."""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["url_words"]

FEWEST_WORDS = 3
"""Of the part that names the article; what has fewer is taken for a folder."""

HOST = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
ENDING = re.compile(r"\.[A-Za-z]{2,5}$")  # .html, .cms
BETWEEN = re.compile(r"[\s\-_+.,:]+")


def url_words(url: str) -> str:
    """The words of the part of an address that names the article; empty where none does.

    "https://a.example/sport/man-wins-cup-at-last-123.html" -> "man wins cup at last". The folders before
    it ("sport", "world-news") are left out: they often are the publisher's own section, so that who reads
    them reads the answer. So is what is no word: numbers, dates, keys.
    """
    path = re.split(r"[?#]", HOST.sub("", url))[0]
    parts = [BETWEEN.split(ENDING.sub("", unquote(part))) for part in path.split("/")]
    words = [[word for word in part if word.isalpha()] for part in parts]
    longest = max(words, key=len)
    return " ".join(longest) if len(longest) >= FEWEST_WORDS else ""
