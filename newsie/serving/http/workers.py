"""Worker processes that share one port.

The parent process opens the port, starts the workers, passes SIGTERM, SIGINT and SIGHUP on to them, and
restarts those that die. It loads no model, so that it can fork safely. The workers share a directory with
their metrics, which are added up, the model that was chosen last, and a mark once a model was loaded.
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
"""The variable with the directory that workers share. Only `Workers` sets it."""

READY = "ready"
"""The name of a file in that directory that exists once a worker has loaded a model. If a worker fails
before, all workers end, since none could load the model. If one fails later, it is restarted."""

MEMORY = "/dev/shm"
"""A file system in memory on Linux, writable even if the root is read-only."""

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
BACKLOG = 2_048
PAUSE_SECONDS = 0.5
"""The pause before a worker that died is restarted."""


class Workers:
    """The worker processes, as managed by their parent.

    Args:
        count: number of workers.
        listener: the shared port.
        work: function that each worker runs; it returns after SIGTERM.
    """

    def __init__(self, count: int, listener: socket.socket, work: Callable[[], None]) -> None:
        self._count, self._listener, self._work = count, listener, work
        self._running: set[int] = set()
        self._ending = self._failed = False
        self._shared = Path()

    def run(self) -> None:
        """Run the workers until SIGTERM or SIGINT, and wait until all have ended.

        Raises:
            InputError: the shared directory cannot be created.
            NewsieError: a worker could not start; it has printed the reason.
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
        """Start a worker, unless the end has begun. Signals are blocked meanwhile."""
        handled = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        if not self._ending:
            self._fork(handled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)

    def _fork(self, handled: set[signal.Signals]) -> None:
        self._listener.listen(BACKLOG)  # a worker that was ended on its own has set it to 0
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # Ctrl-C reaches only the parent, which passes on one signal
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
        self._listener.close()  # the workers have it too, and the last one closes it properly
        self._send(signal.SIGTERM)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._send(number)

    def _send(self, number: int) -> None:
        for pid in tuple(self._running):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, number)


def _make_shared() -> Path:
    """Create a directory for small files, in the usual temporary place or else in memory.

    Raises:
        InputError: no place is writable.
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
    """Do the work of a worker and return its exit code."""
    try:
        work()
        return 0
    except NewsieError as error:
        print(f"newsie: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException as error:  # a forked process must not continue in its parent's code
        print(f"newsie: worker: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 70  # EX_SOFTWARE


def _forget_gauges(pid: int) -> None:
    """Remove the gauges of a worker that has ended. Its counters stay."""
    for path in Path(os.environ[METRICS_VARIABLE]).glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)
