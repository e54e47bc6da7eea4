from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpus import SAMPLE
from benchmarks.doctor import exchange
from newsie import Classifier
from newsie.doctor import label_issues as suspects
from newsie.doctor.examination import read_beginnings
from newsie.doctor.label_issues import check_suspects, estimate_wrongness, find_suspects
from tests.doctor.files import news_file, tiny_rows, write_csv

NAMES = ("business", "science", "sports")


def exchanged(count: int, wrong: int) -> tuple[list[dict[str, str]], set[int]]:
    """Rows of which some have another label; and which."""
    rows = tiny_rows(count)
    chosen = np.random.default_rng(0).permutation(count)[:wrong]
    for i in chosen:
        rows[i]["section"] = NAMES[(NAMES.index(rows[i]["section"]) + 1 + i % 2) % 3]
    return rows, {int(i) for i in chosen}


def test_wrong_labels_are_found_and_named(tmp_path: Path) -> None:
    rows, wrong = exchanged(300, 30)
    file = news_file(write_csv(tmp_path / "a.csv", rows))
    found = find_suspects(file.texts, file.labels("section"))
    assert found is not None
    chosen = set(found.looked_at[found.chosen].tolist())
    assert len(chosen & wrong) >= 0.6 * len(wrong)
    assert len(chosen & wrong) >= 0.5 * len(chosen)
    assert found.wrongness.share == pytest.approx(0.15, abs=0.08)  # a third of 15 % is right
    (finding,) = check_suspects(file, "section", found)
    case = finding.details["cases"][0]
    assert case["row"] == finding.rows[0] == finding.examples[0].row
    assert case["given"] == rows[case["row"] - 1]["section"] != case["likely"]
    right = [c["likely"] for c in finding.details["cases"] if c["row"] - 1 in wrong]
    truth = [tiny_rows(300)[i - 1]["section"] for i in finding.rows if i - 1 in wrong]
    assert np.mean([a == b for a, b in zip(right, truth, strict=True)]) > 0.9


def test_of_few_articles_a_student_finds_what_words_do_not() -> None:
    file = news_file(SAMPLE, "section")
    labels, wrong = exchange(file.labels("section"), 0.1, seed=0)
    readings = read_beginnings(Classifier.from_pretrained(), file.texts)
    found, by_words = find_suspects(file.texts, labels, readings), find_suspects(file.texts, labels)
    assert found is not None
    assert by_words is not None
    right = int(wrong[found.looked_at][found.chosen].sum())
    assert right >= 0.6 * wrong.sum() > wrong[by_words.looked_at][by_words.chosen].sum()
    assert right >= 0.5 * len(found.chosen)


def test_the_estimate_is_right_where_it_can_be_computed() -> None:
    random = np.random.default_rng(0)
    q = random.dirichlet(np.full(5, 0.3), 20_000)
    truth = np.array([random.choice(5, p=row) for row in q])
    answers = np.sqrt(q).astype(np.float32)  # less sure than they should be
    answers /= answers.sum(axis=1, keepdims=True)
    blue = random.random(20_000) < 0.2
    given = np.where(blue, random.integers(0, 5, 20_000), truth)
    found = estimate_wrongness(given, answers)
    assert found.share == pytest.approx(0.2, abs=0.03)
    assert found.temperature == pytest.approx(0.5, abs=0.1)
    wrong = given != truth
    for low, high in ((0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        some = (found.probabilities >= low) & (found.probabilities < high)
        assert wrong[some].mean() == pytest.approx(found.probabilities[some].mean(), abs=0.1)


def test_right_labels_give_few_suspects(tmp_path: Path) -> None:
    file = news_file(write_csv(tmp_path / "a.csv", tiny_rows(200)))
    found = find_suspects(file.texts, file.labels("section"))
    assert found is not None
    assert len(found.chosen) <= 4


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "b"] * 20,  # too few articles
        ["a"] * 200,  # one label
        ["a"] * 196 + ["b"] * 4,  # one label that is there often enough
        [None] * 200,
        [f"label {i % 301}" for i in range(3010)],  # too many labels
    ],
)
def test_too_little_or_too_much_to_learn_from(labels: list[str | None]) -> None:
    assert find_suspects(["goal match"] * len(labels), labels) is None


def test_of_many_articles_a_sample_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "MAX_CELLS", 450)
    monkeypatch.setattr(suspects, "LARGE", 100)
    file = news_file(write_csv(tmp_path / "a.csv", tiny_rows(300)))
    found = find_suspects(file.texts, file.labels("section"))
    assert found is not None
    assert found.answers.shape == (150, 3)
    assert sorted(set(found.looked_at.tolist())) == found.looked_at.tolist()
    again = find_suspects(file.texts, file.labels("section"))
    assert again is not None
    np.testing.assert_array_equal(found.answers, again.answers)
