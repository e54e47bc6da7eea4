from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from newsie.bundles.bundle import Lineage, copy_bundle, read_bundle, write_bundle
from tests.cli.conftest import Run


def child(tiny_bundle: Path, target: Path) -> Path:
    tiny = read_bundle(tiny_bundle)
    after = {"accuracy": 0.875}
    return write_bundle(
        target,
        name=target.name,
        label_space=tiny.manifest.label_space,
        encoding=tiny.manifest.encoding,
        calibration=dict.fromkeys(tiny.manifest.label_space.names, 1.5),
        model=tiny.model_path,
        tokenizer=tiny.tokenizer_path.read_text(encoding="utf-8"),
        card="",
        metrics={
            "promotion": {"promoted": True, "tasks": {"mood": {"after": after, "taught": True}}}
        },
        lineage=Lineage(parent=tiny.fingerprint, data="data-12ab"),
    ).path


def test_bundles_their_lineage_and_the_way_back(
    newsie: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    shelf = tmp_path / "models"
    parent = shelf / "tiny"
    parent.parent.mkdir()
    parent.symlink_to(tiny_bundle)  # a link is no bundle of the shelf
    assert "there is no bundle in" in newsie("models", shelf).err
    parent.unlink()
    child(tiny_bundle, shelf / "child")
    found = newsie("models", shelf, "--json", "--use", "child")
    [row] = map(json.loads, found.out.splitlines())
    assert row["current"]
    assert row["parent"] == read_bundle(tiny_bundle).fingerprint
    assert row["accuracy"] == {"mood": 0.875}
    assert newsie("rollback", shelf).code == 1

    copy_bundle(tiny_bundle, shelf / "first")
    line = next(x for x in newsie("models", shelf).out.splitlines() if "child" in x)
    assert line.startswith("*")
    assert "first" in line
    assert "mood 87.5 %" in line
    assert newsie("rollback", shelf).out.startswith("child -> first: ")
    assert (shelf / "current").readlink() == Path("first")
    (shelf / "current").unlink()
    (shelf / "current").symlink_to(tiny_bundle)
    assert (
        f"current is {tiny_bundle.resolve()}, which is not in this" in newsie("models", shelf).err
    )


def after(value: Any) -> dict[str, Any]:
    """Metrics of a retrained bundle whose accuracy in the task "mood" is a value."""
    return {"promotion": {"tasks": {"mood": {"after": {"accuracy": value}, "taught": True}}}}


@pytest.mark.parametrize(
    ("metrics", "learnt"),
    [
        ({"promotion": "x"}, "unknown"),
        ({"promotion": []}, "unknown"),
        ({"promotion": {"tasks": ["mood"]}}, "unknown"),
        ({"promotion": {"tasks": {"mood": "x"}}}, "mood unknown"),
        ({"promotion": {"tasks": {"mood": {"after": "x", "taught": True}}}}, "mood unknown"),
        (after("much"), "mood unknown"),
        (after(True), "mood unknown"),
        (after(10**400), "mood unknown"),
        (after(-0.5), "mood unknown"),
        (after({}), "mood unknown"),
        (after(0.5), "mood 50.0 %"),
    ],
)
def test_metrics_of_another_shape_are_unknown(
    newsie: Run, tiny_bundle: Path, tmp_path: Path, metrics: dict[str, Any], learnt: str
) -> None:
    copy_bundle(child(tiny_bundle, tmp_path / "good"), tmp_path / "odd", metrics=metrics)
    outcome = newsie("models", tmp_path)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert next(line for line in lines if " odd " in line).endswith(f"  {learnt}")
    assert next(line for line in lines if " good " in line).endswith("  mood 87.5 %")
    rows = map(json.loads, newsie("models", tmp_path, "--json").out.splitlines())
    assert {row["name"] for row in rows} == {"good", "odd"}


def test_a_current_bundle_that_is_damaged_does_not_hide_the_others(
    newsie: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    child(tiny_bundle, tmp_path / "good")
    child(tiny_bundle, tmp_path / "long")
    assert newsie("models", tmp_path, "--use", "long").code == 0
    os.truncate(tmp_path / "long" / "README.md", 1 << 42)
    outcome = newsie("models", tmp_path)
    assert (outcome.code, "good" in outcome.out, "long" in outcome.out) == (0, True, False)
    assert "current cannot be used: bundle" in outcome.err
    assert "long cannot be used: bundle" in outcome.err


def test_no_folder_yet(newsie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = newsie("models")
    assert outcome.code == 0
    assert (
        "you have made no bundle yet; newsie retrain FILE -o models/NAME makes one" in outcome.err
    )
    assert newsie("models", "elsewhere").code == 1
    (tmp_path / "models").mkdir()
    advice = newsie("rollback").err
    assert "choose one: newsie models --use NAME" in advice
