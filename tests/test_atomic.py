from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from newsie.atomic import new_directory, new_file, scratch_directory, write_text


def fill(target: Path, text: str, *, fails: bool = False, replace: bool = False) -> None:
    with new_directory(target, replace=replace) as aside:
        (aside / "content").write_text(text)
        if fails:
            raise InterruptedError


def test_a_directory_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "result"
    with pytest.raises(InterruptedError):
        fill(target, "half", fails=True)
    assert not list(target.parent.iterdir())
    fill(target, "whole")
    assert [path.name for path in target.parent.iterdir()] == ["result"]
    assert (target / "content").read_text() == "whole"


def test_a_directory_gives_way_only_if_told_to(tmp_path: Path) -> None:
    target = tmp_path / "result"
    fill(target, "old")
    with pytest.raises(OSError, match="not empty"):
        fill(target, "new")
    with pytest.raises(InterruptedError):
        fill(target, "new", fails=True, replace=True)
    assert (target / "content").read_text() == "old"
    fill(target, "new", replace=True)
    assert (target / "content").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".result.aside").mkdir()
    (tmp_path / ".result.aside" / "stale").touch()
    fill(tmp_path / "result", "whole")
    assert [path.name for path in (tmp_path / "result").iterdir()] == ["content"]


def test_a_folder_that_is_none_is_what_the_error_is_about(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InterruptedError), new_file(tmp_path / "file" / "note.json"):
        raise InterruptedError


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_text(path, "old")

    def fail() -> None:
        with new_file(path) as aside:
            aside.write_text("half")
            assert path.read_text() == "old"
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["note.json"]


def test_several_may_write_one_text(tmp_path: Path) -> None:
    texts = [letter * 20_000 for letter in "abcd"]

    def write(text: str) -> None:
        for _ in range(25):
            write_text(tmp_path / "note.json", text)
            assert (tmp_path / "note.json").read_text() in texts

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(write, texts))
    assert [p.name for p in tmp_path.iterdir()] == ["note.json"]


def test_scratch_is_beside_what_is_made_and_gone_afterwards(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    left = tmp_path / ".bundle.scratch" / "of-a-killed-one"
    left.mkdir(parents=True)

    def fail() -> None:
        with scratch_directory(target) as scratch:
            assert scratch.parent == tmp_path
            assert not list(scratch.iterdir())
            (scratch / "draft").mkdir()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert not list(tmp_path.iterdir())
