"""What the clients send, and what they must be told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import orjson

from newsie import Article, Classifier

__all__ = ["ROUTE", "Request", "prepare_mixed_requests", "prepare_requests"]

ROUTE = "/v1/classify"
TOLERANCE = 0.02
"""Greatest difference of a probability that is still the same answer: int8 rounds by batch."""

LARGE = 32
MIX = ("headline", "article") * 9 + ("headline", f"{LARGE} articles")
"""Kinds of request, in turn: most users ask for one article or its headline alone, some for many at once."""


@dataclass(frozen=True)
class Request:
    """A request as bytes, and the answer that it should get.

    Attributes:
        content: HTTP/1.1, head and body.
        articles: how many it holds.
        scores: for each article, label -> probability of the model's first task.
        task: that task.
        kind: what it is in a mixture.
    """

    content: bytes
    articles: int
    scores: tuple[dict[str, float], ...]
    task: str
    kind: str = "article"

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
    groups: list[Sequence[Article]] = []
    start, turn = 0, cycle(sizes)
    while (end := start + next(turn)) <= len(articles):
        groups.append(articles[start:end])
        start = end
    return _ask(classifier, groups, ["article"] * len(groups))


def prepare_mixed_requests(classifier: Classifier, articles: Sequence[Article]) -> list[Request]:
    """As many requests as there are articles, of the kinds of `MIX` in turn."""
    kinds = [kind for _, kind in zip(articles, cycle(MIX), strict=False)]
    endless = cycle(articles)
    groups: list[list[Article]] = []
    for kind in kinds:
        group = [*islice(endless, LARGE if kind == MIX[-1] else 1)]
        groups.append([_headline_of(one) for one in group] if kind == "headline" else group)
    return _ask(classifier, groups, kinds)


def _ask(
    classifier: Classifier, groups: Sequence[Sequence[Article]], kinds: Sequence[str]
) -> list[Request]:
    """A request for each group."""
    task = classifier.tasks[0]
    predictions = classifier.classify([article for group in groups for article in group])
    scores = iter([prediction.scores[task] for prediction in predictions])
    return [
        Request(
            _post([*map(_article, group)]), len(group), (*islice(scores, len(group)),), task, kind
        )
        for group, kind in zip(groups, kinds, strict=True)
    ]


def _headline_of(article: Article) -> Article:
    return Article(article.headline or article.body[:80])


def _article(article: Article) -> dict[str, str]:
    return {"headline": article.headline, "body": article.body}


def _post(articles: list[dict[str, Any]]) -> bytes:
    body = json.dumps({"articles": articles, "top_k": 3}, ensure_ascii=False).encode()
    head = (
        f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
