"""Advisory locks on open files. The operating system releases a lock when its owner ends, even in a crash."""

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
"""True if the operating system has these locks. Windows does not."""

_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""Errors of file systems without locks. NFS reports EBADF for folders, which cannot be opened to write."""


def try_lock(handle: int) -> bool | None:
    """Lock an open file or folder, without waiting, until it is closed.

    Returns:
        True if it is locked now, False if another process holds the lock, None if locks are not supported.
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
    """Release the lock, even if a forked process still has the same file open."""
    if _fcntl is not None:
        try:
            _fcntl.flock(handle, _fcntl.LOCK_UN)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
