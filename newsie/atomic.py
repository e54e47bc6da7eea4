"""Files and directories that are there whole or not at all, whenever the machine stops.

They are written aside, waited for until they are on the disk, and renamed. What a killed process left
aside is removed by the next one that writes the same name, so only one process at a time may. Only
texts may be written by several at once: each has a name of its own aside.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_directory", "new_file", "scratch_directory", "write_text"]


@contextmanager
def new_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A directory to fill, which takes the name `target` when the block ends well.

    Args:
        target: the name; its parent directories are made.
        replace: whether a directory of that name may give way.
    """
    target = target.absolute()  # "." has no name to write beside
    aside = _aside(target)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in (*aside.rglob("*"), aside):
            _sync(path)
        if replace and target.exists():
            _exchange(aside, target)
        else:
            aside.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def scratch_directory(target: Path) -> Iterator[Path]:
    """A folder beside `target`, on the same disk, for what is needed only while that is made."""
    scratch = target.absolute().with_name(f".{target.absolute().name}.scratch")
    shutil.rmtree(scratch, ignore_errors=True)  # a killed process left it
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path to write a file to, which takes the name `target`, over an older file, when the block
    ends well."""
    with _replacing(_aside(target), target) as aside:
        yield aside


@contextmanager
def _replacing(aside: Path, target: Path) -> Iterator[Path]:
    try:
        yield aside
        _sync(aside)
        aside.replace(target)
        _sync(target.parent)
    finally:
        if os.path.lexists(aside):  # unlink would fail in a folder that is none, and hide why
            aside.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file, over an older one; of several processes that do, the last one's stays."""
    own = path.with_name(f".{path.name}.{os.urandom(8).hex()}.aside")
    with _replacing(own, path) as aside:
        aside.write_text(text, encoding="utf-8")


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.aside")


def _exchange(aside: Path, target: Path) -> None:
    """Put a directory in the place of another; if that fails, the other is where it was."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _sync(path: Path) -> None:
    """Wait until a file or directory is on the disk: a rename may otherwise overtake the content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
