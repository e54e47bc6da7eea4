from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from newsie.data.label_names import spellings
from newsie.doctor.findings import Finding, Severity
from newsie.doctor.label_checks import check_labels
from tests.doctor.files import news_file, write_csv


def check(tmp_path: Path, labels: Sequence[str]) -> dict[str, Finding]:
    rows = [{"headline": f"story {i}", "section": label} for i, label in enumerate(labels)]
    file = news_file(write_csv(tmp_path / "a.csv", rows))
    return {finding.code: finding for finding in check_labels(file, "section")}


def test_good_labels_give_no_finding(tmp_path: Path) -> None:
    assert not check(tmp_path, ["sports", "business"] * 20)


def test_no_label_and_one_label(tmp_path: Path) -> None:
    assert check(tmp_path, [""] * 5)["no-labels"].severity is Severity.problem
    found = check(tmp_path, ["sports"] * 5)["one-label"]
    assert found.severity is Severity.problem
    assert "all 5 articles have the label 'sports'" in found.title


def test_a_column_of_texts(tmp_path: Path) -> None:
    found = check(tmp_path, [f"what happened {i}" for i in range(30)])["labels-are-texts"]
    assert found.severity is Severity.problem
    assert "30 different labels for 30 articles" in found.title


def test_five_thousand_labels(tmp_path: Path) -> None:
    found = check(tmp_path, [f"l{i % 5000}" for i in range(15_000)])
    assert found["many-labels"].title.startswith("5,000 labels are more than")
    assert found["many-labels"].severity is Severity.warning


def test_numbers(tmp_path: Path) -> None:
    found = check(tmp_path, ["0", "1", "2.5"] * 20)["labels-are-numbers"]
    assert (found.count, found.severity) == (3, Severity.problem)  # newsie retrain refuses them
    assert "--map 0=NAME" in found.advice
    assert "labels-are-numbers" not in check(tmp_path, ["0", "1", "two"] * 20)


def test_labels_that_read_like_none(tmp_path: Path) -> None:
    found = check(tmp_path, [*["NA", "null", "North America", "Unknown soldiers", ""] * 20, "-"])
    placeholder = found["label-placeholder"]
    assert placeholder.details["labels"] == {"NA": 20, "null": 20, "-": 1}
    assert placeholder.title == "3 labels read like none (41 articles)"
    assert placeholder.severity is Severity.warning


def test_spellings_go_to_the_most_frequent() -> None:
    counts = {
        "Sports": 9,
        "SPORTS": 2,
        "sports ": 1,
        "Arts & Style": 1,
        "arts and style": 3,
        "%": 1,
    }
    assert spellings(counts) == {
        "SPORTS": "Sports",
        "sports ": "Sports",
        "Arts & Style": "arts and style",
    }
    assert spellings({"b-1": 1, "B1": 1}) == {"b-1": "B1"}  # a draw goes by the alphabet
    assert spellings({"!": 1, "?": 1}) == {}
    assert spellings({"1": 3, "-1": 2, "1.0": 2, "10": 1, "C": 1, "C++": 1, "C#": 1}) == {}


def test_spellings_are_found_and_count_as_one(tmp_path: Path) -> None:
    found = check(tmp_path, ["World News"] * 15 + ["WORLD-NEWS"] * 8 + ["arts"] * 30)
    assert found["label-spelling"].details["spellings"] == {"WORLD-NEWS": "World News"}
    assert found["label-spelling"].severity is Severity.problem
    assert "label-too-few" not in found


def test_a_label_in_two_spellings_is_one_label(tmp_path: Path) -> None:
    found = check(tmp_path, ["news"] * 20 + ["NEWS"] * 10)
    assert "all 30 articles have the label 'news'" in found["one-label"].title
    found = check(tmp_path, ["news"] * 30 + ["NEWS"] * 18 + ["chess"] * 12)
    assert "80% of the articles are labelled 'news'" in found["label-dominates"].title


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("entertainment", "entertainmant", True),
        ("sport", "sprot", True),
        ("culture", "cultrue", True),
        ("sport", "strop", False),
        ("ARTS & CULTURE", "CULTURE & ARTS", True),
        ("STYLE", "STYLE & BEAUTY", True),
        ("sports", "science", False),
        ("US", "UK", False),
        ("2020", "2021", False),
    ],
)
def test_lookalikes(tmp_path: Path, a: str, b: str, alike: bool) -> None:
    found = check(tmp_path, [a] * 30 + [b] * 20)
    assert ("label-lookalike" in found) is alike
    if alike:
        assert found["label-lookalike"].details["pairs"] == {b: a}


def test_few_articles_and_one_label_above_all(tmp_path: Path) -> None:
    found = check(tmp_path, ["news"] * 90 + ["chess"] * 3 + [""] * 4)
    assert found["label-too-few"].details["labels"] == {"chess": 3}
    assert "97% of the articles" in found["label-dominates"].title
    assert found["unlabelled"].rows == (94, 95, 96, 97)


@pytest.mark.parametrize(
    ("labels", "combined"),
    [
        (["sport", "city", "arts", "sport|city", "arts|sport"], {"sport|city", "arts|sport"}),
        (["a; b", "a; c", "b; c"], {"a; b", "a; c", "b; c"}),
        (['["sport"]', '["sport", "city"]'], {'["sport"]', '["sport", "city"]'}),
        (["sport", "city", "sport;city"], {"sport;city"}),
        (["sport", "arts/culture", "law/order", "world"], set()),
        (["news, local", "sport", "arts, books"], set()),
    ],
)
def test_several_labels_in_a_cell(tmp_path: Path, labels: list[str], combined: set[str]) -> None:
    finding = check(tmp_path, labels * 20).get("label-combined")
    assert set(finding.details["labels"] if finding else ()) == combined
