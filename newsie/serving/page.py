"""The page for people: one HTML file with its style and script, and nothing from elsewhere."""

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
    """The page, as it is sent."""
    return _PAGE.read_text(encoding="utf-8")


@cache
def content_security_policy() -> str:
    """The value of the header Content-Security-Policy to send with the page.

    It allows the one style and the one script by their sha256 (https://www.w3.org/TR/CSP3/),
    questions to the server that sent the page, the icon, and nothing else.
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
    """The hash source of the only element of that tag: of the text between its tags."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page_html(), re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
