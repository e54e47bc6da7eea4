"""Articles that say the same: exact copies and near ones."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.data.cleaning import clean_text
from newsie.errors import InputError

__all__ = ["duplicate_groups"]

SHINGLE_WORDS = 2
MIN_WORDS = 5
MIN_SHARED_BODY = 0.5
MAX_COMPARED = 8
BANDS = 20
MAX_ROWS = 16
NEIGHBOURS = 8
CHUNK_ARTICLES = 4096
Progress = Callable[[int, int], None]

_WORD = re.compile(r"\w+")


def duplicate_groups(
    articles: Sequence[Article], *, threshold: float = 0.8, progress: Progress | None = None
) -> NDArray[np.int64]:
    """The index of the first article of each one's group of duplicates, (N,); its own if alone.

    Two articles are duplicates when
    - headline and body are the same but for case, punctuation and markup; or
    - they have the same headline, of 5 words or more, and one has no body, or half of the pairs of
      neighbouring words of the shorter body are in the longer one (ledes are cut and edited); or
    - their sets of pairs of neighbouring words are alike: Jaccard similarity, which is the share
      of common pairs among all pairs, of `threshold` or more. Texts under 5 words are left out.
      Candidates are found by MinHash and locality-sensitive hashing (Broder 1997; Leskovec,
      Rajaraman and Ullman, Mining of Massive Datasets, chapter 3), then compared exactly; a pair
      of just that similarity is missed about once in a thousand.
    Groups are transitive: a copy of a copy belongs to the group.

    Args:
        articles: N articles.
        threshold: similarity of near duplicates, above 0 and up to 1.
        progress: called with (articles done, N).

    Raises:
        InputError: a threshold that is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise InputError(f"the threshold must be above 0 and at most 1; given: {threshold}")
    headlines = [" ".join(_words(article.headline)) for article in articles]
    bodies = [" ".join(_words(article.body)) for article in articles]
    groups = _Groups(len(articles))
    _join_equal(headlines, bodies, groups)
    # Only the first of equal articles goes on: the others add nothing but time.
    heads = [i for i in range(len(articles)) if groups.find(i) == i]
    _join_same_headlines(headlines, bodies, groups)
    texts = [f"{headlines[i]} {bodies[i]}".split() for i in heads]
    for a, b in _near_pairs(texts, threshold, progress):
        groups.join(heads[a], heads[b])
    return np.array([groups.find(i) for i in range(len(articles))], dtype=np.int64)


class _Groups:
    """Union-find; the representative of a group is its smallest member."""

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
    # Those without a body come last: they join one article with their headline, not two.
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


# --- near duplicates ----------------------------------------------------------------------------


def _near_pairs(
    texts: Sequence[Sequence[str]], threshold: float, progress: Progress | None
) -> Iterator[tuple[int, int]]:
    """Pairs of texts that are at least so similar, enough of them to connect each group."""
    rows = _rows_a_band(threshold)
    bands = np.empty((BANDS, len(texts)), dtype=np.uint64)
    shingles: list[NDArray[np.uint64]] = []
    hashes: dict[str, int] = {}
    for start in range(0, len(texts), CHUNK_ARTICLES):
        chunk = [_shingles(text, hashes) for text in texts[start : start + CHUNK_ARTICLES]]
        shingles += chunk
        bands[:, start : start + len(chunk)] = _band_keys(chunk, rows)
        if progress is not None:
            progress(min(start + CHUNK_ARTICLES, len(texts)), len(texts))
    usable = np.array([len(text) >= MIN_WORDS for text in texts], dtype=np.bool_)
    for a, b in _candidates(bands, np.flatnonzero(usable)) if usable.any() else ():
        if _jaccard(shingles[a], shingles[b]) >= threshold:
            yield a, b


def _rows_a_band(threshold: float) -> int:
    """Hashes a band, as many as still find a pair at the threshold with a chance of 0.999.

    A band of r hashes agrees with probability s**r for similarity s, one of b bands at least with
    1 - (1 - s**r)**b. The more hashes, the fewer candidates in vain.
    """
    wanted = 1 - 0.001 ** (1 / BANDS)  # what s**r must be at least
    rows = MAX_ROWS if threshold == 1 else int(math.log(wanted) / math.log(threshold))
    return min(max(1, rows), MAX_ROWS)


def _shingles(words: Sequence[str], hashes: dict[str, int]) -> NDArray[np.uint64]:
    """Sorted hashes of the different pairs of neighbouring words."""
    for word in words:
        if word not in hashes:
            data = word.encode("utf-8", "surrogatepass")
            hashes[word] = zlib.crc32(data) | zlib.crc32(data, 0x9E3779B9) << 32
    codes = np.array([hashes[word] for word in words], dtype=np.uint64)
    return np.unique(codes[:-1] * np.uint64(0x9E3779B97F4A7C15) ^ codes[1:])


def _band_keys(shingles: Sequence[NDArray[np.uint64]], rows: int) -> NDArray[np.uint64]:
    """One key a band and text, (BANDS, n): the MinHash values of the band, hashed together."""
    lengths = np.array([max(1, len(s)) for s in shingles])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    empty = np.zeros(1, dtype=np.uint64)
    flat = np.concatenate([s if len(s) else empty for s in shingles])
    generator = np.random.default_rng(0)
    keys = np.zeros((BANDS, len(shingles)), dtype=np.uint64)
    for band in range(BANDS):
        for _ in range(rows):
            factor, offset = generator.integers(0, 2**64, 2, dtype=np.uint64)
            # multiply-shift hashing: the upper half of a product with an odd number
            hashed = (flat * (factor | np.uint64(1)) + offset) >> np.uint64(32)
            smallest = np.minimum.reduceat(hashed, starts)
            keys[band] = (keys[band] ^ smallest) * np.uint64(0xFF51AFD7ED558CCD)
            keys[band] ^= keys[band] >> np.uint64(29)
    return keys


def _candidates(bands: NDArray[np.uint64], usable: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Different pairs of texts that share a band: each with the ones before it and the first.

    All pairs of a big group would be too many; these connect it all the same.
    """
    size = bands.shape[1]
    codes = [np.empty(0, dtype=np.int64)]
    for keys in bands:
        order = usable[np.argsort(keys[usable], kind="stable")]
        keys = keys[order]
        is_first = np.concatenate([[True], keys[1:] != keys[:-1]])
        first = order[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
        codes.append((first * size + order)[~is_first])
        for distance in range(1, NEIGHBOURS + 1):
            same = keys[distance:] == keys[:-distance]
            if not same.any():
                break
            codes.append((order[:-distance] * size + order[distance:])[same])
    for code in np.unique(np.concatenate(codes)):
        yield divmod(int(code), size)


def _jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Size of the intersection over size of the union, of two sets that are not empty."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)
