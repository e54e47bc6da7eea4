from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from filelock import FileLock

from newsie.errors import InputError, QualityGateError, RecipeError, TrainingError
from newsie.graph.quantize import quantize_int8
from newsie.inference.classifier import Classifier
from newsie.training.config import recipe_from
from newsie.training.distilling import Teachers
from newsie.training.fingerprints import encoder_digest
from newsie.training.store import RunStore, data_folder
from newsie.training.train import StageName, Trained, train
from tests.tiny import tiny_articles, write_tiny_corpus, write_tiny_encoder


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    write_tiny_corpus(directory / "tiny" / "train.jsonl", 400)
    write_tiny_corpus(directory / "tiny" / "test.jsonl", 80, seed=1)
    write_tiny_encoder(directory / "bert")
    write_tiny_encoder(directory / "modernbert", "modernbert")
    return directory


def recipe(data: Path, **changes: Any) -> dict[str, Any]:
    fit = {"epochs": 2, "batch_size": 16, "max_tokens": 24, "learning_rate": 1e-3, "evaluations": 1}
    return {
        "name": "tiny",
        "precision": "fp32",  # "auto" would multiply for seconds
        "data": {
            "corpora": [{"name": "tiny", "train": "tiny/train.jsonl", "test": "tiny/test.jsonl"}],
            "tasks": [{"name": "section"}, {"name": "mood"}],
            "validation": 0.1,
        },
        "teacher": {"encoder": str(data / "bert"), "fit": fit},
        "student": {"layers": 1, "max_tokens": 32, "fit": fit},
        "quality": {"max_int8_loss": 50.0},
    } | changes


def run(
    content: dict[str, Any], data: Path, runs: Path, until: StageName = "bundle"
) -> Trained | None:
    """Train the recipe in the folder runs/tiny."""
    recipe = recipe_from(content)
    return train(
        recipe, RunStore(runs / "tiny", precision=recipe.precision), data=data, until=until
    )


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended. Not to be written to."""
    runs = tmp_path_factory.mktemp("finished")
    run(recipe(data), data, runs)
    AcceleratorState._reset_state(True)
    return runs


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to go on in."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


@pytest.mark.slow
def test_from_recipe_to_a_bundle_that_classifies(data: Path, tmp_path: Path) -> None:
    longer = recipe(data, precision="auto")
    for model in ("teacher", "student"):
        longer[model]["fit"] = longer[model]["fit"] | {"epochs": 8}
    trained = run(longer, data, tmp_path)
    assert trained is not None
    bundle, path = trained.bundle, trained.bundle.path
    assert bundle.manifest.label_space.names == ("section", "mood")
    assert bundle.manifest.lineage.recipe["name"] == "tiny"
    assert set(bundle.manifest.metrics["int8_accuracy_lost_points"]) == {"section", "mood"}
    assert "## Tasks and labels" in (path / "README.md").read_text()
    assert not list(tmp_path.rglob("step-*"))  # checkpoints are gone once a model is there
    assert all(temperature != 1 for temperature in bundle.manifest.calibration.values())
    articles = tiny_articles(50, seed=2)
    predictions = Classifier.from_pretrained(path).classify(articles)
    right = [
        p.label("section") == a.labels.get("section")
        for p, a in zip(predictions, articles, strict=True)
    ]
    assert sum(right) > 25  # chance would be 13: a third, and a fifth have no label

    # Everything is there: a second run computes nothing anew.
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = run(longer, data, tmp_path)
    assert again is not None
    assert again.bundle.path == path
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_changed_student_keeps_the_stages_before_it(data: Path, runs: Path) -> None:
    changed = recipe(data)
    changed["student"] = changed["student"] | {"distillation": {"temperature": 4.0}}
    run(changed, data, runs, "student")
    kinds = [path.name.rsplit("-", 1)[0] for path in (runs / "tiny").iterdir() if path.is_dir()]
    once = ["bundle", "data", "soft-labels", "soft-labels", "student", "student", "teacher"]
    assert sorted(kind for kind in kinds if kind not in ("tokens", "stages")) == once


@pytest.mark.slow
def test_a_teacher_that_always_reads_the_full_article_answers_once(data: Path, runs: Path) -> None:
    trained = run(recipe(data), data, runs)
    assert trained is not None
    store, corpora = trained.store, trained.corpora
    encoder = trained.tokenizer.reads(24)  # teacher and student have one tokenizer here
    models = [teacher.model for teacher in trained.teachers]
    privileged = Teachers(models, encoder, "full").soft_labels(store, corpora)
    assert privileged["headline"] is privileged["full"]
    usual = Teachers(models, encoder).soft_labels(store, corpora)
    assert usual["headline"].header.view == "headline"
    assert len(list(runs.glob("tiny/soft-labels-*"))) == 2  # all were stored before


@pytest.mark.slow
def test_a_teacher_of_another_kind_with_a_tokenizer_of_its_own(data: Path, tmp_path: Path) -> None:
    large = recipe(data)
    large["teacher"] = large["teacher"] | {"encoder": str(data / "modernbert"), "seeds": [0, 1]}
    large["student"] = large["student"] | {"encoder": str(data / "bert")}
    trained = run(large, data, tmp_path)
    assert trained is not None
    assert len(trained.teachers) == 2
    assert trained.teachers[0].model.encoder.config.model_type == "modernbert"
    assert trained.student.model.encoder.config.model_type == "distilbert"


def test_inputs_longer_than_the_encoder_takes_are_refused_before_fitting(
    data: Path, tmp_path: Path
) -> None:
    student = recipe(data)["student"] | {"max_tokens": 65}
    with pytest.raises(RecipeError, match=r"student\.max_tokens is 65, .* at most 64 tokens"):
        run(recipe(data, student=student), data, tmp_path, "teacher")
    assert not list(tmp_path.rglob("teacher-*"))


@pytest.mark.slow
def test_another_sampling_is_another_teacher_on_the_same_articles(data: Path, runs: Path) -> None:
    assert recipe_from(recipe(data)).data.sampling_temperature != 3
    content = recipe(data)
    content["data"]["sampling_temperature"] = 3.0
    run(content, data, runs, "teacher")
    assert len(list(runs.glob("tiny/data-*"))) == 1
    assert len(list(runs.glob("tiny/teacher-*"))) == 2


def test_ends_at_the_stage_asked_for(data: Path, tmp_path: Path) -> None:
    assert run(recipe(data), data, tmp_path, "data") is None
    [directory] = (tmp_path / "tiny").glob("data-*")
    assert json.loads((directory / "corpora.json").read_text())["report"]["articles"]["test"] == 80
    assert not list((tmp_path / "tiny").glob("teacher*"))


@pytest.mark.slow
def test_an_int8_student_that_loses_too_much_is_no_bundle(
    data: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = recipe(data, quality={"max_int8_loss": 0.5})
    before = set(runs.glob("tiny/bundle*"))

    # A student that int8 really breaks: one weight so large that the others round to nothing.
    def break_and_quantize(source: Path, destination: Path) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(source)
        for tensor in graph.graph.initializer:
            values = numpy_helper.to_array(tensor).copy()
            if values.ndim == 2 and values.dtype == "float32":
                values[0] = 1000 * abs(values).max()
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(graph, source.with_name("broken.onnx"))
        quantize_int8(source.with_name("broken.onnx"), destination)

    monkeypatch.setattr("newsie.training.package.quantize_int8", break_and_quantize)
    with pytest.raises(QualityGateError, match=r"int8 loses more than 0\.5 points") as caught:
        run(strict, data, runs)
    assert caught.value.exit_code == 3
    assert set(runs.glob("tiny/bundle*")) == before


@pytest.mark.slow
def test_a_stricter_gate_is_applied_to_a_finished_student(data: Path, runs: Path) -> None:
    [first] = runs.glob("tiny/bundle-*")
    second = run(recipe(data, quality={"max_int8_loss": 40.0}), data, runs)
    assert second is not None
    assert set(runs.glob("tiny/bundle-*")) == {first, second.bundle.path}
    assert len(list(runs.glob("tiny/student-*"))) == 1


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    store = RunStore(tmp_path, precision="fp32")
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(TrainingError, match="another newsie is at work in"),
        store.locked(),
    ):
        pass
    with store.locked():
        pass


def test_other_weights_of_a_local_encoder_are_another_teacher(data: Path, tmp_path: Path) -> None:
    directory = write_tiny_encoder(tmp_path / "encoder")
    before = encoder_digest(str(directory))
    assert encoder_digest(str(directory)) == before
    write_tiny_encoder(tmp_path / "encoder", layers=1)
    assert encoder_digest(str(directory)) != before
    assert encoder_digest("owner/name") == "owner/name"


def test_a_missing_corpus_says_where_it_was_sought(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"wants tiny/train\.jsonl.*--data or the environment"):
        run(recipe(data), tmp_path, tmp_path, "data")


def test_data_folder_is_given_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSIE_DATA", str(tmp_path))
    assert data_folder(None) == tmp_path
    with pytest.raises(InputError, match="is not a directory; name one with --data or NEWSIE_DATA"):
        data_folder(tmp_path / "none")
