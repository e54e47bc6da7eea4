"""More than the server can do, for minutes: nothing may crash, grow, get lost or be miscounted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.load.client import Tally, closed_loop, open_loop
from serving.load.compare import summarize
from serving.load.requests import ROUTE, Request
from serving.load.servers import Server, scrape, start_newsie

__all__ = ["Slope", "Soak", "reconcile", "slope_of", "soak"]

CALIBRATION_SECONDS = 5.0
CALIBRATION_CLIENTS = 64
ALLOWED = {200, 429, 504}
BLOCKS = 20
WARM_UP_SHARE = 0.25
MIN_SECONDS = 300
SENT_SHARE = 0.95
"""Of the load that is planned; who sends less has not tried it."""

ALLOWED_GROWTH = 0.1 * 2**20
"""Bytes a minute that are still called flat: what 10 minutes can tell from 0."""


@dataclass(frozen=True)
class Soak:
    """What is tried.

    Attributes:
        minutes: how long.
        times: load, in multiples of what the server answered to clients that wait.
        sample_seconds: how often memory is read.
    """

    minutes: float = 10.0
    times: float = 4.0
    sample_seconds: float = 1.0


@dataclass(frozen=True)
class Slope:
    """How memory goes, in bytes a minute, with the ends of its 95 % interval."""

    per_minute: float
    low: float
    high: float


def soak(plan: Soak, requests: Sequence[Request], model: Path | None) -> dict[str, Any]:
    """Measure the capacity, then send `times` as much, and say what came of it.

    Returns:
        "problems" is empty if all is well; the other entries are the figures.
    """
    with start_newsie(model) as server:
        capacity = _requests_per_second(server, requests)
        before = scrape(server, "newsie_http_requests_total")
        began, cpu = time.perf_counter(), time.process_time()
        tally, memory = asyncio.run(_overload(plan, server, requests, plan.times * capacity))
        cpu, took = time.process_time() - cpu, time.perf_counter() - began
        alive = server.is_running()
        counted = reconcile(before, scrape(server, "newsie_http_requests_total")) if alive else {}
    found = summarize(tally, began, 60 * plan.minutes) | {
        "capacity_requests_per_second": capacity,
        "sent_requests_per_second": tally.requests / took,
        "requests": tally.requests,
        "not_sent": tally.not_sent,
        "planned": round(plan.times * capacity * 60 * plan.minutes),
        "client_cores": round(cpu / took, 3),
        "counted_by_server": counted,
        "memory": [{"seconds": seconds, "bytes": size} for seconds, size in memory],
        "slope_bytes_per_minute": vars(slope_of(memory)),
    }
    return found | {"problems": _problems(found, alive)}


def reconcile(before: dict[str, float], after: dict[str, float]) -> dict[str, int]:
    """Requests to the route by code that the server has counted in between."""
    counts: dict[str, int] = {}
    for labels, value in after.items():
        named = dict(part.split("=", 1) for part in labels.split(","))
        added = int(value - before.get(labels, 0))
        if named["route"] == f'"{ROUTE}"' and added:
            code = named["code"].strip('"')
            counts[code] = counts.get(code, 0) + added
    return dict(sorted(counts.items()))


def slope_of(memory: Sequence[tuple[float, float]]) -> Slope:
    """Least squares through the means of 20 blocks, so that neighbours do not count as independent.

    The first quarter is left out, and less than five minutes tell nothing: caches and allocators
    fill. The interval is the slope's usual one, with Student's t for 18 degrees of freedom.

    Args:
        memory: (seconds, bytes) in order.
    """
    late = np.array([row for row in memory if row[0] >= WARM_UP_SHARE * memory[-1][0]])
    if memory[-1][0] < MIN_SECONDS or len(late) < 2 * BLOCKS:
        return Slope(float("nan"), float("-inf"), float("inf"))
    x, y = np.array([block.mean(axis=0) for block in np.array_split(late, BLOCKS)]).T
    x = (x - x.mean()) / 60
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    margin = 2.101 * float(np.sqrt(rest @ rest / (BLOCKS - 2) / (x @ x)))
    return Slope(slope, slope - margin, slope + margin)


def _requests_per_second(server: Server, requests: Sequence[Request]) -> float:
    loop = closed_loop(
        server.port, requests, clients=CALIBRATION_CLIENTS, seconds=CALIBRATION_SECONDS
    )
    return asyncio.run(loop).codes[200] / CALIBRATION_SECONDS


async def _overload(
    plan: Soak, server: Server, requests: Sequence[Request], rate: float
) -> tuple[Tally, list[tuple[float, float]]]:
    memory: list[tuple[float, float]] = []
    began = time.perf_counter()

    async def watch() -> None:
        while True:
            memory.append((time.perf_counter() - began, float(server.memory_bytes())))
            await asyncio.sleep(plan.sample_seconds)

    watcher = asyncio.create_task(watch())
    tally = await open_loop(server.port, requests, rate=rate, seconds=60 * plan.minutes)
    watcher.cancel()
    return tally, memory


def _problems(found: dict[str, Any], alive: bool) -> list[str]:
    codes = found["codes"]
    strange = {code for code in codes if int(code) not in ALLOWED}
    said = {
        "the server ended": not alive,
        f"only {found['requests']:,} of {found['planned']:,} requests were sent": found["requests"]
        < SENT_SHARE * found["planned"],
        f"answers of other codes than 200, 429 and 504: {sorted(strange)}": bool(strange),
        f"{found['unanswered']} requests without an answer": found["unanswered"] > 0,
        f"{found['wrong']} answers that are not the model's": found["wrong"] > 0,
        f"counted here {codes}, by the server {found['counted_by_server']}": codes
        != found["counted_by_server"],
        "memory grows": found["slope_bytes_per_minute"]["low"] > ALLOWED_GROWTH,
    }
    return [problem for problem, is_so in said.items() if is_so]
