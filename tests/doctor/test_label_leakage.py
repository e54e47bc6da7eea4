from __future__ import annotations

from pathlib import Path

import pytest

from newsie.doctor.findings import Finding
from newsie.doctor.label_leakage import check_giveaways, measure_giveaway
from tests.doctor.files import Row, news_file, tiny_rows, write_csv


def check(tmp_path: Path, rows: list[Row]) -> dict[str, Finding]:
    file = news_file(write_csv(tmp_path / "a.csv", rows))
    return {finding.code: finding for finding in check_giveaways(file, "section")}


def test_by_hand() -> None:
    # a: x x x y, b: y y. Without the article itself: the x of a are right (2 others to 1), the y of
    # a is wrong, the y of b are right.
    found = measure_giveaway(list("aaaabb"), list("xxxyyy"))
    assert found.accuracy == pytest.approx(5 / 6)
    assert found.baseline == 0.5
    # H(label) = ln 2; H(label | value) = 4/6 H(1/4).
    assert found.information == pytest.approx(1 - 2 / 3 * 0.8112781, abs=1e-6)


def test_values_that_are_there_once_tell_nothing() -> None:
    found = measure_giveaway([str(i) for i in range(60)], ["x", "x", "y"] * 20)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.information == pytest.approx(1)
    assert not found.tells


def test_one_label_is_told_by_nothing() -> None:
    found = measure_giveaway(["a", "b"], ["x", "x"])
    assert (found.information, found.tells) == (0, False)


def test_a_publisher_that_tells_the_section(tmp_path: Path) -> None:
    rows = [row | {"publisher": f"The {row['section']} Post"} for row in tiny_rows(90)]
    found = check(tmp_path, rows)["publisher-tells-label"]
    assert found.details["accuracy"] == 1
    assert found.details["by_chance"] < 0.5
    assert "The sports Post → sports" in {example.text for example in found.examples}


def test_an_address_that_tells_the_section(tmp_path: Path) -> None:
    urls = [f"https://www.paper.example/{row['section']}/{row['id']}.html" for row in tiny_rows(90)]
    rows = [row | {"url": url} for row, url in zip(tiny_rows(90), urls, strict=True)]
    examples = check(tmp_path, rows)["address-tells-label"].examples
    assert "paper.example/sports → sports" in {example.text for example in examples}


@pytest.mark.parametrize("url", ["https://paper.example/story.html", "http://[broken", "none"])
def test_addresses_that_tell_nothing(tmp_path: Path, url: str) -> None:
    rows = [row | {"publisher": "The Post", "url": url} for row in tiny_rows(90)]
    assert not check(tmp_path, rows)
