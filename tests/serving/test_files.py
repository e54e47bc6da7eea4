"""Servers that may open few files, and clients that open more connections than these allow."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from newsie.serving.process import OTHER_FILES
from tests.serving.live import code_of, exchange, process, wait_until

LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
FILES = 300

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sets the limits of a process")


@contextlib.contextmanager
def connections(url: str, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(url)), 10))
            for _ in range(count)
        ]


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def events(log: Path, part: str) -> list[str]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [event for line in lines if part in (event := str(line.get("event", "")))]


def files_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_connections_are_refused_before_there_are_no_more_files() -> None:
    with process(max_files=FILES) as (server, url, log):
        assert events(log, f"at most {FILES - OTHER_FILES} connections")
        with connections(url, FILES + 200) as held:
            wait_until(lambda: log.read_text().count('"refused":"connections"') > 200, 20)
            first = held[0]
            first.sendall(LIVE)
            assert code_of(first.recv(1_000)) == 200
            assert held[-1].recv(12) == b"HTTP/1.1 503"
            assert files_of(server.pid) < FILES
        wait_until(lambda: files_of(server.pid) < OTHER_FILES)
        assert code_of(exchange(port_of(url), LIVE)) == 200
        assert not events(log, "no more files")
        assert len(log.read_bytes()) < 300 * 400


def test_a_lack_of_files_is_said_once_and_ends() -> None:
    with process() as (server, url, log):
        before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        few = files_of(server.pid) + 5
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (few, before[1]))
        with connections(url, 40):
            wait_until(lambda: events(log, "no more files can be opened"))
            size = len(log.read_bytes())
            time.sleep(2.5)  # asyncio tries again once a second
            assert len(log.read_bytes()) - size < 1_000
            assert len(events(log, "no more files can be opened")) == 1
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
            assert code_of(exchange(port_of(url), LIVE)) == 200
