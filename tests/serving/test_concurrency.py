from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import numpy as np
import pytest

from newsie import Article, Classifier
from tests.serving.live import Live, dumps
from tests.tiny import tiny_articles

Scores = dict[str, float]


async def ask_all(port: int, groups: Sequence[list[Article]], clients: int) -> list[list[Scores]]:
    """Each group of articles in a request, from so many clients at once; sections by group."""
    found: list[list[Scores]] = [[] for _ in groups]
    todo = iter(range(len(groups)))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in todo:
            articles = [{"headline": a.headline, "body": a.body} for a in groups[number]]
            body = dumps({"articles": articles, "tasks": ["section"]})
            head = (
                "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert answer.startswith("http/1.1 200 "), answer
            length = int(answer.split("content-length: ")[1].split("\r\n")[0])
            predictions = json.loads(await reader.readexactly(length))["predictions"]
            found[number] = [{r["label"]: r["score"] for r in p["section"]} for p in predictions]
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


def check(served: Live, classifier: Classifier, groups: list[list[Article]], clients: int) -> None:
    found = asyncio.run(ask_all(served.port, groups, clients))
    labels = classifier.labels["section"].labels
    wanted = classifier.classify([article for group in groups for article in group])
    rows = [[scores[label] for label in labels] for group in found for scores in group]
    np.testing.assert_allclose(rows, [p.probabilities["section"] for p in wanted], atol=1e-5)
    assert len({row[0] for row in rows}) > len(rows) / 2  # they can be told apart


def test_answers_belong_to_their_requests(served: Live, tiny_classifier: Classifier) -> None:
    """1,200 articles in requests of 1 to 12, from 64 clients."""
    articles = tiny_articles(1_200, seed=5)
    sizes = np.random.default_rng(0).integers(1, 13, 300)
    ends = np.minimum(np.cumsum(sizes), len(articles))
    groups = [articles[a:b] for a, b in zip([0, *ends], ends, strict=False) if b > a]
    check(served, tiny_classifier, groups, 64)


@pytest.mark.slow
def test_10_000_articles_from_64_clients(served: Live, tiny_classifier: Classifier) -> None:
    """Each in a request of its own, and each answer what the library says."""
    check(served, tiny_classifier, [[article] for article in tiny_articles(10_000, seed=6)], 64)
