"""Several processes on one port.

The first process opens the port, starts the others, passes SIGTERM, SIGINT and SIGHUP on to them, and
starts again what died. It loads no model, so that it can fork without harm. The workers share a directory:
their metrics, which are added up, the name of the model that was chosen last, and whether one was loaded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from newsie.errors import InputError, NewsieError
from newsie.serving.sharing import forget_worker

__all__ = ["BACKLOG", "READY", "SHARED_VARIABLE", "Workers"]

SHARED_VARIABLE = "NEWSIE_WORKERS_DIR"
"""Tells workers which directory they share; set by `Workers` only."""

READY = "ready"
"""A file in that directory, from when a worker has loaded a model. A worker that cannot load one before ends
all, since none could; later, it is tried again and the others go on."""

MEMORY = "/dev/shm"
"""A file system in memory that Linux has, also where the root is read-only."""

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
BACKLOG = 2_048
PAUSE_SECONDS = 0.5
"""Before a worker that died is started again."""


class Workers:
    """Worker processes and the one that looks after them.

    Args:
        count: how many.
        listener: the port they share.
        work: what each does; it returns when it is told to end.
    """

    def __init__(self, count: int, listener: socket.socket, work: Callable[[], None]) -> None:
        self._count, self._listener, self._work = count, listener, work
        self._running: set[int] = set()
        self._ending = self._failed = False
        self._shared = Path()

    def run(self) -> None:
        """Until SIGTERM or SIGINT, and all workers have ended.

        Raises:
            InputError: there is no place for the directory that workers share.
            NewsieError: a worker could not start; it has said why.
        """
        self._shared = _make_shared()
        os.environ[SHARED_VARIABLE] = os.environ[METRICS_VARIABLE] = str(self._shared)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, self._pass_on)
        try:
            for _ in range(self._count):
                self._start()
            while self._running:
                self._wait()
        finally:
            shutil.rmtree(self._shared, ignore_errors=True)
        if self._failed:
            raise NewsieError("a worker could not start, so all have ended")

    def _start(self) -> None:
        """Start a worker, unless the end has begun: a signal comes before all this or after it."""
        handled = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        if not self._ending:
            self._fork(handled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)

    def _fork(self, handled: set[signal.Signals]) -> None:
        self._listener.listen(BACKLOG)  # a worker that was ended by itself has set it to 0
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # Ctrl-C reaches the first process only, which passes on one signal
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the worker handles it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
            os._exit(_code_of(self._work))
        self._running.add(pid)

    def _wait(self) -> None:
        pid, status = os.wait()
        self._running.discard(pid)
        _forget_gauges(pid)
        forget_worker(self._shared, pid)
        if self._ending:
            return
        refused = os.WIFEXITED(status) and os.WEXITSTATUS(status) == NewsieError.exit_code
        if refused and not (self._shared / READY).exists():
            self._failed = True
            self._end(signal.SIGTERM)
        else:
            time.sleep(PAUSE_SECONDS)
            self._start()

    def _end(self, number: int, frame: FrameType | None = None) -> None:
        if self._ending:
            self._send(signal.SIGKILL)
            os._exit(128 + number)
        self._ending = True
        self._listener.close()  # the workers have it too, and the last of them closes it in good order
        self._send(signal.SIGTERM)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._send(number)

    def _send(self, number: int) -> None:
        for pid in tuple(self._running):
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.kill(pid, number)


def _make_shared() -> Path:
    """A directory for small files: the usual temporary one, or else one in memory.

    Raises:
        InputError: nothing can be written anywhere.
    """
    places = [None, MEMORY, os.environ.get("XDG_RUNTIME_DIR") or MEMORY]
    for place in places:
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="newsie-", dir=place))
    raise InputError(
        "several workers share a small directory, and neither the temporary directory nor "
        f"{MEMORY} can be written; set TMPDIR to a directory that can, or use --workers 1"
    )


def _code_of(work: Callable[[], None]) -> int:
    """Do the work of a worker and give its exit code."""
    try:
        work()
        return 0
    except NewsieError as error:
        print(f"newsie: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException as error:  # a forked process must not go on with its parent's code
        print(f"newsie: worker: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 70  # EX_SOFTWARE


def _forget_gauges(pid: int) -> None:
    """What a worker that has ended says of itself; what it counted stays."""
    for path in Path(os.environ[METRICS_VARIABLE]).glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)
