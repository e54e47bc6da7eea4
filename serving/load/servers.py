"""Servers in processes of their own, on free ports of the loopback interface."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT

__all__ = ["Server", "family", "scrape", "start_newsie", "start_one_by_one", "start_watched"]

START_SECONDS = 60.0
STOP_SECONDS = 60.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Server:
    """A server that is running.

    Attributes:
        port: of 127.0.0.1.
        process: its first process.
    """

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def memory_bytes(self) -> int:
        """Resident memory of all its processes."""
        return sum(_resident_bytes(pid) for pid in family(self.process.pid))

    def cpu_seconds(self) -> float:
        """Processor time that all its processes have taken so far."""
        return sum(_cpu_seconds(pid) for pid in family(self.process.pid))

    def is_running(self) -> bool:
        """Whether its first process has not ended."""
        return self.process.poll() is None


@contextmanager
def start_newsie(model: Path | None, options: Sequence[str] = ()) -> Iterator[Server]:
    """`newsie serve`, ready; ended at the end, where an exit code other than 0 is an error."""
    port = _free_port()
    model_options = [] if model is None else ["--model", str(model)]
    command = [sys.executable, "-m", "newsie", "serve", "--port", str(port), *model_options]
    with _start([*command, *options], port, "/health/ready", {}) as server:
        yield server
    if server.process.returncode != 0:
        raise RuntimeError(f"newsie serve ended with exit code {server.process.returncode}")


@contextmanager
def start_watched(model: Path | None, report: Path) -> Iterator[Server]:
    """`serving.load.watched`, ready; at its end, the report is there."""
    port = _free_port()
    model_options = [] if model is None else ["--model", str(model)]
    command = [sys.executable, "-m", "serving.load.watched", str(report), "--port", str(port)]
    with _start([*command, *model_options], port, "/health/ready", {}) as server:
        yield server


@contextmanager
def start_one_by_one(model: Path | None) -> Iterator[Server]:
    """`serving.load.one_by_one` under uvicorn, ready."""
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "serving.load.one_by_one:app"]
    command += ["--port", str(port), "--log-level", "warning"]
    environment = {} if model is None else {"NEWSIE_MODEL": str(model)}
    with _start(command, port, "/openapi.json", environment) as server:
        yield server


def scrape(server: Server, name: str) -> dict[str, float]:
    """The samples of one metric: labels as they are written -> value."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {labels: float(value) for found, labels, value in _SAMPLE.findall(text) if found == name}


@contextmanager
def _start(
    command: Sequence[str], port: int, path: str, environment: dict[str, str]
) -> Iterator[Server]:
    variables = {name: v for name, v in os.environ.items() if not name.startswith("NEWSIE_")}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(port, process)
    try:
        _wait_until_ready(server, path)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Server, path: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.is_running():
        try:
            with urllib.request.urlopen(server.url + path, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"{' '.join(map(str, server.process.args))}: not ready")  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def family(pid: int) -> Iterator[int]:
    """A process and all that it started, as Linux tells."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except FileNotFoundError:  # it has just ended
        return 0


def _cpu_seconds(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:  # it has just ended
        return 0
    user, system = stat.rpartition(")")[2].split()[11:13]  # proc(5); a name may hold blanks
    return (int(user) + int(system)) / _TICKS_PER_SECOND
