"""`newsie serve` beside the one-by-one server, at several numbers of clients, taking turns."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Spread, ratios, table
from serving.load.client import Tally, closed_loop
from serving.load.requests import Request
from serving.load.servers import Server, start_newsie, start_one_by_one

__all__ = [
    "SIDES",
    "Comparison",
    "Servers",
    "compare",
    "comparison_table",
    "order_of",
    "ratio_of",
    "sizing_table",
    "start_both",
    "summarize",
]

Servers = Mapping[str, Server]

SIDES = ("newsie", "one_by_one")
WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Comparison:
    """What is measured.

    Attributes:
        clients: numbers of clients, each of which asks again when it is answered.
        seconds: how long each side is measured at each number, in each round.
        rounds: how often all is repeated; a ratio is the median of those of the rounds.
    """

    clients: tuple[int, ...] = (1, 8, 32, 128, 512)
    seconds: float = 10.0
    rounds: int = 3


@contextmanager
def start_both(model: Path | None, requests: Sequence[Request]) -> Iterator[Servers]:
    """Both servers, ready and warm."""
    with start_newsie(model) as newsie, start_one_by_one(model) as one_by_one:
        servers = {"newsie": newsie, "one_by_one": one_by_one}
        for server in servers.values():
            asyncio.run(closed_loop(server.port, requests, clients=8, seconds=WARM_UP_SECONDS))
        yield servers


def order_of(round_: int) -> tuple[str, ...]:
    """Whoever comes first changes, should the machine get slower or faster meanwhile."""
    return SIDES if round_ % 2 == 0 else SIDES[::-1]


def compare(
    comparison: Comparison, requests: Sequence[Request], servers: Servers
) -> list[dict[str, Any]]:
    """A measurement for each round, number of clients and side, in the order they were taken."""
    return [
        {"round": round_, "side": side, "clients": clients}
        | _measure(servers[side], requests, clients, comparison.seconds)
        for round_ in range(comparison.rounds)
        for clients in comparison.clients
        for side in order_of(round_)
    ]


def _measure(
    server: Server, requests: Sequence[Request], clients: int, seconds: float
) -> dict[str, Any]:
    began, cpu, server_cpu = time.perf_counter(), time.process_time(), server.cpu_seconds()
    tally = asyncio.run(closed_loop(server.port, requests, clients=clients, seconds=seconds))
    cpu, took = time.process_time() - cpu, time.perf_counter() - began
    server_cpu = server.cpu_seconds() - server_cpu
    return summarize(tally, began, seconds) | {
        "articles_per_cpu_second": sum(tally.articles) / server_cpu,
        "client_cores": round(cpu / took, 3),
        "server_bytes": server.memory_bytes(),
    }


def summarize(tally: Tally, began: float, seconds: float) -> dict[str, Any]:
    """Throughput over the time that all clients asked, and percentiles of all that was answered."""
    pairs = zip(tally.finished, tally.articles, strict=True)
    in_time = sum(articles for finished, articles in pairs if finished <= began + seconds)
    times = np.array(tally.seconds or [np.nan])
    return {
        "articles_per_second": in_time / seconds,
        "p50_seconds": float(np.percentile(times, 50)),
        "p99_seconds": float(np.percentile(times, 99)),
        "codes": {str(code): n for code, n in sorted(tally.codes.items())},
        "unanswered": tally.unanswered,
        "wrong": tally.wrong,
    }


def ratio_of(found: Sequence[Mapping[str, Any]], clients: int, key: str) -> Spread:
    """How many times better Newsie is: its throughput divided by the other's, or its times inverted."""
    values = {side: _values(found, side, clients, key) for side in SIDES}
    newsie, other = values["newsie"], values["one_by_one"]
    pairs = zip(newsie, other, strict=True)
    if key.endswith("_seconds"):
        return ratios(other, newsie)
    # A side that answers nobody in time is infinitely slower.
    return Spread.of([a / b if b else np.inf for a, b in pairs])


def comparison_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Medians over the rounds, and how much better Newsie is."""
    header = ["clients", "Newsie: articles/s", "p50 ms", "p99 ms", "429"]
    header += ["one by one: articles/s", "p50 ms", "p99 ms", "throughput ×", "p99 ÷"]
    rows = [
        [
            str(clients),
            *_cells(found, "newsie", clients),
            _rejected(found, "newsie", clients),
            *_cells(found, "one_by_one", clients),
            ratio_of(found, clients, "articles_per_second").text(2),
            ratio_of(found, clients, "p99_seconds").text(1),
        ]
        for clients in _all_clients(found)
    ]
    return table(header, rows)


def sizing_table(found: Sequence[Mapping[str, Any]], cores: int) -> str:
    """Newsie's own figures: what a machine of this kind can be asked to do.

    A core in the measurement is shared with the clients; a second of a processor is the server's own.
    """
    header = ["clients", "articles/s", "articles/s a core", "articles a second of a processor"]
    header += ["p50 ms", "p99 ms", "memory MB"]
    rows = []
    for clients in _all_clients(found):
        rate, *times = _cells(found, "newsie", clients)
        each = statistics.median(_values(found, "newsie", clients, "articles_per_second")) / cores
        busy = statistics.median(_values(found, "newsie", clients, "articles_per_cpu_second"))
        memory = max(_values(found, "newsie", clients, "server_bytes")) / 2**20
        rows.append([str(clients), rate, f"{each:,.0f}", f"{busy:,.0f}", *times, f"{memory:,.0f}"])
    return table(header, rows)


def _cells(found: Sequence[Mapping[str, Any]], side: str, clients: int) -> list[str]:
    rate, p50, p99 = (
        statistics.median(_values(found, side, clients, key))
        for key in ("articles_per_second", "p50_seconds", "p99_seconds")
    )
    return [f"{rate:,.0f}", f"{1000 * p50:,.1f}", f"{1000 * p99:,.1f}"]


def _rejected(found: Sequence[Mapping[str, Any]], side: str, clients: int) -> str:
    rows = [row["codes"] for row in found if (row["side"], row["clients"]) == (side, clients)]
    total = sum(sum(codes.values()) for codes in rows)
    return f"{100 * sum(codes.get('429', 0) for codes in rows) / max(total, 1):.0f} %"


def _values(found: Sequence[Mapping[str, Any]], side: str, clients: int, key: str) -> list[float]:
    return [row[key] for row in found if (row["side"], row["clients"]) == (side, clients)]


def _all_clients(found: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({row["clients"] for row in found})
