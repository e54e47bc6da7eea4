"""Pictures of a report, for the docs: python -m tests.screenshots REPORT.html FOLDER [--without-texts]

Writes top.png, map.png, dark.png and phone.png. Without texts no article is seen on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser import DESK, PHONE, open_browser, open_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PICTURES = {
    "top": (DESK, "light", None),
    "map": ((1280, 1060), "light", ".block"),
    "dark": ((1280, 1060), "dark", ".block"),
    "phone": (PHONE, "light", ".map"),
}
"""Name -> window, scheme, and what is scrolled to."""

FORGET_TEXTS = "report.texts = {}; choose(report.tasks.indexOf(foremost))"


def take(browser: Browser, report: Path, folder: Path, *, without_texts: bool) -> list[Path]:
    """Take the pictures; their paths."""
    paths = []
    for name, (size, scheme, place) in PICTURES.items():
        with open_page(
            browser,
            report.resolve().as_uri(),
            size=size,
            scheme="dark" if scheme == "dark" else "light",
        ) as page:
            if without_texts:
                page.evaluate(FORGET_TEXTS)
            if place:
                page.locator(place).first.evaluate("element => element.scrollIntoView()")
            paths.append(folder / f"{name}.png")
            page.screenshot(path=paths[-1])
    return paths


def main() -> None:
    """Take the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--without-texts", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with open_browser() as browser:
        for path in take(
            browser, options.report, options.folder, without_texts=options.without_texts
        ):
            print(path)


if __name__ == "__main__":
    main()
