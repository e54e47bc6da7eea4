"""Extracting the words of a URL, which are known before the article is opened."""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["url_words"]

FEWEST_WORDS = 3
"""The fewest words of the part that names the article. A part with fewer is taken for a folder."""

HOST = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
ENDING = re.compile(r"\.[A-Za-z]{2,5}$")  # .html, .cms
BETWEEN = re.compile(r"[\s\-_+.,:]+")


def url_words(url: str) -> str:
    """Return the words of the part of a URL that names the article, or "" if no part does.

    "https://a.example/sport/man-wins-cup-at-last-123.html" -> "man wins cup at last". The folders before
    it ("sport", "world-news") are left out, because they often are the publisher's own section and so give
    the label away. Numbers, dates and keys are left out as well.
    """
    path = re.split(r"[?#]", HOST.sub("", url))[0]
    parts = [BETWEEN.split(ENDING.sub("", unquote(part))) for part in path.split("/")]
    words = [[word for word in part if word.isalpha()] for part in parts]
    longest = max(words, key=len)
    return " ".join(longest) if len(longest) >= FEWEST_WORDS else ""
