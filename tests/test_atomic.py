from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from newsie import atomic
from newsie.atomic import (
    check_writable,
    new_directory,
    new_file,
    restore_directory,
    scratch_directory,
    write_text,
)
from newsie.errors import InputError


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


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def kill_within(program: str, folder: Path) -> None:
    """Run a program that kills itself, in a folder."""
    lines = "import os\nfrom pathlib import Path\nfrom newsie.atomic import *\n" + program
    ended = subprocess.run([sys.executable, "-c", lines], cwd=folder, check=False)
    assert ended.returncode == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with new_file(path) as one, new_file(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the last to finish
    assert names(tmp_path) == ["rows"]


def test_two_writers_of_one_folder_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with new_directory(target, replace=True) as one, new_directory(target, replace=True) as other:
        (one / "one").touch()
        (other / "other").touch()
    assert names(target) == ["one"]
    assert names(tmp_path) == ["result"]


def test_several_may_replace_one_folder(tmp_path: Path) -> None:
    def write(text: str) -> None:
        for _ in range(10):
            fill(tmp_path / "result", text, replace=True)
            assert (tmp_path / "result" / "content").read_text() in "abcd"

    fill(tmp_path / "result", "a")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert names(tmp_path) == ["result"]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows"
    kill_within(
        "with new_file(Path('rows')) as aside:\n    aside.write_text('half')\n    os.kill(os.getpid(), 9)",
        tmp_path,
    )
    assert names(tmp_path) == [".rows.aside"]
    with new_file(path) as one:
        assert one.name == ".rows.aside"
        assert one.read_text() == ""
        with new_file(path) as other:
            assert other.name == ".rows.1.aside"
    assert names(tmp_path) == ["rows"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "fifo", "folder"])
def test_what_lies_in_wait_under_a_name_aside_is_left_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_text("precious")
    trap = tmp_path / ".rows.aside"
    if kind == "file":
        os.link(tmp_path / "victim", trap)
    elif kind == "fifo":
        os.mkfifo(trap)
    elif kind == "folder":
        trap.mkdir()
    else:
        trap.symlink_to("victim" if kind == "link" else "nothing")
    write_text(tmp_path / "rows", "new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "rows").read_text() == "new"
    assert not (tmp_path / "nothing").exists()


def test_permissions_of_a_new_file_are_the_usual_ones(tmp_path: Path) -> None:
    with umask(0o027):
        write_text(tmp_path / "note", "new")
        fill(tmp_path / "result", "new")
    assert mode(tmp_path / "note") == 0o640
    assert mode(tmp_path / "result") == 0o750
    assert mode(tmp_path / "result" / "content") == 0o640


def test_permissions_are_kept(tmp_path: Path) -> None:
    path, folder = tmp_path / "note", tmp_path / "result"
    write_text(path, "old")
    fill(folder, "old")
    for changed, kept in ((path, 0o400), (folder / "content", 0o604), (folder, 0o700)):
        changed.chmod(kept)
    with umask(0), new_file(path) as aside:
        assert mode(aside) == 0o600  # nobody else may read it while it is being written
        aside.write_text("new")
    fill(folder, "new", replace=True)
    assert (path.read_text(), (folder / "content").read_text()) == ("new", "new")
    assert [mode(p) for p in (path, folder / "content", folder)] == [0o400, 0o604, 0o700]


def test_a_link_to_a_folder_keeps_naming_what_is_new(tmp_path: Path) -> None:
    fill(tmp_path / "result", "old")
    (tmp_path / "link").symlink_to("result")
    fill(tmp_path / "link", "new", replace=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "result" / "content").read_text() == "new"
    assert names(tmp_path) == ["link", "result"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems exchange names in two steps")
def test_a_folder_is_there_at_any_time_while_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "result"
    fill(target, "0")

    def write() -> None:
        for number in range(100):
            fill(target, str(number), replace=True)

    writer = Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert target.is_dir()
    writer.join()
    assert names(tmp_path) == ["result"]


TWO_RENAMES = """
from newsie import atomic
atomic._swap_names = lambda one, other: False
rename = Path.rename
def first_only(path, target):
    rename(path, target)
    os.kill(os.getpid(), 9)
Path.rename = first_only
with new_directory(Path('result'), replace=True) as aside:
    (aside / 'content').write_text('new')
"""


def test_a_folder_is_restored_after_a_kill_between_two_renames(tmp_path: Path) -> None:
    target = tmp_path / "result"
    fill(target, "old")
    kill_within(TWO_RENAMES, tmp_path)
    assert names(tmp_path) == [".result.aside", ".result.old"]
    assert restore_directory(target)
    assert (target / "content").read_text() == "old"
    assert not restore_directory(target)
    fill(target, "new", replace=True)
    assert names(tmp_path) == ["result"]
    assert (target / "content").read_text() == "new"


def test_a_failed_replacement_restores_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_swap_names", lambda one, other: False)
    target = tmp_path / "result"
    fill(target, "old")
    fill(target, "newer", replace=True)
    rename = Path.rename

    def fail(path: Path, other: Path) -> Path:
        if path.name == ".result.aside":
            raise OSError(28, "No space left on device")
        return rename(path, other)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        fill(target, "newest", replace=True)
    assert (target / "content").read_text() == "newer"
    assert names(tmp_path) == ["result"]


def test_a_living_writer_between_two_renames_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_swap_names", lambda one, other: False)
    target = tmp_path / "result"
    fill(target, "old")
    rename = Path.rename

    def slow(path: Path, other: Path) -> Path:
        renamed = rename(path, other)
        sleep(0.2 if path == target else 0)
        return renamed

    monkeypatch.setattr(Path, "rename", slow)
    writer = Thread(target=fill, args=(target, "new"), kwargs={"replace": True})
    writer.start()
    while not (tmp_path / ".result.old").exists():
        sleep(0.001)
    assert not restore_directory(target)
    assert (target / "content").read_text() == "new"
    writer.join()
    assert names(tmp_path) == ["result"]


def test_a_target_that_can_be_written(tmp_path: Path) -> None:
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "a" / "b" / "c")
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("notes", "link"):
        with pytest.raises(
            InputError, match=rf"student cannot be written: .*{name} is not a folder"
        ):
            check_writable(tmp_path / name / "models" / "student")
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "mine"
