from __future__ import annotations

from pathlib import Path

import pytest

from newsie.doctor.findings import Finding, Severity
from newsie.doctor.model_disagreement import check_answers, sample_articles
from newsie.inference.classifier import Classifier
from tests.doctor.files import Row, news_file, tiny_rows, write_csv


def check(
    tmp_path: Path, rows: list[Row], classifier: Classifier, task: str = "section"
) -> dict[str, Finding]:
    file = news_file(write_csv(tmp_path / "a.csv", rows), task)
    return {finding.code: finding for finding in check_answers(file, classifier)}


def test_agreement_is_that_of_the_predictions(tmp_path: Path, tiny_classifier: Classifier) -> None:
    rows = [row | {"section": row["section"].upper()} for row in tiny_rows(60)]
    path = write_csv(tmp_path / "b.csv", rows)
    predictions = tiny_classifier.classify(list(news_file(path).articles))
    right = [
        prediction.label("section") == row["section"].lower()
        for prediction, row in zip(predictions, rows, strict=True)
    ]
    found = check(tmp_path, rows, tiny_classifier)["student-agrees"]
    assert found.details["agreement"] == pytest.approx(sum(right) / 60)
    confidence = [prediction.confidence("section") for prediction in predictions]
    assert found.details["confidence"] == pytest.approx(sum(confidence) / 60)


def test_labels_it_disagrees_with(tmp_path: Path, tiny_classifier: Classifier) -> None:
    rows = tiny_rows(60)
    for row, article in zip(
        rows, news_file(write_csv(tmp_path / "b.csv", rows)).articles, strict=True
    ):
        answer = tiny_classifier.classify([article])[0].label("section")
        row["section"] = "science" if answer == "sports" else answer  # never sports
    found = check(tmp_path, rows, tiny_classifier)["student-disagrees"]
    assert found.examples[0].text == "science"
    assert "answers 'sports'" in found.examples[0].note


def test_labels_that_are_new(tmp_path: Path, tiny_classifier: Classifier) -> None:
    rows = tiny_rows(60)
    for row in rows[:5]:
        row["section"] = "chess"
    found = check(tmp_path, rows, tiny_classifier)["new-labels"]
    assert found.examples[0].text == "chess"
    rows = [row | {"section": "ab"[i % 2]} for i, row in enumerate(rows)]
    assert (
        "has no task with these labels"
        in check(tmp_path, rows, tiny_classifier)["new-labels"].title
    )


def test_the_task_with_the_same_labels_is_compared(
    tmp_path: Path, tiny_classifier: Classifier
) -> None:
    rows = [row | {"tone": ("Calm", "Loud")[i % 2]} for i, row in enumerate(tiny_rows(20))]
    found = check(tmp_path, rows, tiny_classifier, task="tone")["student-agrees"]
    assert found.details["task"] == "mood"


def test_articles_that_are_too_long(tmp_path: Path, tiny_classifier: Classifier) -> None:
    rows = [row | {"body": ""} for row in tiny_rows(10)]
    assert "truncated" not in check(tmp_path, rows, tiny_classifier)
    for row in rows[:7]:
        row["body"] = "goal " * 200
    found = check(tmp_path, rows, tiny_classifier)["truncated"]
    assert (found.count, found.severity) == (7, Severity.warning)


def test_a_sample_is_random_and_the_same_again(tmp_path: Path) -> None:
    file = news_file(write_csv(tmp_path / "a.csv", tiny_rows(50)))
    chosen = sample_articles(file, 10)
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen) == sample_articles(file, 10) != list(range(10))
