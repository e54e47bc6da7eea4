"""Fuzzing of `newsie serve` with bodies of JSON and of what is nearly JSON, on this machine only.

    python -m serving.load.fuzz                     # 100,000 requests; about 10 minutes
    python -m serving.load.fuzz --requests 1000 --seed 7

While the requests are answered, another process asks for liveness, and the server times each callback of its
event loop. The result goes to serving/load/results. The exit code is 1 where a request got no answer or the
code 500, where a callback held the loop longer than 50 ms, or where the 99th percentile of liveness is above
100 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import circumstances, without_folders, write_report
from serving.load.grammar import draw_request
from serving.load.servers import start_watched

__all__ = ["Answers", "fuzz", "problems_of"]

RESULTS = Path(__file__).parent / "results"
MAX_BLOCK_SECONDS, MAX_LIVE_SECONDS = 0.05, 0.1
LIVE_PAUSE_SECONDS = 0.01
ANSWER_SECONDS = 60.0
PACKAGES = ("fastapi", "uvicorn", "orjson", "pydantic")


@dataclass
class Answers:
    """What was answered.

    Attributes:
        codes: code -> how often.
        of_kind: "kind: code" -> how often.
        unanswered: requests that got no answer, with the kind of each.
        longest_seconds: the longest time from a request to its answer.
    """

    codes: Counter[int] = field(default_factory=Counter)
    of_kind: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0


def fuzz(requests: int, *, seed: int, connections: int, model: Path | None) -> dict[str, Any]:
    """Start a server, send it requests, and say what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "loop.json"
        with (
            start_watched(model, report) as server,
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        ):
            _wait_for(pool.submit(send, server.port, 20, seed=seed - 1, connections=1), server.port)
            server.process.send_signal(signal.SIGUSR1)
            began = time.perf_counter()
            sending = pool.submit(send, server.port, requests, seed=seed, connections=connections)
            live = np.array(_wait_for(sending, server.port))
            took = time.perf_counter() - began
            answers, is_running = sending.result(), server.is_running()
        loop = json.loads(report.read_text("utf-8"))
    p50, p99, worst = map(float, np.quantile(live, [0.5, 0.99, 1]))
    return {
        "requests": requests,
        "seed": seed,
        "connections": connections,
        "seconds": round(took, 1),
        "codes": {str(code): count for code, count in sorted(answers.codes.items())},
        "of_kind": dict(sorted(answers.of_kind.items())),
        "unanswered": answers.unanswered,
        "longest_answer_seconds": answers.longest_seconds,
        "server_is_running": is_running,
        "loop": loop,
        "live": {"asked": len(live), "p50": p50, "p99": p99, "longest": worst},
    }


def problems_of(result: dict[str, Any]) -> list[str]:
    """What is wrong with a result; nothing if all is well."""
    longest, p99 = result["loop"]["longest"], result["live"]["p99"]
    answered = sum(result["codes"].values())
    checks = {
        "the server has ended": not result["server_is_running"],
        f"{result['requests'] - answered} requests without an answer": answered
        != result["requests"],
        "the code 500 was answered": "500" in result["codes"],
        f"a callback held the loop for {1000 * longest:.1f} ms": longest > MAX_BLOCK_SECONDS,
        f"liveness took {1000 * p99:.1f} ms (p99)": p99 > MAX_LIVE_SECONDS,
    }
    return [problem for problem, is_so in checks.items() if is_so]


def _wait_for(sending: Future[Answers], port: int) -> list[float]:
    """Until all requests are sent: how long each question for liveness took, in seconds."""
    times = []
    with closing(HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)) as connection:
        while not sending.done():
            began = time.perf_counter()
            connection.request("GET", "/health/live")
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - began)
            if answer.status != 200:
                raise RuntimeError(f"asked for liveness, the server answers {answer.status}")
            time.sleep(LIVE_PAUSE_SECONDS)
    return times


def send(port: int, requests: int, *, seed: int, connections: int) -> Answers:
    """Send requests from a grammar over connections that are kept, each waiting for its answers."""
    answers = Answers()
    shares = [requests // connections + (n < requests % connections) for n in range(connections)]

    async def run() -> None:
        await asyncio.gather(
            *(
                _client(port, n, random.Random(seed * 1_000 + k), answers)
                for k, n in enumerate(shares)
            )
        )

    asyncio.run(run())
    return answers


async def _client(port: int, requests: int, chance: random.Random, answers: Answers) -> None:
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for _ in range(requests):
        kind, content = draw_request(chance)
        streams = streams or await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        try:
            code, is_kept = await asyncio.wait_for(_ask(*streams, content), ANSWER_SECONDS)
        except (OSError, EOFError, TimeoutError) as error:
            answers.unanswered.append(f"{kind}: {type(error).__name__}")
            is_kept = False
        else:
            answers.codes[code] += 1
            answers.of_kind[f"{kind}: {code}"] += 1
        answers.longest_seconds = max(answers.longest_seconds, time.perf_counter() - began)
        if not is_kept:
            streams[1].close()
            streams = None
    if streams is not None:
        streams[1].close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes
) -> tuple[int, bool]:
    """The code of the answer, and whether the connection is kept.

    The answer to a body that is too large comes while it is still being sent.
    """
    sending = asyncio.ensure_future(_write(writer, content))
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        is_kept = sending.done() and b"\r\nconnection: close" not in head
        return int(head[9:12]), is_kept
    finally:
        sending.cancel()


async def _write(writer: asyncio.StreamWriter, content: bytes) -> None:
    try:
        writer.write(content)
        await writer.drain()
    except OSError:
        return  # the server reads no more; the answer says why


def text_of(result: dict[str, Any]) -> str:
    """A result as Markdown."""
    loop, live = result["loop"], result["live"]
    codes = ", ".join(f"{code}: {count:,}" for code, count in result["codes"].items())
    over = ", ".join(f"{bound} ms: {count:,}" for bound, count in loop["over_ms"].items())
    cpu = ", ".join(f"{bound} ms: {count:,}" for bound, count in loop["cpu_over_ms"].items())
    return (
        f"# newsie serve and {result['requests']:,} bodies from a grammar of JSON\n\n"
        f"- {result['connections']} connections, {result['seconds']:,.0f} s; seed {result['seed']}\n"
        f"- answers by code: {codes}; none: {len(result['unanswered'])}\n"
        f"- the loop was held longest for {1000 * loop['longest']:.1f} ms, by {loop['longest_name']}; "
        f"by processor time for {1000 * loop['longest_cpu']:.1f} ms\n"
        f"- of {loop['callbacks']:,} callbacks, longer than: {over}; by processor time: {cpu}\n"
        f"- liveness, asked {live['asked']:,} times: p50 {1000 * live['p50']:.1f} ms, p99 "
        f"{1000 * live['p99']:.1f} ms, longest {1000 * live['longest']:.1f} ms\n\n"
        + "".join(f"**Wrong: {problem}.**\n\n" for problem in problems_of(result))
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz and report; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m serving.load.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--model", type=Path, default=None, help="a bundle (default: the bundled)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(given)
    report = circumstances("fuzz", given)
    report["command"] = " ".join(["python -m serving.load.fuzz", *map(without_folders, given)])
    report["sides"] = {"server": {"packages": {name: version(name) for name in PACKAGES}}}
    result = fuzz(
        options.requests,
        seed=options.seed,
        connections=options.connections,
        model=options.model,
    )
    content = {"summary": {}, "measurements": [result]}
    write_report(options.results, report | content, text_of(result))
    return 1 if problems_of(result) else 0


if __name__ == "__main__":
    raise SystemExit(main())
