"""Atomic writing: files and folders appear whole or not at all, even if the process or machine stops.

A file is written under a hidden name beside its own, flushed to the disk, and then renamed. Any number of
processes may write the same file at once: each has its own hidden name, and the last to finish wins.

    .NAME.aside, .NAME.1.aside, ...    being written; each is locked by its writer
    .NAME.old                          the old folder, for the moment between the two renames that replace it,
                                       on systems that cannot exchange two names in one step

A writer takes the first name that is free or whose writer has died, which the lock shows. Hidden names are
always created anew, so a link planted under one of them is not followed.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from newsie.errors import InputError
from newsie.locks import LOCKS, try_lock, unlock

__all__ = [
    "check_regular",
    "check_writable",
    "new_directory",
    "new_file",
    "restore_directory",
    "scratch_directory",
    "write_text",
]

RESTORE_SECONDS = 10
"""The seconds that `restore_directory` waits for a living process that is between its two renames."""

_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY
_LOOK = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)  # a FIFO would keep `open` waiting
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2


@contextmanager
def new_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder, which is renamed to `target` when the block ends without an error.

    Args:
        target: the final name; its parent folders are created.
        replace: replace an existing folder. Its permissions are kept, and those of the files in it.
    """
    target = target.absolute()  # "." has no name to write beside
    if replace and target.is_symlink():
        target = target.resolve()  # the link stays, and points to the new folder
    with _folder_beside(target, "aside") as aside:
        yield aside
        restore_directory(target)
        exists = replace and target.exists()
        for path in (*aside.rglob("*"), aside):
            if exists:
                _keep_mode(path, target / path.relative_to(aside))
            _sync(path)
        if exists:
            _replace(aside, target)
        else:
            aside.rename(target)
        _sync(target.parent)


@contextmanager
def scratch_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`, on the same disk; it is removed at the end."""
    with _folder_beside(target.absolute(), "scratch") as scratch:
        yield scratch
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield the path of an empty file, which is renamed to `target` when the block ends without an error.

    An existing file is replaced, and its permissions are kept. A pipe or a device is not
    replaced.

    Raises:
        InputError: see `check_regular`.
    """
    check_regular(target)
    target = target.absolute()
    mode = _mode(target)
    with _claim(target, "aside", lambda path: _create_file(path, mode)) as aside:
        try:
            yield aside
            _keep_mode(aside, target)
            _sync(aside)
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync(target.parent)  # the hidden name may be another writer's by now


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, replacing an existing one."""
    with new_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def check_regular(target: Path) -> None:
    """Check that `target` is not a pipe, a socket or a device, which a regular file would replace.

    Raises:
        InputError: it is one.
    """
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise InputError(
            f"{target} is a pipe or a device, which is not replaced by a file; name a file instead"
        )


def check_writable(target: Path) -> None:
    """Check that `target` can be written, before the work whose result it will hold.

    Folders of its path that do not exist yet are not created.

    Raises:
        InputError: the nearest folder that exists is read-only, full or not a folder.
    """
    folder = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    try:
        # Permission bits do not show a read-only file system, and mean nothing to root.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = "read-only" if error.errno in (errno.EROFS, errno.EACCES) else error.strerror
        if error.errno in (errno.ENOTDIR, errno.ENOENT):
            reason = "not a folder"
        raise InputError(
            f"{target} cannot be written: {folder} is {reason}; choose another folder"
        ) from error


def restore_directory(target: Path) -> bool:
    """Restore a folder that a killed process left under its `.NAME.old` name, between two renames.

    Returns:
        True if the folder was missing and has been restored.
    """
    target = target.absolute()
    old = _old(target)
    end = time.monotonic() + RESTORE_SECONDS
    while not os.path.lexists(target) and old.is_dir():
        try:
            with _locked(old) as locked:
                if locked is not False and not os.path.lexists(target):
                    old.rename(target)
                    return True
        except FileNotFoundError:  # its writer has gone on in the meantime
            continue
        if time.monotonic() > end:
            break
        time.sleep(0.01)
    return False


@contextmanager
def _folder_beside(target: Path, ending: str) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _claim(target, ending, lambda path: path.mkdir()) as folder:
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def _claim(target: Path, ending: str, create: Callable[[Path], None]) -> Iterator[Path]:
    """Create a hidden file or folder beside `target`, under the first name that no living process holds."""
    for number in itertools.count():
        middle = f".{number}" if number else ""
        path = target.with_name(f".{target.name}{middle}.{ending}")
        with ExitStack() as held:
            if not _try_create(path, create):
                continue
            try:
                if held.enter_context(_locked(path)) is False:
                    continue  # another process took it for a dead one's
            except FileNotFoundError:  # and has removed it
                continue
            yield path
            return


def _try_create(path: Path, create: Callable[[Path], None]) -> bool:
    """Create a path anew, replacing what a dead process left. Return False if it is in use."""
    try:
        create(path)
    except FileExistsError:
        if not _remove_stale(path):
            return False
        try:
            create(path)
        except FileExistsError:
            return False
    return True


def _remove_stale(path: Path) -> bool:
    """Remove a file or folder whose writer has died. Return False if it may be alive, or if it is neither."""
    try:
        with _locked(path) as locked:
            if not locked:
                return False
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError:  # a link, another user's, or already gone: try the next name
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[bool | None]:
    """Lock a regular file or a folder, and yield the result of `try_lock`.

    Raises:
        FileNotFoundError: the name is gone or belongs to something else now.
        OSError: the path is a link, or cannot be opened.
    """
    if not LOCKS:  # there, an open file could not be renamed
        yield None
        return
    handle = os.open(path, _LOOK)
    try:
        found = os.fstat(handle)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise OSError(f"{path} is neither a file nor a folder")
        locked = try_lock(handle)
        if not os.path.samestat(found, path.lstat()):
            raise FileNotFoundError(path)
        yield locked
    finally:
        unlock(handle)  # closing is not enough: a forked process has the file open too
        os.close(handle)


def _create_file(path: Path, mode: int | None) -> None:
    # The writer must be able to write it, whatever the permissions of the file that it replaces.
    os.close(os.open(path, _CREATE, 0o666 if mode is None else mode & 0o777 | 0o600))


def _mode(path: Path) -> int | None:
    """Return the permissions of a file or folder; None if it does not exist."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _keep_mode(path: Path, old: Path) -> None:
    """Give a path the permissions of the path that it replaces, if that exists and is of the same kind."""
    if (mode := _mode(old)) is not None and path.is_dir() == old.is_dir():
        path.chmod(mode)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _replace(aside: Path, target: Path) -> None:
    """Replace one folder by another, and remove the old one."""
    while True:
        with suppress(FileNotFoundError), _locked(target) as locked:
            # While locked, the old folder is not taken for a dead process's, whatever its name.
            if locked is not False:
                _exchange(aside, target)
                return
        time.sleep(0.01)  # another writer has just replaced it, and is about to release it


def _exchange(aside: Path, target: Path) -> None:
    if _swap_names(aside, target):
        shutil.rmtree(aside)
        return
    old = _old(target)
    shutil.rmtree(old, ignore_errors=True)  # `target` exists, so the old folder is no longer needed
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _swap_names(one: Path, other: Path) -> bool:
    """Exchange two names in one step. Return False if the system or the file system cannot."""
    if os.name != "posix":
        return False
    library = ctypes.CDLL(None)
    first, second = os.fsencode(one), os.fsencode(other)
    code = -1
    if hasattr(library, "renameat2"):  # Linux
        code = int(library.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE))
    elif hasattr(library, "renamex_np"):  # macOS
        code = int(library.renamex_np(first, second, _RENAME_SWAP))
    return code == 0  # on any error: the two renames will work, or report why not


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; otherwise a rename may overtake its content."""
    if os.name == "nt" and path.is_dir():  # Windows does not open folders
        return
    # Windows flushes only what is open for writing; elsewhere, a file may be read-only by now.
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
