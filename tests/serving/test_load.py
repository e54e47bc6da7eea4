from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from newsie import Article, Classifier
from serving.load import __main__ as command
from serving.load.client import Connection, Tally, closed_loop, open_loop, scheduled_loop
from serving.load.compare import comparison_table, ratio_of, sizing_table, summarize
from serving.load.offered import latency_ratio, offered_table, poisson_times
from serving.load.requests import MIX, Request, prepare_mixed_requests, prepare_requests
from serving.load.soak import _problems, growth_by_part, reconcile, slope_of
from tests.tiny import tiny_articles

ANSWER = b'{"predictions":[{"section":[{"label":"sports","score":0.7}]}]}'
REQUEST = Request(
    b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    1,
    ({"sports": 0.7, "science": 0.3},),
    "section",
)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes, code: int = 200, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {code} Whatever", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


def answering(*answers: bytes) -> Handler:
    """A server whose connections give these answers in turn, and then close."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            try:
                await reader.readuntil(b"{}")
            except asyncio.IncompleteReadError:
                break
            writer.write(answer)
            await writer.drain()
        writer.close()

    return handle


async def with_server(handler: Handler, use: Callable[[int], Awaitable[Tally]]) -> Tally:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        return await use(server.sockets[0].getsockname()[1])


def ask(handler: Handler, times: int = 1) -> Tally:
    """One connection that asks a few times."""

    async def use(port: int) -> Tally:
        tally, connection = Tally(), Connection(port)
        for _ in range(times):
            await tally.ask(connection, REQUEST)
        await connection.close()
        return tally

    return asyncio.run(with_server(handler, use))


def test_a_connection_is_kept_open() -> None:
    tally = ask(answering(http(ANSWER), http(b"{}", 429), http(ANSWER)), 3)
    assert tally.codes == {200: 2, 429: 1}
    assert len(tally.seconds) == len(tally.articles) == 2
    assert not tally.wrong + tally.unanswered


def test_a_connection_that_the_server_closes_is_opened_again() -> None:
    tally = ask(answering(http(ANSWER, 200, "Connection: close")), 3)
    assert tally.codes == {200: 3}


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n", http(ANSWER)[:-5]], ids=["none", "head", "body"]
)
def test_half_an_answer_is_none(answer: bytes) -> None:
    tally = ask(answering(answer), 2)
    assert (tally.unanswered, tally.requests, tally.codes.total()) == (2, 2, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"predictions":[]}',
        b'{"predictions":[{"section":[]}]}',
        ANSWER.replace(b"0.7", b"0.6"),
        ANSWER.replace(b"sports", b"weather"),
    ],
)
def test_a_wrong_answer_is_noticed(body: bytes) -> None:
    assert REQUEST.is_answered_by(ANSWER)
    assert not REQUEST.is_answered_by(body)
    assert ask(answering(http(body))).wrong == 1


def test_requests_hold_every_article_once(tiny_classifier: Classifier) -> None:
    articles = tiny_articles(10)
    requests = prepare_requests(tiny_classifier, articles, sizes=(1, 3))
    assert [request.articles for request in requests] == [1, 3, 1, 3, 1]
    sent = [json.loads(request.content.split(b"\r\n\r\n")[1])["articles"] for request in requests]
    assert [a["headline"] for group in sent for a in group] == [a.headline for a in articles[:9]]
    predictions = tiny_classifier.classify(articles[:1])
    body = json.dumps({"predictions": [predictions[0].to_json(1)]}).encode()
    assert requests[0].is_answered_by(body)


def test_an_open_loop_keeps_its_rate_and_a_closed_one_waits() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            await asyncio.sleep(0.2)
            writer.write(http(ANSWER))
        writer.close()

    def closed(port: int) -> Awaitable[Tally]:
        return closed_loop(port, [REQUEST], clients=2, seconds=0.5)

    def opened(port: int) -> Awaitable[Tally]:
        return open_loop(port, [REQUEST], rate=100, seconds=0.5, max_connections=10)

    waiting = asyncio.run(with_server(slow, closed))
    assert waiting.codes[200] <= 6
    hurrying = asyncio.run(with_server(slow, opened))
    assert hurrying.requests + hurrying.not_sent in range(45, 51)
    assert hurrying.codes == {200: hurrying.requests}
    assert hurrying.not_sent > 0


def test_times_count_from_when_a_request_is_due() -> None:
    """One that finds no connection free waits as well: leaving that out would be coordinated omission."""
    asked = 0

    async def stuck_at_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await reader.read(1000):
            asked += 1
            await asyncio.sleep(0.5 if asked == 1 else 0)
            writer.write(http(ANSWER))
        writer.close()

    async def use(port: int) -> Tally:
        return (await scheduled_loop(port, [REQUEST], [0.0, 0.1, 0.2], connections=1))["article"]

    tally = asyncio.run(with_server(stuck_at_first, use))
    assert tally.codes == {200: 3}
    first, second, third = tally.seconds
    assert first >= 0.5
    assert second >= 0.4
    assert third >= 0.3
    # A second connection waits for nobody, and is not used before a request is due.
    asked = 0

    async def use_two(port: int) -> Tally:
        return (await scheduled_loop(port, [REQUEST], [0.0, 0.1, 0.2], connections=2))["article"]

    tally = asyncio.run(with_server(stuck_at_first, use_two))
    assert tally.codes == {200: 3}
    assert sorted(tally.seconds)[-1] >= 0.5
    assert sorted(tally.seconds)[0] < 0.3
    assert tally.finished[1] - tally.finished[0] > 0.05


def test_times_are_drawn_once_and_have_the_rate() -> None:
    times = poisson_times(200.0, 10.0, 1)
    assert times == poisson_times(200.0, 10.0, 1) == sorted(times)
    assert times != poisson_times(200.0, 10.0, 2)
    assert len(times) == 2000
    assert times[0] >= 0
    assert times[-1] < 10
    gaps = np.diff(times)  # exponential: as wide as their mean
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.1)


def test_a_mixture_holds_every_kind_and_its_answers(tiny_classifier: Classifier) -> None:
    articles = tiny_articles(40)
    requests = prepare_mixed_requests(tiny_classifier, articles)
    assert [request.kind for request in requests] == [*MIX, *MIX]
    assert {request.kind: request.articles for request in requests} == {
        "headline": 1,
        "article": 1,
        "32 articles": 32,
    }
    whole = [(article.headline, article.body) for article in articles]
    for request in requests:
        sent = json.loads(request.content.split(b"\r\n\r\n")[1])["articles"]
        assert len(sent) == len(request.scores) == request.articles
        if request.kind == "headline":
            assert not sent[0]["body"]
        else:
            assert {(article["headline"], article["body"]) for article in sent} <= {*whole}
        answers = tiny_classifier.classify([Article(**article) for article in sent])
        body = json.dumps({"predictions": [answer.to_json(1) for answer in answers]}).encode()
        assert request.is_answered_by(body)


def offered(side: str, round_: int, p99: float, **others: object) -> dict[str, object]:
    row = measurement(side, round_, 100.0, p99)
    return row | {
        "workload": "alike",
        "share": 0.8,
        "kind": "article",
        "requests_per_second": 100.0,
        **others,
    }


def test_the_table_of_offered_loads_by_hand() -> None:
    found = [
        offered("newsie", 0, 0.1),
        offered("one_by_one", 0, 0.8),
        offered("one_by_one", 1, 1.6, codes={"200": 4}),
        offered("newsie", 1, 0.1),
        offered("newsie", 0, 9.0, share=1.0),
        offered("one_by_one", 0, 9.0, share=1.0),
        offered("newsie", 0, 7.0, workload="mixed"),
    ]
    ratio = latency_ratio(found, "alike", 0.8, "article", "p99_seconds")
    assert (ratio.median, ratio.least, ratio.greatest) == pytest.approx((12, 8, 16))
    lines = offered_table(found, "alike").splitlines()
    assert len(lines) == 4
    assert lines[2] == (
        "| 0.8 × | article | 100 | 100 | 50.0 | 100.0 | 25 % "
        "| 100 | 600.0 | 1,200.0 | 12 % | 12.0 (8.0–16.0) | 12.0 (8.0–16.0) |"
    )
    assert "reached" in command._offered_aims(found, "alike", "article").splitlines()[2]
    assert "**missed**" in command._offered_aims(found, "alike", "article").splitlines()[3]


def test_a_summary_by_hand() -> None:
    tally = Tally(seconds=[0.1, 0.2, 0.3], finished=[10.5, 11.9, 12.1], articles=[1, 8, 1])
    tally.codes.update({200: 3, 429: 1})
    found = summarize(tally, began=10.0, seconds=2.0)
    assert found["articles_per_second"] == 4.5  # the last came too late to count
    assert found["p50_seconds"] == pytest.approx(0.2)
    assert found["codes"] == {"200": 3, "429": 1}


def measurement(side: str, round_: int, rate: float, p99: float) -> dict[str, object]:
    both = {
        "clients": 128,
        "codes": {"200": 3, "429": 1},
        "server_bytes": 2**20,
        "articles_per_cpu_second": 600.0,
    }
    return both | {
        "side": side,
        "round": round_,
        "articles_per_second": rate,
        "p50_seconds": p99 / 2,
        "p99_seconds": p99,
    }


def test_tables_and_ratios_by_hand() -> None:
    found = [
        measurement("newsie", 0, 1000, 0.1),
        measurement("one_by_one", 0, 500, 0.8),
        measurement("one_by_one", 1, 250, 1.6),
        measurement("newsie", 1, 500, 0.2),
    ]
    assert ratio_of(found, 128, "articles_per_second").median == 2
    assert ratio_of(found, 128, "p99_seconds").median == pytest.approx(8)
    stuck = [measurement("newsie", 0, 1000, 0.1), measurement("one_by_one", 0, 0, float("nan"))]
    assert ratio_of(stuck, 128, "articles_per_second").median == float("inf")
    row = comparison_table(found).splitlines()[2]
    assert row.startswith("| 128 | 750 | 75.0 | 150.0 | 25 % | 375 | 600.0 | 1,200.0 | 2.00 ")
    assert sizing_table(found, 2).splitlines()[2] == "| 128 | 750 | 375 | 600 | 75.0 | 150.0 | 1 |"


def test_counts_of_the_server_are_differences_by_code() -> None:
    route = 'route="/v1/classify",method="POST"'
    before = {f'{route},code="200"': 5.0}
    after = {
        f'{route},code="200"': 12.0,
        f'{route},code="429"': 3.0,
        'route="/metrics",method="GET",code="200"': 1.0,
    }
    assert reconcile(before, after) == {"200": 7, "429": 3}


def soak_of(memory: Any) -> list[tuple[float, float]]:
    """Ten minutes, a sample a second."""
    return [*zip(np.arange(600.0), np.broadcast_to(memory, 600), strict=True)]


def test_the_slope_of_memory() -> None:
    random = np.random.default_rng(0)
    seconds = np.arange(600.0)
    noise = random.normal(0, 1e6, 600)
    grows = slope_of(soak_of(1e8 + 1e5 * seconds + noise))
    assert grows.low < 6e6 < grows.high
    assert (grows.low > 0, grows.verdict) == (True, "memory grows")
    flat = slope_of(soak_of(1e8 + noise / 100))
    assert flat.low < 0 < flat.high
    assert flat.verdict == "no growth"
    filling = 1e8 - 1e7 * np.exp(-seconds / 30)
    assert slope_of(soak_of(filling + noise / 100)).verdict == "no growth"
    slowly = slope_of(soak_of(1e8 + 1e3 * seconds))
    assert slowly.per_minute == pytest.approx(6e4)
    assert slowly.verdict == "memory grows slowly"
    assert slope_of(soak_of(1e8 + noise)).verdict == "growth is neither shown nor excluded"
    short = slope_of(soak_of(1e8 + 1e5 * seconds)[:200])
    assert (short.low, short.high) == (float("-inf"), float("inf"))
    assert short.verdict == "too short to tell"


def test_the_interval_covers_the_slope_where_neighbours_are_alike() -> None:
    """Errors that are correlated over 10 s: 95 % in theory, 93 % and more of 400 soaks."""
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        errors = random.normal(0, 1e5, 700)
        for i in range(1, 700):
            errors[i] += 0.9 * errors[i - 1]
        slope = slope_of(soak_of(1e8 + 1e3 * np.arange(600.0) + errors[100:]))
        covered += slope.low <= 6e4 <= slope.high
    assert covered >= 0.9 * 400


def test_growth_by_part_tells_a_leak_from_a_cache() -> None:
    seconds = np.arange(600.0)
    assert growth_by_part(soak_of(1e8 + 1e3 * seconds)) == pytest.approx([6e4] * 4)
    filled = growth_by_part(soak_of(np.minimum(1e3 * seconds, 1e5)))
    assert filled[0] > 3e4
    assert filled[1:] == [0, 0, 0]


def test_a_soak_that_did_not_send_its_load_is_none() -> None:
    found = {
        "codes": {"200": 10, "429": 90},
        "counted_by_server": {"200": 10, "429": 90},
        "unanswered": 0,
        "wrong": 0,
        "requests": 100,
        "slope_bytes_per_minute": {"low": 0.0},
    }
    assert _problems(found | {"planned": 105}, True) == []
    assert _problems(found | {"planned": 106}, True) == ["only 100 of 106 requests were sent"]
    assert "the server ended" in _problems(found | {"planned": 100}, False)
    assert len(_problems(found | {"planned": 100, "wrong": 1}, True)) == 1


def test_the_table_in_the_run_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{command.BEGIN}old\n{command.END}after\n", encoding="utf-8")
    monkeypatch.setattr(command, "README", page)
    command._into_readme("new\n")
    assert page.read_text("utf-8") == f"before\n{command.BEGIN}new\n{command.END}after\n"
    real = (Path(command.__file__).parents[1] / "README.md").read_text("utf-8")
    assert real.count(command.BEGIN) == real.count(command.END) == 1


@pytest.mark.slow
def test_both_servers_answer_rightly_and_in_turn(tiny_bundle: Path, tmp_path: Path) -> None:
    options = ["--clients", "1,4", "--seconds", "0.3", "--rounds", "2", "--model", str(tiny_bundle)]
    options += ["--shares", "0.5"]
    assert command.main([*options, "--results", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "load.json").read_text("utf-8"))
    found = written["measurements"]
    order = [(row["round"], row["clients"], row["side"]) for row in found]
    sides = ["newsie", "one_by_one"]
    first, second = ([(r, c, s) for c in (1, 4) for s in sides[:: 1 - 2 * r]] for r in (0, 1))
    assert order == [*first, *second]
    for row in found:
        assert row["codes"].keys() == {"200"}
        assert row["wrong"] == row["unanswered"] == 0
        assert row["articles_per_second"] > 0
        assert row["articles_per_cpu_second"] > 0
    kinds = {(row["workload"], row["kind"]) for row in written["offered"]}
    assert kinds == {("alike", "article"), *(("mixed", kind) for kind in MIX)}
    for one, other in zip(*(by_side(written["offered"], side) for side in sides), strict=True):
        assert {**one, "side": ""} == {**other, "side": ""}
    text = (tmp_path / "load.md").read_text("utf-8")
    assert "| clients |" in text
    assert "| 0.5 × | headline |" in text


def by_side(rows: list[dict[str, object]], side: str) -> list[dict[str, object]]:
    """What a side was asked, in the order of rounds, without what came of it."""
    keys = ("round", "workload", "share", "kind", "side", "requests_per_second")
    mine = [{key: row[key] for key in keys} for row in rows if row["side"] == side]
    assert all(row["wrong"] == row["unanswered"] == 0 for row in rows)
    return mine


@pytest.mark.slow
def test_under_overload_every_request_is_answered_and_counted(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    began = time.monotonic()
    options = ["--soak", "--minutes", "0.1", "--model", str(tiny_bundle)]
    code = command.main([*options, "--results", str(tmp_path)])
    (found,) = json.loads((tmp_path / "soak.json").read_text("utf-8"))["measurements"]
    # The tiny model is faster than a client on the same cores, which cannot send four times as much.
    assert [problem for problem in found["problems"] if "were sent" not in problem] == []
    assert code == bool(found["problems"])
    assert found["counted_by_server"] == found["codes"]
    assert sum(found["codes"].values()) == found["requests"] > 100
    assert time.monotonic() - began < 60
