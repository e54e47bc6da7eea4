"""Real servers for tests: in a thread, or in a process of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from newsie import Classifier
from newsie.inference.student import Student
from newsie.serving.app import create_app
from newsie.serving.http.process import Server
from newsie.serving.http.protocol import LimitedProtocol
from newsie.serving.settings import Settings

ROOT = Path(__file__).parents[2]


def student_of(classifier: Classifier) -> Student:
    """What answers for a classifier that is no cascade."""
    assert isinstance(classifier._model, Student)
    return classifier._model


@dataclass
class Live:
    """A server that answers.

    Attributes:
        port: of 127.0.0.1.
        app: what it serves.
        server: uvicorn.
        lines: the lines of its log.
    """

    port: int
    app: FastAPI
    server: Server
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **headers: str) -> httpx.Client:
        headers = {"Content-Type": "application/json"} | headers
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def samples(self, name: str) -> dict[str, float]:
        return samples(self.app.state.service.metrics.render().decode(), name)

    def line(self, request_id: str) -> dict[str, Any]:
        """The line of a request, which is written after its answer."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for line in self.lines:
                if line.get("request_id") == request_id:
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no line of {request_id} in {self.lines}")


@contextmanager
def live(classifier: Classifier | None, **settings: Any) -> Iterator[Live]:
    """A server in a thread, with these settings and otherwise those of a test."""
    chosen = Settings(**{"drain_seconds": 0} | settings)
    lines: list[dict[str, Any]] = []
    app = create_app(classifier, chosen, log=lines.append)
    server = Server(app, chosen)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        wait_until(lambda: app.state.service.health.ready and server.started)
        yield Live(port, app, server, lines)
    finally:
        server.should_exit = True
        thread.join(
            20
        )  # before `shutdown_timeout_seconds` are over, while what holds it up is there
        assert not thread.is_alive(), _held_up_by(server, thread)


def _held_up_by(server: Server, thread: threading.Thread) -> str:
    """Why a server has not ended: its connections, its requests, and where its thread is."""
    connections = [
        {name: str(value) for name, value in vars(one).items() if name in _TELLING}
        | {"cycle": one.cycle and vars(one.cycle)}
        for one in list(server.server_state.connections)
        if isinstance(one, LimitedProtocol)
    ]
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame else ""
    return f"{connections}\n{server.server_state.tasks}\n{stack}"


_TELLING = ("client", "transport", "_in_headers", "_in_body", "_stopped", "pipeline")


def hold(classifier: Classifier, patch: pytest.MonkeyPatch) -> threading.Event:
    """Let the model answer only when the event is set."""
    go, run = threading.Event(), student_of(classifier)._session.run

    class Held:
        def run(self, *arguments: Any) -> object:
            assert go.wait(30)
            return run(*arguments)

    patch.setattr(student_of(classifier), "_session", Held())
    return go


@contextmanager
def process(
    *options: str, environment: dict[str, str] | None = None, max_files: int | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """`newsie serve` in a process of its own, ready: the process, its URL, its log."""
    variables = {name: v for name, v in os.environ.items() if not name.startswith("NEWSIE_")}
    command = [sys.executable, "-m", "newsie", "serve", "--port", "0", *options]
    if max_files is not None:
        command = ["sh", "-c", f'ulimit -n {max_files} && exec "$@"', "sh", *command]
    with tempfile.NamedTemporaryFile() as log:
        started = subprocess.Popen(
            command, cwd=ROOT, env=variables | (environment or {}), stderr=log
        )
        path = Path(log.name)
        try:
            url = _url(started, path)
            wait_until(lambda: _is_ready(url), 60)
            yield started, url, path
        finally:
            if started.poll() is None:
                started.send_signal(signal.SIGTERM)
                try:
                    started.wait(20)
                except subprocess.TimeoutExpired:
                    started.kill()
                    started.wait()


def _url(started: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end and started.poll() is None:
        if found := re.search(r"newsie: (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url + "/health/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


def samples(text: str, name: str) -> dict[str, float]:
    """The samples of a metric: labels as they are written -> value."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def exchange(
    port: int, sent: bytes | Sequence[bytes], *, pause: float = 0, wait: float = 20
) -> bytes:
    """What a server answers to raw bytes, until it closes the connection or says nothing more."""
    pieces = [sent] if isinstance(sent, bytes) else sent
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while data := connection.recv(65_536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


def post(
    path: str, body: bytes, *headers: str, content_type: str | None = "application/json"
) -> bytes:
    """A request whose connection is closed after it."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        *([f"Content-Type: {content_type}"] if content_type else []),
        *(headers or (f"Content-Length: {len(body)}",)),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def code_of(answer: bytes) -> int:
    """The code of the first answer."""
    return int(answer.split(b" ", 2)[1])


def codes_of(answers: bytes) -> list[int]:
    """The codes of answers that came one after the other."""
    return [code_of(part) for part in answers.split(b"HTTP/1.1")[1:] if part[:1] == b" "]


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()
