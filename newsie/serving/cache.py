"""A cache of answers to articles that come again word for word."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass, replace

from newsie.data.articles import Article
from newsie.serving.batching import Row

__all__ = ["AnswerCache", "Cached"]


@dataclass(frozen=True, slots=True)
class Cached:
    """What is kept of an article: what the model says in all tasks, and what its reading gave."""

    row: Row
    truncated: bool
    tokens: int


class AnswerCache:
    """The answers used last, of one model. Keys are keyed hashes, so that no text is kept.

    Args:
        size: answers that are kept; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._secret = os.urandom(32)
        self._answers: OrderedDict[bytes, Cached] = OrderedDict()

    def key(self, article: Article) -> bytes:
        """Equal for articles of equal headline and body."""
        hashed = hashlib.blake2b(key=self._secret, digest_size=32)
        headline = article.headline.encode("utf-8", "surrogatepass")
        hashed.update(len(headline).to_bytes(8, "big") + headline)
        hashed.update(article.body.encode("utf-8", "surrogatepass"))
        return hashed.digest()

    def get(self, key: bytes) -> Cached | None:
        """The answer, if it is there."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def put(self, key: bytes, answer: Cached) -> None:
        """Keep an answer, apart from its batch, in the place of the one that was not used for longest."""
        own = {task: values.copy() for task, values in answer.row.items()}
        self._answers[key] = replace(answer, row=own)
        self._answers.move_to_end(key)
        while len(self._answers) > self.size:
            self._answers.popitem(last=False)
