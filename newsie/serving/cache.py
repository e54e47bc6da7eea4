"""A cache of predictions for articles that are sent again word for word."""

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
    """The cached output of the model for an article in all tasks, with its token count."""

    row: Row
    truncated: bool
    tokens: int


class AnswerCache:
    """The most recently used predictions of one model. Keys are keyed hashes, so no text is stored.

    Args:
        size: maximum number of articles; 0 stores none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._secret = os.urandom(32)
        self._answers: OrderedDict[bytes, Cached] = OrderedDict()

    def key(self, article: Article) -> bytes:
        """Return a key that is equal for articles with equal headline and body."""
        hashed = hashlib.blake2b(key=self._secret, digest_size=32)
        headline = article.headline.encode("utf-8", "surrogatepass")
        hashed.update(len(headline).to_bytes(8, "big") + headline)
        hashed.update(article.body.encode("utf-8", "surrogatepass"))
        return hashed.digest()

    def get(self, key: bytes) -> Cached | None:
        """Return the cached output, or None if there is none."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def put(self, key: bytes, answer: Cached) -> None:
        """Store a copy of an output, without its batch. The least recently used one is dropped if needed."""
        own = {task: values.copy() for task, values in answer.row.items()}
        self._answers[key] = replace(answer, row=own)
        self._answers.move_to_end(key)
        while len(self._answers) > self.size:
            self._answers.popitem(last=False)
