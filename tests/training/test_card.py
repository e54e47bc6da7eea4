from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from newsie.bundles.bundle import Lineage, Manifest, read_bundle, write_bundle
from newsie.data.encoding import EncodingPolicy
from newsie.labels import LabelSpace, Task
from newsie.training.card import model_card, transformers_card, write_card
from newsie.training.config import read_recipe, recipe_from
from tests.tiny import LABELS, tiny_tokenizer
from tests.training.tiny_metrics import tiny_figures

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "data": {
        "corpora": [
            {
                "name": "wire",
                "train": "wire.jsonl",
                "origin": "Written for tests.",
                "terms": "CC0-1.0",
                "limits": "Knows three sections only.",
            },
            {"name": "mystery", "train": "mystery.jsonl"},
        ],
        "tasks": [{"name": "section"}, {"name": "mood"}],
    },
    "full_text": {
        "name": "essays",
        "files": ["essays.jsonl"],
        "task": "section",
        "column": "topic",
        "labels": {"football": "sports"},
        "terms": "Apache-2.0",
    },
}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_tiny_bundle(tmp_path / "bundle")


def write_tiny_bundle(directory: Path) -> Manifest:
    model = directory.with_name("model.onnx")
    model.write_bytes(b"not read here")
    return write_bundle(
        directory,
        name="tiny",
        label_space=LABELS,
        encoding=EncodingPolicy(64),
        calibration={"section": 1.1, "mood": 0.9},
        model=model,
        tokenizer=tiny_tokenizer().to_str(),
        card="# A draft\n",
        metrics={"parity": 1.0},
        lineage=Lineage(recipe=recipe_from(RECIPE).to_json(), commit="abc1234"),
    ).manifest


def header(card: str) -> dict[str, Any]:
    _, text, _ = card.split("---\n", 2)
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def test_header_is_what_the_hub_reads(manifest: Manifest) -> None:
    found = header(model_card(manifest, tiny_figures()))
    results = found.pop("model-index")[0]["results"]
    assert found == {
        "language": "en",
        "license": "apache-2.0",
        "library_name": "newsie",
        "pipeline_tag": "text-classification",
        "tags": ["news", "onnx", "distillation", "multi-task"],
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "datasets": ["wire", "mystery"],
        "metrics": ["accuracy", "f1"],
    }
    assert [result["dataset"]["type"] for result in results] == ["wire"]
    # The figures of what is served, not of the teacher.
    assert results[0]["metrics"][0] == {"type": "accuracy", "value": 0.9425}


def test_hub_library_understands_it(manifest: Manifest) -> None:
    data = ModelCard(model_card(manifest, tiny_figures())).data
    assert isinstance(data, ModelCardData)
    assert data.eval_results is not None
    assert data.model_name == "tiny"
    assert [(r.task_type, r.metric_type) for r in data.eval_results][:2] == [
        ("text-classification", "accuracy"),
        ("text-classification", "f1"),
    ]


def test_corpora_with_origin_and_terms(manifest: Manifest) -> None:
    card = model_card(manifest, tiny_figures())
    for expected in (
        "| wire | Written for tests. | CC0-1.0 | training and measuring |",
        "| mystery | not stated in the recipe | not stated in the recipe | training and measuring |",
        "| essays | not stated in the recipe | Apache-2.0 | measuring only |",
        "- wire: Knows three sections only.",
    ):
        assert expected in card


def test_a_corpus_that_measures_nothing(manifest: Manifest) -> None:
    recipe = {"data": {"corpora": [{"name": "texts", "terms": "ours", "use": "training"}]}}
    card = model_card(replace(manifest, lineage=replace(manifest.lineage, recipe=recipe)))
    assert "| texts | not stated in the recipe | ours | training |" in card


def test_tasks_and_figures(manifest: Manifest) -> None:
    card = model_card(manifest, tiny_figures())
    assert "| section | 3 | business, science, sports | column section |" in card
    assert "| wire | section | headline + body | 400 |" in card
    assert "teacher 2.0 h, student 1.0 h" in card
    assert "0.09 kWh" in card  # 3 h, 2 cores, 15 W each


def test_labels_are_shown_as_they_are(manifest: Manifest) -> None:
    labels = ("a|b", "**bold** [x](y) `z`", "real_estate", "_private_")
    task = Task("desk", labels)
    space = LabelSpace((*manifest.label_space.tasks, task))
    calibration = {**manifest.calibration, "desk": 1.0}
    text = model_card(replace(manifest, label_space=space, calibration=calibration))
    row = next(line for line in text.splitlines() if line.startswith("| desk |"))
    assert row == (r"| desk | 4 | a\|b, \*\*bold\*\* \[x\](y) \`z\`, real_estate, \_private\_ |  |")


def test_without_figures_or_recipe(tmp_path: Path) -> None:
    manifest = write_tiny_bundle(tmp_path / "bundle")
    card = model_card(manifest)
    assert "model-index" not in header(card)
    assert "## Figures" not in card
    bare = Manifest(
        name="bare",
        label_space=LABELS,
        encoding=EncodingPolicy(64),
        calibration=manifest.calibration,
        files=manifest.files,
    )
    card = model_card(bare)
    assert header(card)["datasets"] == []
    assert "base_model" not in header(card)
    assert "its corpora are not known" in card


def test_a_retrained_student_began_as_a_bundle_and_no_model_of_the_hub(manifest: Manifest) -> None:
    assert "base_model" in header(model_card(manifest))
    recipe = {**manifest.lineage.recipe, "retrained": {"depth": "full", "tasks": ["mood"]}}
    after = replace(manifest, lineage=replace(manifest.lineage, recipe=recipe))
    assert "base_model" not in header(model_card(after))


def test_a_folder_for_transformers_is_none_of_onnx(manifest: Manifest) -> None:
    found = header(transformers_card(manifest, "section"))
    assert found["library_name"] == "transformers"
    assert found["tags"] == ["news", "distillation"]


def test_card_of_a_written_bundle(tmp_path: Path) -> None:
    before = write_tiny_bundle(tmp_path / "bundle")
    after = write_card(read_bundle(tmp_path / "bundle"), tiny_figures())
    assert after.fingerprint == before.fingerprint
    assert after.manifest.metrics["parity"] == 1.0
    measured = after.manifest.metrics["test"]["wire/section/headline + body"]
    assert measured["accuracy"] == pytest.approx(377 / 400)
    assert (after.path / "README.md").read_text(encoding="utf-8").count("## Figures") == 1
    assert read_bundle(tmp_path / "bundle") == after


def test_default_recipe_states_origin_and_terms() -> None:
    recipe = read_recipe(Path(__file__).parents[2] / "training" / "recipes" / "default.toml")
    described = [(corpus.origin, corpus.terms) for corpus in recipe.data.corpora]
    if recipe.full_text:
        described.append((recipe.full_text.origin, recipe.full_text.terms))
    assert all(origin and terms for origin, terms in described)


@pytest.mark.parametrize(
    ("recipe", "unknown"),
    [
        ({"teacher": [], "student": "x", "data": 3, "full_text": "x"}, 0),
        ({"teacher": {"encoder": []}, "student": {"layers": {}}, "data": {"corpora": "ab"}}, 0),
        ({"data": {"corpora": [1, {}, {"name": [], "origin": 3, "limits": {}}]}}, 3),
        ({"full_text": {"name": 3, "origin": []}}, 1),
    ],
)
def test_what_a_recipe_holds_in_another_shape_is_unknown(
    tiny_bundle: Path, recipe: dict[str, Any], unknown: int
) -> None:
    manifest = replace(read_bundle(tiny_bundle).manifest, lineage=Lineage(recipe=recipe))
    for card in (model_card(manifest), transformers_card(manifest, "section")):
        assert card.count("| unknown | not stated in the recipe |") == unknown
