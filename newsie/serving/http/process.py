"""One serving process, from its start to the last response."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import prometheus_client
import uvicorn
from fastapi import FastAPI

from newsie.errors import BundleError, NewsieError
from newsie.serving.app import create_app
from newsie.serving.http.protocol import LimitedProtocol
from newsie.serving.http.workers import BACKLOG, SHARED_VARIABLE
from newsie.serving.loading import is_loading
from newsie.serving.logs import EventHandler, place_of, write_line
from newsie.serving.service import Service
from newsie.serving.settings import Settings

__all__ = ["Server", "give_back_memory", "run"]

LINGER_SECONDS = 1.0
"""The time at shutdown that connections opened at the last moment may take to send a request."""

OPENED = "opened"
"""The name of a file in the shared directory that exists once a worker has opened the port."""

M_MMAP_THRESHOLD = -3
"""The parameter of mallopt from glibc's malloc.h."""

OWN_MAPPING_BYTES = 128 * 1024
"""The initial threshold of glibc."""

OTHER_FILES = 128
"""The number of open files of a process beside its connections, including connections being refused."""

ACCEPTED_AT_ONCE = 16
"""The number of connections accepted in one turn of the event loop. Refusing excess connections takes three
more turns, and until then each holds a file."""

WITHOUT_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SILENT_SECONDS = 60.0
"""The time before a lack of files is logged again. asyncio tries to accept connections once a second."""


def run(settings: Settings, listener: socket.socket) -> None:
    """Serve on a socket until SIGTERM or SIGINT.

    Raises:
        NewsieError: the model cannot be loaded.
    """
    _send_events_to_log()
    settings = settings.model_copy(
        update={"max_connections": _allow_connections(settings.max_connections)}
    )
    give_back_memory()
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    app = create_app(None, settings)
    app.openapi()  # built once now, so that no request waits for it
    server = Server(app, settings)
    # The objects that exist now are permanent. Without this, each full collection scans them and blocks the
    # event loop for 60 ms.
    gc.collect()
    gc.freeze()
    server.run(sockets=[listener])
    if is_loading():
        _leave(server.error)
    if server.error is not None:
        raise server.error


def _leave(error: NewsieError | None) -> NoReturn:
    """End the process at once. A thread that never ends, inside a C++ library, would abort a normal exit."""
    if error is not None:
        print(f"newsie: {error}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(0 if error is None else error.exit_code)


class Server(uvicorn.Server):
    """uvicorn's server with limits to connections, an orderly shutdown, and reloading on SIGHUP.

    After the first SIGTERM or SIGINT, `/health/ready` returns 503. For `drain_seconds` requests are accepted
    as before, and each connection is closed after its response. Then no more are accepted, and the process
    exits with code 0 once all are answered. A second signal ends the process at once.

    Args:
        app: the app from `create_app`.
        settings: settings of the server.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.service: Service = app.state.service
        self.error: NewsieError | None = None
        self._settings, self._app = settings, app
        self._drained_at: float | None = None
        self._parent = os.getppid() if SHARED_VARIABLE in os.environ else None
        self._loading: asyncio.Task[None] | None = None
        self._silent_until = float("-inf")
        protocol = functools.partial(LimitedProtocol, settings=settings, refused=self._refused)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=cast(Any, protocol),
                ws="none",
                # uvloop accepts one connection a turn, so that hundreds at once would wait for seconds.
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=ACCEPTED_AT_ONCE,
                timeout_keep_alive=cast(int, settings.keep_alive_seconds),
                timeout_graceful_shutdown=cast(int, settings.shutdown_timeout_seconds),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port and load the model, or load first if other workers serve. Called by uvicorn."""
        if _is_late_worker():
            await self._load_first()
            if self.should_exit:
                return
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # uvicorn has made the queue as short as ACCEPTED_AT_ONCE
        asyncio.get_running_loop().set_exception_handler(self._note_fault)
        if hasattr(signal, "SIGHUP") and self._is_main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        if self.service.current is None:
            self._loading = asyncio.create_task(self._load_first())

    def reload(self) -> None:
        """Reload the model. If that fails, the old one stays."""
        self._loading = asyncio.create_task(self._reload())

    def handle_exit(self, sig: int, frame: FrameType | None = None) -> None:
        """Begin to drain, or end the process on a second signal. Called by uvicorn on SIGTERM and SIGINT."""
        if self._drained_at is not None:
            os._exit(128 + sig)
        self.service.health.drain()
        self._drained_at = time.monotonic() + self._settings.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Return True if the server should exit. Called by uvicorn ten times a second."""
        orphaned = self._parent is not None and os.getppid() != self._parent
        if orphaned and self._drained_at is None:
            self.handle_exit(signal.SIGTERM)  # the parent of this worker has ended
        if self._drained_at is not None and time.monotonic() >= self._drained_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and answer those that are open. Called by uvicorn."""
        self.service.health.drain()
        loop = asyncio.get_running_loop()
        # Closing a port resets the connections that are not accepted yet. So the loop releases it first,
        # the waiting connections are accepted here, and the last copy is closed at once.
        kept = [listener.dup() for listener in sockets or ()]
        for server in self.servers:
            server.close()
        last = [connection for listener in kept for connection in _take_last(listener)]
        for connection in last:
            await loop.connect_accepted_socket(self._connect, connection)
        end = time.monotonic() + LINGER_SECONDS
        await asyncio.sleep(0)  # connections that the loop has accepted are known a turn later
        while self._has_new_connections() and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
        for one in list(self.server_state.connections):
            cast(Any, one).transport.abort()  # clients that do not read are waited for no longer

    def _connect(self) -> asyncio.Protocol:
        """Return a new protocol, as uvicorn creates for connections that its loop accepts."""
        make = cast(Any, self.config.http_protocol_class)
        protocol: asyncio.Protocol = make(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        return protocol

    def _has_new_connections(self) -> bool:
        """Return True if a connection has not sent a request yet."""
        return any(cast(Any, one).cycle is None for one in self.server_state.connections)

    def _is_main_thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    async def _load_first(self) -> None:
        try:
            await self._app.state.swapper.reload()
        except NewsieError as error:
            self.error, self.should_exit = error, True
        except Exception as error:  # a server that loads forever would look healthy
            self.error = BundleError(f"the model cannot be loaded: {place_of(error)}")
            self.should_exit = True

    async def _reload(self) -> None:
        try:
            changed = await self._app.state.swapper.reload()
        except NewsieError as error:
            write_line({"level": "error", "event": "model not loaded", "why": str(error)})
        except Exception as error:
            write_line({"level": "error", "event": "model not loaded", "fault": place_of(error)})
        else:
            if not changed:
                write_line({"event": "the model is the same"})

    def _note_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error that no task receives. Called by asyncio."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in WITHOUT_FILES):
            loop.default_exception_handler(context)
        elif loop.time() >= self._silent_until:
            self._silent_until = loop.time() + SILENT_SECONDS
            write_line(
                {
                    "level": "error",
                    "event": "no more files can be opened, so new connections wait; raise the limit of "
                    "open files (ulimit -n), or lower max_connections",
                    "why": os.strerror(error.errno),
                }
            )

    def _refused(self, code: int, reason: str) -> None:
        """Count and log a connection that was refused before a route saw a request."""
        self.service.metrics.answered("other", "other", code, 0.0, reason)
        write_line({"route": "other", "code": code, "refused": reason})


def _is_late_worker() -> bool:
    """Return True if another worker has opened the port, so that this one must load its model first."""
    shared = os.environ.get(SHARED_VARIABLE)
    if shared is None:
        return False
    try:
        (Path(shared) / OPENED).touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def _take_last(listener: socket.socket) -> list[socket.socket]:
    """Close a port and return the connections that were waiting to be accepted."""
    taken = []
    with listener:
        listener.listen(0)  # the queue accepts at most one more
        listener.setblocking(False)
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:  # no more connections
                break
    return taken


def _send_events_to_log() -> None:
    """Send the log records of uvicorn and asyncio to the log."""
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [EventHandler()], False
        logger.setLevel(logging.INFO if name == "uvicorn.error" else logging.WARNING)


def _allow_connections(count: int) -> int:
    """Raise this process's limit of open files, as far as permitted, to serve `count` connections.

    Returns:
        The number of connections that the limit allows, at most `count`.
    """
    if sys.platform == "win32":
        return count
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return count
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    allowed = max(1, min(count, most - OTHER_FILES))
    if allowed < count:
        event = f"at most {allowed} connections: this process may open only {most:,} files"
        write_line({"level": "warning", "event": event})
    return allowed


def give_back_memory() -> None:
    """Return freed blocks of 128 KiB and more to the system at once, permanently.

    By default, glibc raises this threshold to the largest block freed so far. The arrays of a batch then lie
    among small blocks, which fragment the heap: under load it grew by 0.25 MB a minute, all of it free
    (mallopt(3), M_MMAP_THRESHOLD). Other C libraries have no such setting.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)
