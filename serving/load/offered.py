"""Both servers under the same load: 128 connections that ask at a given rate, whatever the answers.

A closed loop cannot show this: there, N clients wait N / throughput on average (Little 1961), and a server
that is slow is asked less. Users come when they come. So requests have times here, drawn once and the same
for both sides, and a request's latency counts from its time, also where it waits for a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.report import Spread, ratios, table
from serving.load.client import Tally, closed_loop, scheduled_loop
from serving.load.compare import Servers, order_of, summarize
from serving.load.requests import Request

__all__ = ["Offer", "latency_ratio", "offer", "offered_table", "poisson_times"]


@dataclass(frozen=True)
class Offer:
    """What is measured.

    Attributes:
        shares: loads, as multiples of what the one-by-one server answers to as many clients that wait.
        connections: requests that may be under way at once.
        seconds: how long each side is asked at each load, in each round, and its capacity measured.
        rounds: how often all is repeated, each with times of its own; ratios are the medians of those
            of the rounds.
    """

    shares: tuple[float, ...] = (0.5, 0.8, 1.0, 1.1)
    connections: int = 128
    seconds: float = 10.0
    rounds: int = 3


def poisson_times(rate: float, seconds: float, seed: int) -> list[float]:
    """Times of `rate * seconds` requests of users who know nothing of each other.

    Sorted uniform times are those of a Poisson process whose number of events is given.
    """
    times = np.random.default_rng(seed).uniform(0, seconds, round(rate * seconds))
    return [float(value) for value in np.sort(times)]


def offer(
    plan: Offer, workloads: Mapping[str, Sequence[Request]], servers: Servers
) -> list[dict[str, Any]]:
    """A row for each round, workload, load, side and kind of request, in the order they were taken."""
    found = []
    for round_ in range(plan.rounds):
        for workload, requests in workloads.items():
            capacity = _capacity(plan, requests, servers["one_by_one"].port)
            for share in plan.shares:
                due = poisson_times(share * capacity, plan.seconds, round_)
                about = {"round": round_, "workload": workload, "share": share}
                for side in order_of(round_):
                    rows = _measure(plan, requests, due, servers[side].port)
                    found += [about | {"side": side, "kind": k} | row for k, row in rows.items()]
    return found


def _capacity(plan: Offer, requests: Sequence[Request], port: int) -> float:
    """Requests a second, of clients that wait for their answers."""
    loop = closed_loop(port, requests, clients=plan.connections, seconds=plan.seconds)
    began = time.perf_counter()
    tally = asyncio.run(loop)
    return len(tally.finished) / (time.perf_counter() - began)


def _measure(
    plan: Offer, requests: Sequence[Request], due: Sequence[float], port: int
) -> dict[str, dict[str, Any]]:
    loop = scheduled_loop(port, requests, due, connections=plan.connections)
    began, cpu = time.perf_counter(), time.process_time()
    tallies = asyncio.run(loop)
    cores = (time.process_time() - cpu) / (time.perf_counter() - began)
    return {
        kind: summarize(tally, began, plan.seconds)
        | _sent(tally, plan.seconds)
        | {"client_cores": round(cores, 3)}
        for kind, tally in tallies.items()
    }


def _sent(tally: Tally, seconds: float) -> dict[str, float]:
    return {"requests_per_second": tally.requests / seconds}


def latency_ratio(
    found: Sequence[Mapping[str, Any]], workload: str, share: float, kind: str, key: str
) -> Spread:
    """How many times shorter Newsie's time is."""
    newsie, other = (
        [row[key] for row in _rows(found, workload, share, kind, side)]
        for side in ("newsie", "one_by_one")
    )
    return ratios(other, newsie)


def offered_table(found: Sequence[Mapping[str, Any]], workload: str) -> str:
    """Medians over the rounds, and how much better Newsie is, for each load and kind of request."""
    header = ["load", "asked for", "requests/s"]
    header += ["Newsie: articles/s", "p50 ms", "p99 ms", "refused"]
    header += ["one by one: articles/s", "p50 ms", "p99 ms", "refused", "p50 ÷", "p99 ÷"]
    mine = [row for row in found if row["workload"] == workload]
    lines = []
    for share, kind in dict.fromkeys((row["share"], row["kind"]) for row in mine):
        sides = [_rows(found, workload, share, kind, side) for side in ("newsie", "one_by_one")]
        sent = median(row["requests_per_second"] for rows in sides for row in rows)
        ratio = [
            latency_ratio(found, workload, share, kind, key).text(1)
            for key in ("p50_seconds", "p99_seconds")
        ]
        cells = [cell for rows in sides for cell in _cells(rows)]
        lines.append([f"{share:g} ×", kind, f"{sent:,.0f}", *cells, *ratio])
    return table(header, lines)


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    rate, p50, p99 = (
        median(row[key] for row in rows)
        for key in ("articles_per_second", "p50_seconds", "p99_seconds")
    )
    codes = [(code, count) for row in rows for code, count in row["codes"].items()]
    answers = sum(count for _, count in codes)
    refused = 100 * sum(count for code, count in codes if code != "200") / max(answers, 1)
    return [f"{rate:,.0f}", f"{1000 * p50:,.1f}", f"{1000 * p99:,.1f}", f"{refused:.0f} %"]


def _rows(
    found: Sequence[Mapping[str, Any]], workload: str, share: float, kind: str, side: str
) -> list[Mapping[str, Any]]:
    wanted = (workload, share, kind, side)
    keys = ("workload", "share", "kind", "side")
    return [row for row in found if tuple(row[key] for key in keys) == wanted]
