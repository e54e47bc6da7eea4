"""The server: opens the port and runs one process or several until SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from newsie.errors import InputError
from newsie.serving.http.workers import BACKLOG
from newsie.serving.logs import write_line
from newsie.serving.settings import Settings, find_slips

__all__ = ["serve"]


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, in one process or several.

    Raises:
        InputError: the port cannot be opened, or a setting cannot be used.
        BundleError: the model cannot be loaded.
    """
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a model to reload
    settings.read_keys()  # fails before anything starts
    for name, meant in find_slips(os.environ).items():
        event = f"{name} is not a setting and changes nothing; is {meant} meant?"
        write_line({"level": "warning", "event": event})
    if settings.models_dir is not None and not settings.models_dir.is_dir():
        raise InputError(f"models_dir {settings.models_dir} is not a directory")
    if settings.workers > 1 and not hasattr(os, "fork"):
        raise InputError("several workers need a system that can fork; start several servers")
    with _listen(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        loading = "loading the model; answers wait until it is ready"
        print(f"newsie: http://{shown}:{port} ({loading})", file=sys.stderr, flush=True)
        if settings.workers == 1:
            _work(settings, listener)
            return
        from newsie.serving.http.workers import Workers

        settings = settings.model_copy(update={"threads": settings.threads_of_a_worker()})
        Workers(settings.workers, listener, lambda: _work(settings, listener)).run()


def _work(settings: Settings, listener: socket.socket) -> None:
    # Imported here: workers fork before any library with threads is loaded, and before the metrics choose
    # where to count.
    from newsie.serving.http.process import run

    run(settings, listener)


def _listen(host: str, port: int) -> socket.socket:
    try:
        host.encode("idna")
        listener = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
        )
        # Its connections inherit it. asyncio sets it only if the protocol is named, which create_server does
        # not do. Without it, a response waits 40 ms for the client's delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except UnicodeError as error:
        raise InputError(
            f"{host!r:.80} is not the name of a host; give --host a name or an address such as 127.0.0.1"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot listen at {host}, port {port}: {error.strerror}; choose another --port, or end "
            "what listens there"
        ) from error
