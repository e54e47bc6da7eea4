"""The web page: one HTML file with its style and script. It loads nothing from other hosts."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

__all__ = ["content_security_policy", "page_html"]

_PAGE = Path(__file__).with_name("page.html")


@cache
def page_html() -> str:
    """Return the HTML of the page."""
    return _PAGE.read_text(encoding="utf-8")


@cache
def content_security_policy() -> str:
    """Return the value of the header Content-Security-Policy to send with the page.

    It allows the style and the script by their sha256 (https://www.w3.org/TR/CSP3/), requests to the server
    that sent the page, the icon, and nothing else.
    """
    rules = {
        "default-src": "'none'",
        "script-src": _sha256("script"),
        "style-src": _sha256("style"),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _sha256(tag: str) -> str:
    """Return the hash source for the content of the only element with this tag."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page_html(), re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
