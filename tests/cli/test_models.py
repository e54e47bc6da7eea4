from __future__ import annotations

import json
from pathlib import Path

from newsie.bundle import Lineage, read_bundle, write_bundle
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

    from newsie.bundle import copy_bundle

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
