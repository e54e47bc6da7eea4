from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from newsie.bundles.bundle import Bundle, Lineage, bundled_path, read_bundle, write_bundle
from newsie.bundles.registry import Shelf, follow, use_command
from newsie.errors import BundleError, InputError


def bundle(tiny_bundle: Path, target: Path, parent: str = "", temperature: float = 1.0) -> Bundle:
    """The tiny bundle with other calibration, and so another fingerprint."""
    tiny = read_bundle(tiny_bundle)
    return write_bundle(
        target,
        name=target.name,
        label_space=tiny.manifest.label_space,
        encoding=tiny.manifest.encoding,
        calibration=dict.fromkeys(tiny.manifest.label_space.names, temperature),
        model=tiny.model_path,
        tokenizer=tiny.tokenizer_path.read_text(encoding="utf-8"),
        card="",
        lineage=Lineage(parent=parent),
    )


@pytest.fixture
def shelf(tiny_bundle: Path, tmp_path: Path) -> Path:
    first = bundle(tiny_bundle, tmp_path / "first")
    bundle(tiny_bundle, tmp_path / "second", first.fingerprint, 2.0)
    return tmp_path


def test_bundles_with_their_parents(shelf: Path) -> None:
    (shelf / "notes").mkdir()
    found = Shelf.of(shelf)
    first, second = found.bundles
    assert (first.path.name, second.path.name) == ("first", "second")
    assert found.parent(second) == first
    assert found.parent(first) is None
    assert found.current is None


def test_the_current_one_and_back_again(shelf: Path) -> None:
    found = Shelf.of(shelf)
    found.use(found.find("second"))
    assert (shelf / "current").readlink() == Path("second")
    assert read_bundle(shelf / "current").fingerprint == found.find("second").fingerprint
    was, now = Shelf.of(shelf).roll_back()
    assert (was.path.name, now.path.name) == ("second", "first")
    assert (shelf / "current").readlink() == Path("first")
    with pytest.raises(BundleError, match="was not retrained from another bundle"):
        Shelf.of(shelf).roll_back()


def test_nothing_to_roll_back(shelf: Path) -> None:
    with pytest.raises(InputError, match="has no current bundle; choose one: newsie models"):
        Shelf.of(shelf).roll_back()


def test_a_parent_that_is_gone(shelf: Path) -> None:
    found = Shelf.of(shelf)
    found.use(found.find("second"))
    shutil.rmtree(shelf / "first")
    with pytest.raises(BundleError, match=r"is not in .*; copy it there, or choose another"):
        Shelf.of(shelf).roll_back()
    assert (shelf / "current").readlink() == Path("second")


def test_back_to_the_bundled_student(tiny_bundle: Path, tmp_path: Path) -> None:
    parent = read_bundle(bundled_path())
    child = bundle(tiny_bundle, tmp_path / "child", parent.fingerprint)
    Shelf.of(tmp_path).use(child)
    assert Shelf.of(tmp_path).roll_back()[1].fingerprint == parent.fingerprint
    assert (tmp_path / "current").readlink() == Path("default")  # a copy, which no upgrade replaces
    assert read_bundle(tmp_path / "default").fingerprint == parent.fingerprint


def test_after_a_roll_back_nothing_becomes_current_by_itself(
    shelf: Path, tiny_bundle: Path
) -> None:
    first, second = Shelf.of(shelf).bundles
    Shelf.of(shelf).use(second)
    Shelf.of(shelf).roll_back()
    third = bundle(tiny_bundle, shelf / "third", first.fingerprint, 3.0)
    assert follow(third) is False
    assert (shelf / "current").readlink() == Path("first")
    Shelf.of(shelf).use(first)  # chosen, which ends the roll-back
    assert follow(third) is True
    assert (shelf / "current").readlink() == Path("third")


def test_current_follows_its_children_only(shelf: Path, tiny_bundle: Path) -> None:
    first, second = Shelf.of(shelf).bundles
    assert follow(second) is None
    assert not os.path.lexists(shelf / "current")
    Shelf.of(shelf).use(first)
    stranger = bundle(tiny_bundle, shelf / "stranger", "0" * 16, 3.0)
    assert follow(stranger) is False
    assert (shelf / "current").readlink() == Path("first")
    assert follow(second) is True
    assert (shelf / "current").readlink() == Path("second")
    assert follow(second) is True  # told again
    brother = bundle(tiny_bundle, shelf / "brother", first.fingerprint, 4.0)
    assert follow(brother) is False
    shutil.rmtree(second.path)
    assert follow(brother) is False


def test_a_damaged_bundle_is_named_and_the_others_are_listed(shelf: Path) -> None:
    (shelf / "first" / "tokenizer.json").write_text("{}")
    found = Shelf.of(shelf)
    assert [b.path.name for b in found.bundles] == ["second"]
    assert "tokenizer.json is damaged" in found.damaged[shelf / "first"]


def test_bundles_whose_files_are_no_plain_files_do_not_hide_the_others(shelf: Path) -> None:
    os.truncate(shelf / "first" / "README.md", 1 << 42)
    shutil.copytree(shelf / "second", shelf / "third")
    (shelf / "third" / "newsie.json").unlink()
    os.mkfifo(shelf / "third" / "newsie.json")
    found = Shelf.of(shelf)
    assert [b.path.name for b in found.bundles] == ["second"]
    assert "README.md is damaged" in found.damaged[shelf / "first"]
    assert "newsie.json is not a plain file" in found.damaged[shelf / "third"]


def test_a_link_that_leads_to_itself_is_no_bundle(shelf: Path) -> None:
    (shelf / "current").symlink_to("current")
    with pytest.raises(BundleError, match="current"):
        _ = Shelf.of(shelf).current


def test_the_default_folder_is_left_out_of_commands() -> None:
    assert use_command(Path("models"), "ours") == "newsie models --use ours"
    assert use_command(Path("a/models"), "ours") == "newsie models a/models --use ours"


def test_names_that_are_not_there(shelf: Path) -> None:
    with pytest.raises(
        InputError, match=r"there is no bundle 'third' in .*; there are: first, second"
    ):
        Shelf.of(shelf).find("third")
    with pytest.raises(InputError, match="is not a folder; name one that holds bundles"):
        Shelf.of(shelf / "none")


def test_a_folder_called_current_is_left_alone(shelf: Path) -> None:
    (shelf / "current").mkdir()
    with pytest.raises(BundleError, match="is not a link; rename it"):
        Shelf.of(shelf).use(Shelf.of(shelf).find("first"))
