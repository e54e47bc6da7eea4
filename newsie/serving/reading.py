"""Reading of files, each in a separate process that can be stopped. See `newsie.serving.read_file`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict

import orjson

from newsie.printable import one_line
from newsie.serving.http_errors import RefusedError
from newsie.serving.logs import note
from newsie.serving.read_file import Outcome, Task
from newsie.serving.settings import Settings

__all__ = ["FileReader"]

COMMAND = ("-P", "-m", "newsie.serving.read_file")
"""The arguments of the process. With `-P`, no module of the working directory shadows an installed one."""

UNPACKED = 4
"""The maximum size of an unpacked file, and of a response, as a multiple of the maximum size of a file."""

MEMORY, OWN_MEMORY_BYTES = 10, 800_000_000
"""The address space of the process: this multiple of the largest unpacked file, plus a constant. Reading JSON
reserves more than 500 MB before it knows the size of the file, and the libraries take 100 MB."""

PIECE_BYTES = 65_536
"""The number of bytes written to the process or read from it at once."""

SHOWN_FAULT_BYTES = 1_000


class FileReader:
    """Reads one file at a time, each in a new process.

    Args:
        settings: settings of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Semaphore(1)

    async def read(self, body: bytes, name: str, columns: Mapping[str, str]) -> bytes:
        """Return the articles of a file as JSON. Cancelling kills the process.

        Raises:
            RefusedError: the file cannot be read within the limits, or other files took too long.
        """
        task = self._task(name, columns)
        async with self._own_turn(), _process() as process:
            try:
                async with asyncio.timeout(task.max_seconds):
                    answer, said = await _exchange(process, task, body)
                    code = await process.wait()
            except TimeoutError:
                raise _too_slow() from None
        line, _, rest = answer.partition(b"\n")
        if code or not line:
            raise _crashed(code, said)
        outcome = Outcome(**orjson.loads(line))
        if outcome.fault:
            note(fault=outcome.fault)
        if outcome.status != 200:
            raise RefusedError(outcome.status, outcome.reason, outcome.message)
        return rest

    def _task(self, name: str, columns: Mapping[str, str]) -> Task:
        unpacked = UNPACKED * self._settings.max_file_bytes
        return Task(
            name=name,
            columns=columns,
            max_bytes=unpacked,
            max_rows=self._settings.max_file_rows,
            max_characters=self._settings.max_article_characters,
            max_memory_bytes=MEMORY * unpacked + OWN_MEMORY_BYTES,
            max_seconds=self._settings.request_timeout_seconds,
        )

    @asynccontextmanager
    async def _own_turn(self) -> AsyncIterator[None]:
        """Wait until no other file is being read, for at most the time of a request."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                await self._turn.acquire()
        except TimeoutError:
            raise RefusedError(
                503,
                "busy_reading",
                "other files are being read; try again later",
                {"Retry-After": "1"},
            ) from None
        try:
            yield
        finally:
            self._turn.release()


@asynccontextmanager
async def _process() -> AsyncIterator[Process]:
    """Start a process that reads a file. It is killed when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *COMMAND, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment()
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()  # drains the pipes, which would stay open otherwise


def _environment() -> dict[str, str]:
    """Return the variables of the process: the same modules as here, one thread, and no key."""
    kept = {n: v for n, v in os.environ.items() if not n.upper().startswith("NEWSIE_")}
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return kept | one | {"PYTHONPATH": paths}


async def _exchange(process: Process, task: Task, body: bytes) -> tuple[bytes, bytes]:
    """Send the file. Return the standard output and the beginning of the standard error."""
    assert process.stdout is not None
    assert process.stderr is not None
    most = task.max_bytes + PIECE_BYTES
    async with asyncio.TaskGroup() as group:
        group.create_task(_send(process, task, body))
        said = group.create_task(_take(process.stderr, SHOWN_FAULT_BYTES))
        answer = await _take(process.stdout, most)
        if len(answer) > most:
            process.kill()
    if len(answer) > most:
        raise RefusedError(
            413,
            "answer",
            "the articles of this file are too large for one answer; send a part of it",
        )
    return answer, said.result()


async def _send(process: Process, task: Task, body: bytes) -> None:
    assert process.stdin is not None
    # A process that has ended or needs no more input closes the pipe. Its outcome gives the reason.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(orjson.dumps(asdict(task)) + b"\n")
        view = memoryview(body)
        for start in range(0, len(body), PIECE_BYTES):
            process.stdin.write(view[start : start + PIECE_BYTES])
            await process.stdin.drain()
    process.stdin.close()


async def _take(stream: asyncio.StreamReader, most: int) -> bytes:
    """Return the bytes of a stream, up to the first piece beyond the limit."""
    pieces, size = [], 0
    while size <= most and (piece := await stream.read(PIECE_BYTES)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _too_slow() -> RefusedError:
    return RefusedError(504, "timeout", "the file takes too long to read; send a part of it")


def _crashed(code: int, said: bytes) -> RefusedError:
    """Return the refusal for a process that ended without an outcome."""
    note(fault=one_line(f"exit code {code}: {said.decode(errors='replace')[:SHOWN_FAULT_BYTES]}"))
    if sys.platform != "win32":
        if code == -signal.SIGXCPU:
            return _too_slow()
        if code == -signal.SIGKILL:  # the system does this if memory runs out
            return RefusedError(413, "memory", "the system stopped the reading; send a part of it")
    return RefusedError(
        500,
        "internal",
        "the process that reads files ended early; if it does so again, report the request id",
    )
