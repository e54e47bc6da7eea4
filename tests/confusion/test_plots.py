from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from newsie import extras
from newsie.confusion.analysis import analyse
from newsie.confusion.plots import draw_figures, missing_characters
from newsie.errors import MissingExtraError


def draw(directory: Path, labels: int, articles: int = 300, *, gold: bool = True) -> set[str]:
    random = np.random.default_rng(0)
    p = random.dirichlet(np.full(labels, 0.3), articles)
    names = [f"label {i}" for i in range(labels)]
    found = analyse(names, p, random.integers(0, labels, articles) if gold else None)
    files = draw_figures("section", found, directory)
    assert all(path.is_file() for path in files)
    return {path.name for path in files}


@pytest.mark.parametrize("labels", [3, 14, 70])
def test_every_figure_as_png_and_svg(labels: int, tmp_path: Path) -> None:
    files = draw(tmp_path, labels)
    names = ("confusion", "coverage", "labels", "reliability")
    assert files == {f"section-{name}.{kind}" for name in names for kind in ("png", "svg")}
    for path in tmp_path.glob("*.png"):
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert 600 < width < 3_000
        assert 400 < height < 3_000
    for path in tmp_path.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_without_gold_labels(tmp_path: Path) -> None:
    assert draw(tmp_path, 6, gold=False) == {
        f"section-{name}.{kind}" for name in ("confusion", "labels") for kind in ("png", "svg")
    }


def test_figures_of_the_same_answers_are_the_same(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    draw(one, 5)
    draw(other, 5)
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_labels_that_look_like_formulas_or_have_no_glyph(tmp_path: Path) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), 200)
    found = analyse(["$x_$", "$\\frac$", "a_b^c", "新闻", "体育"], p, p.argmax(axis=1))
    assert draw_figures("section", found, tmp_path)
    assert missing_characters("section", found) == "".join(sorted("新闻体育"))
    texts = (tmp_path / "section-labels.svg").read_text("utf-8")
    assert "<!-- $x_$ -->" in texts
    plain = analyse(["x", "y", "z"], p[:, :3] / p[:, :3].sum(axis=1, keepdims=True))
    assert missing_characters("é", plain) == ""


def test_an_extra_that_is_missing_is_named() -> None:
    with pytest.raises(
        MissingExtraError, match=r"package 'no_such_package'.*newsie-classifier\[analysis\]"
    ):
        extras.extra("no_such_package.module")
    extras.check_extras()
