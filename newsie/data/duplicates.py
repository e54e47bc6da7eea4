"""Finding exact and near duplicates among articles."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.data.cleaning import clean_text
from newsie.errors import InputError, MissingExtraError

__all__ = ["duplicate_groups"]

MIN_WORDS = 5
MIN_SHARED_BODY = 0.5
MAX_COMPARED = 8
BANDS = 20
MAX_ROWS = 16
Progress = Callable[[int, int], None]

_WORD = re.compile(r"\w+")


def duplicate_groups(
    articles: Sequence[Article], *, threshold: float = 0.8, progress: Progress | None = None
) -> NDArray[np.int64]:
    """Return the index of the first article in each article's group of duplicates, (N,).

    An article without duplicates is a group of its own. Two articles are duplicates if
    - headline and body are equal up to case, punctuation and markup; or
    - they have the same headline of 5 words or more, and one has no body, or half of the word
      bigrams of the shorter body occur in the longer one (ledes are cut and edited); or
    - the Jaccard similarity of their sets of word bigrams, which is the share of common bigrams
      among all bigrams, is at least `threshold`. Texts of fewer than 5 words are not compared.
      Candidates are found by MinHash and locality-sensitive hashing (Broder 1997; Leskovec,
      Rajaraman and Ullman, Mining of Massive Datasets, chapter 3), then compared exactly. A pair
      at exactly the threshold is missed about once in a thousand times.
    Groups are transitive: a copy of a copy belongs to the group.

    Args:
        articles: N articles.
        threshold: similarity of near duplicates, above 0 and up to 1.
        progress: called now and then with (texts compared, texts to compare).

    Raises:
        InputError: the threshold is not in (0, 1].
        MissingExtraError: datasketch is not installed.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"the threshold must be above 0 and at most 1; given: {threshold}")
    headlines = [" ".join(_words(article.headline)) for article in articles]
    bodies = [" ".join(_words(article.body)) for article in articles]
    groups = _Groups(len(articles))
    _join_equal(headlines, bodies, groups)
    # Only the first of several equal articles is compared further: the others would add only time.
    heads = [i for i in range(len(articles)) if groups.find(i) == i]
    _join_same_headlines(headlines, bodies, groups)
    texts = {i: f"{headlines[i]} {bodies[i]}" for i in heads}
    _join_alike(texts, threshold, groups, progress)
    return np.array([groups.find(i) for i in range(len(articles))], dtype=np.int64)


class _Groups:
    """A union-find structure. The representative of a group is its smallest member."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def find(self, item: int) -> int:
        parents = self._parents
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    def join(self, a: int, b: int) -> None:
        a, b = sorted((self.find(a), self.find(b)))
        self._parents[b] = a


def _words(text: str) -> list[str]:
    return _WORD.findall(clean_text(text).casefold())


def _join_equal(headlines: Sequence[str], bodies: Sequence[str], groups: _Groups) -> None:
    by_text: dict[tuple[str, str], int] = {}
    for i, text in enumerate(zip(headlines, bodies, strict=True)):
        if text != ("", ""):
            groups.join(by_text.setdefault(text, i), i)


def _join_same_headlines(headlines: Sequence[str], bodies: Sequence[str], groups: _Groups) -> None:
    by_headline: dict[str, list[int]] = {}
    # Articles without a body come last, so that each joins only one article with its headline.
    for i in sorted(range(len(headlines)), key=lambda i: not bodies[i]):
        if headlines[i].count(" ") + 1 < MIN_WORDS or groups.find(i) != i:
            continue
        others = by_headline.setdefault(headlines[i], [])
        same = (j for j in others[:MAX_COMPARED] if _share_body(bodies[i], bodies[j]))
        found = next(same, None)
        if found is None:
            others.append(i)
        else:
            groups.join(i, found)


def _share_body(a: str, b: str) -> bool:
    words_a, words_b = a.split(), b.split()
    pairs_a, pairs_b = set(pairwise(words_a)), set(pairwise(words_b))
    return len(pairs_a & pairs_b) >= MIN_SHARED_BODY * min(len(pairs_a), len(pairs_b))


def _join_alike(
    texts: Mapping[int, str], threshold: float, groups: _Groups, progress: Progress | None
) -> None:
    """Join the articles whose texts have a similarity of at least `threshold`."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise MissingExtraError("finding near duplicates", "datasketch", "train") from error

    rows = _rows_a_band(threshold)
    index = MinHashLSH(num_perm=BANDS * rows, params=(BANDS, rows))
    usable = [i for i, text in texts.items() if text.count(" ") + 1 >= MIN_WORDS]
    hashes = MinHash.generator(
        (_shingles(texts[i]) for i in usable), num_perm=BANDS * rows, hashfunc=zlib.crc32
    )
    for done, (i, minhash) in enumerate(zip(usable, hashes, strict=True), start=1):
        for other in index.query(minhash):
            # Members of one group are not compared again, because there may be thousands.
            if groups.find(i) == groups.find(other):
                continue
            if _jaccard(_shingles(texts[i]), _shingles(texts[other])) >= threshold:
                groups.join(i, other)
        index.insert(i, minhash, check_duplication=False)
        if progress is not None and (done % 4096 == 0 or done == len(usable)):
            progress(done, len(usable))


def _rows_a_band(threshold: float) -> int:
    """Return the most hashes per band that find a pair at the threshold with a probability of 0.999.

    For similarity s, a band of r hashes agrees with probability s**r, and at least one of b bands
    with 1 - (1 - s**r)**b. More hashes give fewer false candidates.
    """
    wanted = 1 - 0.001 ** (1 / BANDS)  # the lower bound of s**r
    rows = MAX_ROWS if threshold == 1 else int(math.log(wanted) / math.log(threshold))
    return min(max(1, rows), MAX_ROWS)


def _shingles(text: str) -> frozenset[bytes]:
    """Return the set of word bigrams of a text."""
    return frozenset(f"{a} {b}".encode("utf-8", "surrogatepass") for a, b in pairwise(text.split()))


def _jaccard(a: frozenset[bytes], b: frozenset[bytes]) -> float:
    """Return the Jaccard similarity of two non-empty sets: intersection size over union size."""
    common = len(a & b)
    return common / (len(a) + len(b) - common)
