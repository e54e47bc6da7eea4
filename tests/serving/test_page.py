from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from newsie.serving.page import content_security_policy, page_html

ROOT = Path(__file__).parents[2]


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


ELEMENTS = Elements(page_html()).found


def constant(name: str) -> Any:
    """The value of a constant of the script that is written as JSON."""
    (text,) = re.findall(rf"^const {name} = (.*?);$", page_html(), re.DOTALL | re.MULTILINE)
    return json.loads(text)


def test_nothing_comes_from_elsewhere() -> None:
    for _, attributes in ELEMENTS:
        for name in ("src", "href", "action", "srcset", "data"):
            target = attributes.get(name, "")
            assert not re.match(r"[a-z]+://|//", target), target
    assert not re.search(r"@import|url\(", page_html())


def test_nothing_needs_a_looser_policy() -> None:
    for tag, attributes in ELEMENTS:
        assert not {name for name in attributes if name.startswith("on")}, tag
        assert "style" not in attributes, tag
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in page_html()


def test_nothing_is_kept() -> None:
    for word in ("localStorage", "sessionStorage", "indexedDB", "document.cookie"):
        assert word not in page_html()


def test_the_policy_names_the_script_and_the_style_and_nothing_else() -> None:
    rules = dict(rule.split(" ", 1) for rule in content_security_policy().split("; "))
    for tag in ("script", "style"):
        start, end = f"<{tag}>", f"</{tag}>"
        assert page_html().count(start) == page_html().count(end) == 1
        content = page_html().split(start)[1].split(end)[0].encode()
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in content_security_policy()


def test_examples_are_the_projects_own() -> None:
    lines = (ROOT / "data/sample/articles.jsonl").read_text("utf-8").splitlines()
    own = {(row["headline"], row["body"]) for row in map(json.loads, lines)}
    examples = constant("EXAMPLES")
    assert len(examples) >= 5
    assert {(example["headline"], example["body"]) for example in examples} <= own


def test_every_field_has_a_label() -> None:
    labelled = {attributes["for"] for tag, attributes in ELEMENTS if tag == "label"}
    fields = {a["id"] for tag, a in ELEMENTS if tag in ("input", "textarea", "select")}
    assert fields == labelled
    identifiers = [attributes["id"] for _, attributes in ELEMENTS if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in ELEMENTS:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, identifiers[0]) in identifiers


def test_answers_are_announced() -> None:
    live = {a["id"] for _, a in ELEMENTS if a.get("aria-live") == "polite"}
    assert live == {"status", "explain-status", "batch-status"}


def colours(theme: str) -> dict[str, str]:
    """The variables of a theme that are colours: name -> "#rrggbb"."""
    light, dark = re.findall(r":root \{(.*?)\}", page_html(), re.DOTALL)
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", light if theme == "light" else dark))
    return {
        name: value if len(value) == 7 else "#" + "".join(2 * digit for digit in value[1:])
        for name, value in found.items()
    }


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_contrast_of_black_and_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read(theme: str) -> None:
    found = colours(theme)
    for ground in ("paper", "sheet", "wash"):
        for text in ("ink", "soft", "accent"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
        assert contrast(found["bar"], found[ground]) >= 3, ground
    assert contrast(found["on-accent"], found["accent"]) >= 4.5
