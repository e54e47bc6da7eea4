from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from newsie import Article, Classifier
from serving.load.servers import family
from tests.tiny import tiny_articles

ROOT = Path(__file__).parents[2]
START_SECONDS = 240
LOAD_SECONDS = 8
CLIENTS = 8


@pytest.fixture(scope="module")
def cluster(tiny_bundle: Path) -> Iterator[tuple[str, int]]:
    """The address of two replicas of the tiny bundle, and the process that started them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.ray_cluster", str(tiny_bundle), str(port)],
        cwd=ROOT,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    too_late = threading.Timer(START_SECONDS, process.kill)
    too_late.start()
    try:
        lines = iter(process.stdout.readline, "")
        assert "ready\n" in lines, f"the cluster ended with exit code {process.wait()}"
        too_late.cancel()
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        too_late.cancel()
        started = list(family(process.pid))
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            for pid in started:
                os.kill(pid, signal.SIGKILL)
        process.stdout.close()


def replicas(pid: int) -> set[int]:
    """The processes of the replicas below a process."""
    named = {p: Path(f"/proc/{p}/cmdline") for p in family(pid)}
    return {
        p
        for p, path in named.items()
        if path.exists() and b"ray::ServeReplica" in path.read_bytes()
    }


def ask_until_answered(client: httpx.Client, url: str, article: Article) -> tuple[Any, int]:
    """The answer to an article, and how many tries it took; a client may always ask again."""
    body = {"articles": [{"headline": article.headline, "body": article.body}]}
    for tries in range(1, 21):
        try:
            answer = client.post(f"{url}/v1/classify", json=body, timeout=10)
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        if answer.status_code == 200:
            return answer.json(), tries
        assert answer.status_code in (500, 502, 503), answer.text
        time.sleep(0.2)
    raise AssertionError("20 tries were not enough")


@pytest.mark.slow
def test_a_replica_is_killed_under_load_and_every_article_is_answered_rightly(
    cluster: tuple[str, int], tiny_classifier: Classifier
) -> None:
    url, pid = cluster
    articles = tiny_articles(200)
    expected = [prediction.to_json() for prediction in tiny_classifier.classify(articles)]
    before = replicas(pid)
    assert len(before) == 2
    end = time.monotonic() + LOAD_SECONDS
    answered: list[tuple[int, Any, int]] = []

    def client(number: int) -> None:
        with httpx.Client() as http:
            while time.monotonic() < end:
                index = number % len(articles)
                answered.append((index, *ask_until_answered(http, url, articles[index])))
                number += CLIENTS

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(client, number) for number in range(CLIENTS)]
        time.sleep(LOAD_SECONDS / 4)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        asked_before = len(answered)
        for future in running:
            future.result()
    assert len(answered) > asked_before > 0
    for index, answer, _ in answered:
        for task, ranked in expected[index].items():
            found = {row["label"]: row["score"] for row in answer["predictions"][0][task]}
            assert found == pytest.approx({r["label"]: r["score"] for r in ranked}, abs=0.02)
    # Ray puts another one in its place.
    while len(now := replicas(pid)) < 2 and time.monotonic() < end + 30:
        time.sleep(0.5)
    assert victim not in now
    assert len(now) == 2


@pytest.mark.slow
def test_routes_and_refusals_are_those_of_the_server(cluster: tuple[str, int]) -> None:
    url, _ = cluster
    assert httpx.get(f"{url}/health/ready").status_code == 200
    page = httpx.get(url, headers={"Accept": "text/html"})
    assert "<title>Newsie</title>" in page.text
    refused = httpx.post(f"{url}/v1/classify", json={"articles": [{"headline": " "}]})
    assert refused.status_code == 422
    assert refused.json()["request_id"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # importing ray raises some
@pytest.mark.parametrize("wrong", [{"replicas": 0}, {"threads": 0}, {"modell": "x"}])
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    from serving.ray_serve import app

    with pytest.raises(ValidationError, match=next(iter(wrong))):
        app(wrong)
