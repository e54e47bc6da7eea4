from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState

from newsie.data.articles import Article
from newsie.errors import InputError
from newsie.inference.classifier import Classifier
from newsie.labels import LabelSpace, Task
from newsie.metrics.evaluation import softmax
from newsie.training.config import FullTextConfig, Recipe, recipe_from
from newsie.training.evaluate_run import compare_bodies, measure, read_full_text
from newsie.training.evaluated_models import System, calibrated, open_systems
from newsie.training.metrics_report import SERVED, SYSTEMS, Figures
from newsie.training.package import without_body
from newsie.training.store import RunStore
from newsie.training.teacher_predictor import open_teacher
from newsie.training.train import Trained, train
from tests.tiny import WORDS, tiny_articles, write_tiny_corpus, write_tiny_encoder


def test_bodies_are_compared_on_articles_that_have_both() -> None:
    labels = LabelSpace((Task("section", ("a", "b")),))
    articles = [
        Article("headline", "body"),
        Article("headline", "body"),
        Article("headline"),
        Article("", "body"),
    ]
    whole = np.array([[0.9, 0.1], [0.6, 0.4], [0, 1], [0, 1]], np.float32)
    headline = np.array([[0.7, 0.3], [0.2, 0.8], [0, 1], [0, 1]], np.float32)
    (found,) = compare_bodies(
        labels, articles, {"full": {"section": whole}, "headline": {"section": headline}}
    )
    assert found.articles == 2
    # Means (0.75, 0.25) and (0.45, 0.55); labels a, a and a, b.
    assert found.distance == pytest.approx(0.3)
    assert (found.label_distance, found.changed) == (0.5, 0.5)
    assert (found.label, found.share_with, found.share_without) == ("a", 1.0, 0.5)
    assert compare_bodies(labels, articles[2:], {"full": {}, "headline": {}}) == []


def test_system_is_calibrated_on_both_views_and_stored(tmp_path: Path) -> None:
    asked = []

    def answer(articles: object, view: str) -> dict[str, np.ndarray]:
        asked.append(view)
        # Sure of label 0 with a probability of 0.99, and right in 3 of 4 cases.
        return {"section": np.tile(np.array([np.log(99), 0], np.float32), (4, 1))}

    articles = tiny_articles(4)
    system = System("student", "print", answer, tmp_path)
    fitted = calibrated(system, articles, {"section": np.array([0, 0, 0, 1])})
    # 0.99 -> 0.75 takes T = ln 99 / ln 3.
    assert fitted.temperatures["section"] == pytest.approx(np.log(99) / np.log(3), rel=1e-4)
    probabilities = fitted.probabilities(articles, "full")["section"]
    np.testing.assert_allclose(probabilities, [[0.75, 0.25]] * 4, rtol=1e-4)
    assert asked == ["full", "headline"]  # the third time it was stored
    fitted.probabilities(articles[::-1], "full")
    assert asked == ["full", "headline", "full"]


def test_articles_without_headline_keep_their_body() -> None:
    assert without_body(Article("headline", "body")) == Article("headline")
    assert without_body(Article(" ", "body")).body == "body"


def test_full_text_keeps_plain_labels_only(tmp_path: Path) -> None:
    rows = [
        {"headline": "one", "body": "text", "topic": "football"},
        {"headline": "two", "body": "text", "topic": "sports"},
        {"headline": "three", "body": "text", "topic": ""},
    ]
    (tmp_path / "essays.jsonl").write_text("\n".join(map(json.dumps, rows)))
    # "sports" is a section of ours, but nothing says that the corpus means the same by it.
    config = FullTextConfig("essays", ["essays.jsonl"], "section", "topic", {"football": "sports"})
    (found,) = read_full_text(config, tmp_path)
    assert (found.headline, found.labels) == ("one", {"section": "sports"})


def tiny_recipe(directory: Path) -> Recipe:
    """Two corpora, one of them without bodies, and whole articles; their files and the encoder."""
    write_tiny_corpus(directory / "wire-train.jsonl", 300, 0)
    write_tiny_corpus(directory / "wire-test.jsonl", 80, 1)
    for split, count, seed in (("train", 120, 2), ("test", 40, 3)):
        rows = [
            {"headline": a.headline, "mood": a.labels["mood"]}
            for a in tiny_articles(count, seed, answered=1)
        ]
        path = directory / f"shouts-{split}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
    essays = [
        {"headline": a.headline, "body": a.body + " " + " ".join(WORDS[a.labels["section"]] * 20)}
        | {"topic": a.labels["section"].upper()}
        for a in tiny_articles(30, 4, answered=1)
    ]
    essays.append({"headline": "glacier", "body": "reef", "topic": "WEATHER"})  # learnt by nobody
    (directory / "essays.jsonl").write_text("\n".join(map(json.dumps, essays)))
    fit: dict[str, float] = {"epochs": 3, "batch_size": 16, "max_tokens": 48}
    fit |= {"learning_rate": 1e-3, "head_learning_rate": 5e-3, "evaluations": 1}
    corpora = [
        {"name": n, "train": f"{n}-train.jsonl", "test": f"{n}-test.jsonl"}
        for n in ("wire", "shouts")
    ]
    tasks = [{"name": "section", "corpora": ["wire"]}, {"name": "mood", "corpora": ["shouts"]}]
    return recipe_from(
        {
            "name": "tiny",
            "precision": "fp32",  # "auto" would multiply for seconds
            "data": {"corpora": corpora, "tasks": tasks, "validation": 0.1},
            "teacher": {"encoder": str(write_tiny_encoder(directory / "encoder")), "fit": fit},
            "student": {"layers": 1, "max_tokens": 48, "fit": fit},
            "quality": {"max_int8_loss": 50},
            "full_text": {
                "name": "essays",
                "files": ["essays.jsonl"],
                "task": "section",
                "column": "topic",
                "labels": {section.upper(): section for section in (*WORDS, "weather")},
                "limits": "Made of repeated words.",
            },
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    data = tmp_path_factory.mktemp("data")
    AcceleratorState._reset_state(True)
    recipe = tiny_recipe(data)
    store = RunStore(tmp_path_factory.mktemp("runs"), precision=recipe.precision)
    result = train(recipe, store, data=data)
    assert result is not None
    yield result
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def figures(trained: Trained) -> Figures:
    return measure(trained, "a command")


@pytest.mark.slow
def test_every_system_is_measured_in_every_view(figures: Figures) -> None:
    found = {(s.corpus, s.task, s.view, s.system) for s in figures.scores}
    asked = {
        ("wire", "section", "headline + body"),
        ("wire", "section", "headline"),
        ("shouts", "mood", "headline"),  # no bodies: one view
        ("essays", "section", "headline"),
        ("essays", "section", "headline + 60 words"),
        ("essays", "section", "full text"),
    }
    assert found == {(*question, system) for question in asked for system in SYSTEMS}
    assert [(t.corpus, t.articles) for t in figures.texts] == [
        ("wire", 80),
        ("shouts", 40),
        ("essays", 30),
    ]
    assert {p.task: p.articles for p in figures.body_presence} == dict.fromkeys(
        ("section", "mood"), figures.texts[0].with_body
    )
    assert figures.circumstances.command == "a command"
    assert figures.circumstances.bundle
    assert all(size.training_seconds for size in figures.sizes if size.parameters)
    assert "essays: Made of repeated words." in figures.notes


@pytest.mark.slow
def test_served_scores_are_those_of_the_classifier(trained: Trained, figures: Figures) -> None:
    classifier = Classifier(trained.bundle)
    articles = list(trained.corpora.articles("test"))
    known = [article for article in articles if "section" in article.labels]
    for view, shown in (
        ("headline + body", known),
        ("headline", [without_body(article) for article in known]),
    ):
        (score,) = (
            s.metrics
            for s in figures.scores
            if (s.corpus, s.task, s.view, s.system) == ("wire", "section", view, SERVED)
        )
        given = [prediction.label("section") for prediction in classifier.classify(shown)]
        right = [g == a.labels["section"] for g, a in zip(given, known, strict=True)]
        assert score.support == len(known)
        assert score.accuracy == pytest.approx(np.mean(right))


@pytest.mark.slow
def test_the_teacher_of_a_run_can_be_asked(trained: Trained, figures: Figures) -> None:
    teacher = open_teacher(trained.store.directory)
    articles = list(trained.corpora.articles("test"))
    found = [answer for _, answer in teacher.classify_stream(articles, tasks=["section"])]
    measured, *_ = open_systems(trained)
    expected = softmax(measured.answers(articles, "full")["section"])
    assert np.array([answer.probabilities["section"] for answer in found]) == pytest.approx(
        expected, abs=1e-5
    )
    for folder in trained.store.directory.glob("teacher-*"):
        folder.rename(folder.with_name("away"))
        with pytest.raises(InputError, match="no longer holds the teacher of its newest bundle"):
            open_teacher(trained.store.directory)
        folder.with_name("away").rename(folder)


@pytest.mark.slow
def test_second_measurement_computes_nothing_new(trained: Trained, figures: Figures) -> None:
    stored = {path: path.stat().st_mtime_ns for path in trained.store.directory.rglob("*")}
    assert measure(trained, "a command") == figures
    assert stored == {path: path.stat().st_mtime_ns for path in trained.store.directory.rglob("*")}


@pytest.mark.slow
def test_absent_whole_articles_are_noted(trained: Trained, figures: Figures) -> None:
    path = trained.data / "essays.jsonl"
    path.rename(path.with_suffix(".away"))
    try:
        found = measure(trained)
    finally:
        path.with_suffix(".away").rename(path)
    assert found.notes == ("No whole articles were measured: essays.jsonl not in the data folder.",)
    assert found.full_text == ""
    assert len(found.scores) == len(figures.scores) - 12
