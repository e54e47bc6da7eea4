"""The bundled student: what README promises of it, and that it was trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from newsie.bundles.bundle import bundled_path, read_bundle
from newsie.data.articles import Article
from newsie.data.readers import ArticleReader
from newsie.inference.classifier import Classifier
from newsie.labels import LabelRule
from newsie.metrics.evaluation import Evaluation, evaluate_predictions

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def student() -> Classifier:
    return Classifier.from_pretrained()


@pytest.fixture(scope="module")
def found(student: Classifier) -> Evaluation:
    """How it does on the sample articles, which no model has learnt from."""
    rules = {task.name: task.rule or LabelRule(task.name) for task in student.labels.tasks}
    reader = ArticleReader(ROOT / "data" / "sample" / "articles.jsonl", rules=rules, strict=True)
    return evaluate_predictions(student.classify_stream(reader), student.labels)


def test_it_is_small_and_nothing_lies_about() -> None:
    files = {path.name: path.stat().st_size for path in bundled_path().iterdir()}
    assert set(files) == {"newsie.json", *read_bundle(bundled_path()).manifest.files}
    assert sum(files.values()) < 20 * MEGABYTE


def test_its_tasks(student: Classifier) -> None:
    assert student.tasks == ("section", "broadsheet", "tabloid", "topic", "desk", "clickbait")
    section, broadsheet, tabloid, *_ = student.labels.tasks
    assert section.labels == broadsheet.labels == tabloid.labels


# Of 14 sections, 6 topics, 26 desks and 2 answers, a model that has learnt nothing finds 7, 17, 4 and 50 %.
@pytest.mark.parametrize(
    ("task", "articles", "accuracy"),
    [("section", 250, 0.52), ("topic", 170, 0.76), ("desk", 90, 0.55), ("clickbait", 100, 0.9)],
)
def test_it_has_learnt(found: Evaluation, task: str, articles: int, accuracy: float) -> None:
    assert found.tasks[task].support > articles
    assert found.tasks[task].accuracy > accuracy


def test_the_examples_of_the_readme(student: Classifier) -> None:
    article = Article("Rain stops play", body="The third day at the Oval was lost to rain.")
    oscars = "Oscars night: the dresses everyone is talking about"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    cricket, dresses = student.classify([article, oscars])
    for prediction, text, shown in ((cricket, article.headline, 2), (dresses, oscars, 2)):
        assert text in readme
        for label, probability in prediction.top("section", shown):
            assert label in readme
            assert f"{probability:.2f}" in readme or f"{100 * probability:.0f} %" in readme


def test_the_command_line_needs_no_training_library() -> None:
    code = (
        "import sys, atexit; from newsie.cli import main;"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NEWSIE_MODEL"}
    result = subprocess.run(
        [sys.executable, "-c", code, "classify", "Late goal wins the cup", "--json"],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout)["predictions"]["section"][0]["label"] == "sports"
    loaded = {name.split(".")[0] for name in result.stderr.split()}
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "transformers", "accelerate", "datasets", "sklearn", "pyarrow"}
