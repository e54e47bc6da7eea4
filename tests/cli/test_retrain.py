from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from newsie.bundles.bundle import read_bundle
from newsie.inference.classifier import Classifier
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

    options: tuple[str | Path, ...] = ("--map", "crying=loud", "--task", "noise=category", "--json")
    options += ("--runs", runs, "--quick")
    found = newsie("retrain", file, "-o", models / "other", *options)
    assert found.code == 0, found.err
    assert f"{models / 'current'} stays one, not other: it was not retrained from" in found.err
    assert f"newsie models {models} --use other" in found.err
    base = read_bundle(tiny_bundle).fingerprint
    assert read_bundle(models / "other").manifest.lineage.parent == base

    options += ("--base", models / "current")
    found = newsie("retrain", file, "-o", models / "two", *options)
    assert found.code == 0, found.err
    verdict = json.loads(found.out)
    assert set(verdict["tasks"]["noise"]["labels"]) == {"loud", "quiet"}
    assert (models / "current").readlink() == Path("two")
    one, two = (read_bundle(models / name) for name in ("one", "two"))
    assert two.manifest.lineage.parent == one.fingerprint
    card = (models / "two" / "README.md").read_text(encoding="utf-8")
    assert "TF-IDF" in card
    assert f"parent: {one.fingerprint}" in card

    again = newsie("retrain", file, "-o", models / "two", *options)
    assert again.code == 0, again.err
    assert f"{models / 'two'} is there already, retrained from {models / 'one'}" in again.err
    assert f"this was done already: {models / 'two'} is from an earlier run" in again.err
    assert (again.err.count(" to learn from, "), found.err.count(" to learn from, ")) == (1, 1)
    assert "done already" not in found.err
    assert read_bundle(models / "two").fingerprint == two.fingerprint
    assert (models / "current").readlink() == Path("two")

    assert newsie("rollback", models).code == 0
    assert (models / "current").readlink() == Path("one")
    options = (*options[:-1], models / "one")
    after = newsie("retrain", file, "-o", models / "two", *options)
    assert after.code == 0, after.err
    assert (models / "current").readlink() == Path("one")
    assert f"{models / 'current'} stays one, not two: it was there before" in after.err


def test_not_promoted_is_exit_code_3_with_the_table(
    newsie: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    # No article of "business", which the model knows, and none that would measure whether it is kept.
    file = write_volume(
        tmp_path / "ours.csv",
        100,
        label=lambda a: "sports" if "goal" in a.headline.split() else "science",
        column="section",
    )
    base = tmp_path / "base"
    options: tuple[str | Path, ...] = ("--runs", tmp_path / "runs", "--quick")
    shutil.copytree(tiny_bundle, base)
    assert newsie("models", tmp_path, "--use", "base").code == 0
    options += ("--base", tmp_path / "current")
    found = newsie("retrain", file, "-o", tmp_path / "one", *options)
    assert found.code == 3
    assert "the new student is not promoted" in found.err
    assert "TF-IDF" in found.err
    assert not (tmp_path / "one").exists()
    found = newsie("retrain", file, "-o", tmp_path / "one", *options, "--force")
    assert found.code == 0, found.err
    assert "current stays base, not one: it was not promoted" in found.err
    assert (tmp_path / "current").readlink() == Path("base")


def test_wrong_usage(newsie: Run, tmp_path: Path) -> None:
    file = write_volume(tmp_path / "ours.csv", 20, label=lambda a: "a" if a.body else "b")
    assert newsie("retrain", file, "-o", tmp_path / "x", "--quick", "--full").code == 2
    assert "is not THEIRS=OURS" in newsie("retrain", file, "-o", tmp_path / "x", "--map", "a").err
    found = newsie("retrain", file, "-o", tmp_path / "x", "--columns", "headline=titel")
    assert found.code == 1
    assert "no column 'titel' for the headline" in found.err
    assert newsie("retrain", tmp_path / "none.csv", "-o", tmp_path / "x").code == 1
