"""A real browser for the tests of pages: Debian's chromium through playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["DESK", "PHONE", "open_browser", "open_page"]

DESK, PHONE = (1280, 900), (360, 740)
"""Width and height of windows, in CSS pixels."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser without a window; the test is skipped where none is installed."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright, of the extra dev"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser,
    address: str,
    *,
    size: tuple[int, int] = DESK,
    scheme: Literal["light", "dark"] = "light",
) -> Iterator[Page]:
    """A page that was loaded. At the end, whatever went wrong on it fails the test: an exception, an
    error on the console, a request to anywhere but its own server.

    Args:
        browser: see `open_browser`.
        address: file:// or http://.
        size: of the window.
        scheme: what the reader prefers.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=size == PHONE
    )
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(f"exception: {error}"))
    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)
    own = address.split("/", 3)[:3]
    page.on(
        "request",
        lambda r: (
            None
            if r.url.startswith(("data:", "blob:")) or r.url.split("/", 3)[:3] == own
            else wrong.append(f"request: {r.url}")
        ),
    )
    page.set_default_timeout(30_000)
    page.goto(address)
    try:
        yield page
    except Exception as error:
        error.add_note(f"on the page went wrong: {wrong}")
        raise
    finally:
        context.close()
    assert not wrong, wrong
