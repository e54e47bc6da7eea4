"""What the clients send, and what they must be told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import orjson

from newsie import Article, Classifier

__all__ = ["ROUTE", "Request", "prepare_requests"]

ROUTE = "/v1/classify"
TOLERANCE = 0.02
"""Greatest difference of a probability that is still the same answer: int8 rounds by batch."""


@dataclass(frozen=True)
class Request:
    """A request as bytes, and the answer that it should get.

    Attributes:
        content: HTTP/1.1, head and body.
        articles: how many it holds.
        scores: for each article, label -> probability of the model's first task.
        task: that task.
    """

    content: bytes
    articles: int
    scores: tuple[dict[str, float], ...]
    task: str

    def is_answered_by(self, body: bytes) -> bool:
        """Whether an answer holds these articles' labels with their probabilities."""
        try:
            predictions = orjson.loads(body)["predictions"]
            best = [prediction[self.task][0] for prediction in predictions]
            return len(best) == self.articles and all(
                abs(found["score"] - scores[found["label"]]) <= TOLERANCE
                for found, scores in zip(best, self.scores, strict=True)
            )
        except (ValueError, KeyError, IndexError, TypeError):
            return False


def prepare_requests(
    classifier: Classifier, articles: Sequence[Article], *, sizes: Sequence[int] = (1,)
) -> list[Request]:
    """All articles as requests; these hold `sizes` articles in turn."""
    task = classifier.tasks[0]
    scores = [prediction.scores[task] for prediction in classifier.classify(articles)]
    requests: list[Request] = []
    start, turn = 0, cycle(sizes)
    while (end := start + next(turn)) <= len(articles):
        content = _post([_article(article) for article in articles[start:end]])
        requests.append(Request(content, end - start, tuple(scores[start:end]), task))
        start = end
    return requests


def _article(article: Article) -> dict[str, str]:
    return {"headline": article.headline, "body": article.body}


def _post(articles: list[dict[str, Any]]) -> bytes:
    body = json.dumps({"articles": articles, "top_k": 3}, ensure_ascii=False).encode()
    head = (
        f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
