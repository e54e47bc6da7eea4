from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from newsie.inference.classifier import Classifier
from tests.tiny import tiny_articles, write_tiny_corpus

Row = dict[str, Any]
ARTICLES = 60


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tiny_corpus(tmp_path / "tiny.jsonl", ARTICLES)


@pytest.fixture
def rows(newsie: Any, file: Path, tmp_path: Path) -> list[Row]:
    """What classify writes for the file."""
    assert newsie("classify", "--file", file, "-o", tmp_path / "own.jsonl").code == 0
    lines = (tmp_path / "own.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def against(newsie: Any, file: Path, tmp_path: Path) -> Callable[[list[Row]], Any]:
    """The report of the file against answers: rows -> exit code, out, err."""

    def run(rows: list[Row]) -> Any:
        answers = tmp_path / "teacher.jsonl"
        answers.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        arguments = ["confusion", file, "-o", tmp_path / "report", "--task", "section"]
        return newsie(*arguments, "--against", answers)

    return run


def test_answers_in_a_file(
    against: Any, rows: list[Row], tiny_classifier: Classifier, tmp_path: Path
) -> None:
    # A teacher that calls sports what the student calls science, and the reverse.
    names = {"science": "sports", "sports": "science", "business": "business"}
    for row in rows:
        for answer in row["predictions"]["section"]:
            answer["label"] = names[answer["label"]]
    code, out, err = against(rows)
    assert code == 0, err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    (comparison,) = found["comparisons"]
    assert (comparison["kind"], comparison["a"], comparison["b"]) == (
        "models",
        "tiny",
        "teacher.jsonl",
    )
    articles = tiny_articles(ARTICLES)
    said = [answer.label("section") for answer in tiny_classifier.classify(articles)]
    labels = comparison["labels_b"]
    counts = np.zeros((3, 3), int)
    for label in said:
        counts[comparison["labels_a"].index(label), labels.index(names[label])] += 1
    assert comparison["counts"] == counts.tolist()
    gold = [article.labels.get("section") for article in articles]
    right = [names[s] == g for s, g in zip(said, gold, strict=True) if g is not None]
    assert comparison["accuracy"]["b"] == pytest.approx(np.mean(right), abs=1e-4)
    assert found["against"]["name"] == "teacher.jsonl"
    assert "tiny is right in" in out


def test_rows_that_name_no_article_count_by_their_order(against: Any, rows: list[Row]) -> None:
    assert against([{"predictions": row["predictions"]} for row in rows]).code == 0


def drop_a_label(rows: list[Row]) -> None:
    rows[3]["predictions"]["section"].pop()


def halve(rows: list[Row]) -> None:
    for answer in rows[3]["predictions"]["section"]:
        answer["score"] /= 2


def lose_a_number(rows: list[Row]) -> None:
    rows[3]["predictions"]["section"][0]["score"] = float("nan")


def exchange(rows: list[Row]) -> None:
    rows[3], rows[4] = rows[4], rows[3]


def answer_once(rows: list[Row]) -> None:
    for row in rows:
        del row["predictions"]["section"][1:]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_a_label, "row 4, column 'predictions': it gives section the labels"),
        (halve, "row 4, column 'predictions': the scores of section sum to 0.5 and not to 1"),
        (lose_a_number, "row 4, column 'predictions': the scores of section hold nan, which is no"),
        (exchange, "row 4: it answers 'tiny-0-4', and the article is 'tiny-0-3'; give answers"),
        (lambda rows: rows.pop(), "answers 59 articles only; give answers to the same articles"),
        (lambda rows: rows.append(rows[0]), "answers more than the 60 articles; give answers"),
        (lambda rows: rows[3].pop("predictions"), "row 4, column 'predictions': must hold"),
        (answer_once, "row 1, column 'predictions': it gives section 1 label(s) ['"),
    ],
)
def test_answers_that_cannot_be_compared(
    against: Any, rows: list[Row], spoil: Callable[[list[Row]], object], message: str
) -> None:
    spoil(rows)
    code, out, err = against(rows)
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_a_file_that_holds_no_answers(newsie: Any, file: Path, tmp_path: Path) -> None:
    code, _, err = newsie("confusion", file, "-o", tmp_path / "report", "--against", file)
    assert code == 1
    assert "row 1, column 'predictions': must hold" in err


def test_a_run_that_is_not_finished(newsie: Any, file: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "tiny" / "teacher-0" / "model").mkdir(parents=True)
    arguments = ["confusion", file, "-o", tmp_path / "report", "--against"]
    code, _, err = newsie(*arguments, tmp_path / "runs" / "tiny")
    assert code == 1
    assert "holds no bundle-*: newsie train has not ended there" in err


def test_answers_in_a_file_are_read_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    scores = [{"label": "sports", "score": 0.75}, {"label": "arts", "score": 0.25}]
    path.write_text(json.dumps({"headline": "goal", "predictions": {"section": scores}}))
    code = """
import sys
from newsie.cli.compared_model import open_other
from newsie.data.articles import Article
[(_, answer)] = open_other(sys.argv[1]).answerer.classify_stream([Article("goal")])
assert (answer.label("section"), answer.confidence("section")) == ("sports", 0.75)
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
