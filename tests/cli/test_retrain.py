from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from newsie.bundle import read_bundle
from newsie.classifier import Classifier
from tests.cli.conftest import Run
from tests.training.retraining.files import heard_by, write_volume


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(True)


def test_from_a_file_to_a_bundle_that_becomes_the_current_one(
    newsie: Run, tiny_bundle: Path, tiny_classifier: Classifier, tmp_path: Path
) -> None:
    file = write_volume(tmp_path / "ours.csv", 240, label=heard_by(tiny_classifier))
    models, runs = tmp_path / "models", tmp_path / "runs"
    found = newsie("retrain", file, "-o", models / "one", "--runs", runs, "--quick")
    assert found.code == 0, found.err
    assert "headline <- 'headline'" in found.err
    assert "task category: new, 2 labels (column 'category'" in found.err
    assert "TF-IDF" in found.out
    assert found.out.endswith(f"{models / 'one'}\n")
    assert not (models / "current").exists()
    assert newsie("models", models, "--use", "one").code == 0

    options = ("--map", "crying=loud", "--task", "noise=category", "--json")
    found = newsie("retrain", file, "-o", models / "two", "--runs", runs, "--quick", *options)
    assert found.code == 0, found.err
    verdict = json.loads(found.out)
    assert set(verdict["tasks"]["noise"]["labels"]) == {"loud", "quiet"}
    assert (models / "current").readlink() == Path("two")
    base = read_bundle(tiny_bundle).fingerprint
    assert read_bundle(models / "two").manifest.lineage.parent == base


def test_not_promoted_is_exit_code_3_with_the_table(newsie: Run, tmp_path: Path) -> None:
    file = write_volume(
        tmp_path / "ours.csv", 300, label=lambda a: "goals" if "the" in a.headline.split() else "no"
    )
    found = newsie("retrain", file, "-o", tmp_path / "one", "--runs", tmp_path / "runs", "--quick")
    assert found.code == 3
    assert "the new student is not promoted" in found.err
    assert "TF-IDF" in found.err
    assert not (tmp_path / "one").exists()


def test_wrong_usage(newsie: Run, tmp_path: Path) -> None:
    file = write_volume(tmp_path / "ours.csv", 20, label=lambda a: "a" if a.body else "b")
    assert newsie("retrain", file, "-o", tmp_path / "x", "--quick", "--full").code == 2
    assert "is not THEIRS=OURS" in newsie("retrain", file, "-o", tmp_path / "x", "--map", "a").err
    found = newsie("retrain", file, "-o", tmp_path / "x", "--columns", "headline=titel")
    assert found.code == 1
    assert "no column 'titel' for the headline" in found.err
    assert newsie("retrain", tmp_path / "none.csv", "-o", tmp_path / "x").code == 1
