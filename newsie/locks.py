"""Advisory locks on open files. The operating system releases a lock when its owner ends, however it ends."""

from __future__ import annotations

import errno
from importlib import import_module
from typing import Any

__all__ = ["LOCKS", "try_lock", "unlock"]

try:
    _fcntl: Any = import_module("fcntl")
except ImportError:  # Windows
    _fcntl = None

LOCKS = _fcntl is not None
"""True where the operating system has these locks: everywhere but on Windows."""

_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""Errors of file systems without locks. NFS says EBADF of a folder, which cannot be opened for writing."""


def try_lock(handle: int) -> bool | None:
    """Lock an open file or folder, without waiting, until it is closed.

    Returns:
        True if it is locked now, False if somebody else holds the lock, None if there are no locks here.
    """
    if _fcntl is None:
        return None
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return None
    return True


def unlock(handle: int) -> None:
    """Release the lock, also where a process that was forked off still has the same file open."""
    if _fcntl is not None:
        try:
            _fcntl.flock(handle, _fcntl.LOCK_UN)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
