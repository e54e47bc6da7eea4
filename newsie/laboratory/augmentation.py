"""Augmentation: articles made from others, for the teacher to label.

The gold label of a made article is unknown, so it has none. The teacher's distribution says how much of each
label is left in it. Jiao et al. 2020 (arXiv 1909.10351) and Tang et al. 2019 (arXiv 1903.12136) distil from
such text; the masking of the latter is the word dropout here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from newsie.data.articles import Article
from newsie.training.config import AugmentationName

__all__ = ["AUGMENTATIONS", "Augmentation", "augment", "drop_words", "mix_words", "swap_bodies"]

DROPPED = 0.2
"""The share of the words that are left out."""

Augmentation = Callable[[Article, Article, np.random.Generator], Article]
"""A function from an article, another one and a random generator to a made article."""


def drop_words(article: Article, other: Article, random: np.random.Generator) -> Article:
    """Return the article with each word dropped with a probability of 0.2; a text keeps at least one word."""

    def thin(text: str) -> str:
        words = text.split()
        kept = random.random(len(words)) >= DROPPED
        if words and not kept.any():
            kept[random.integers(len(words))] = True
        return " ".join(word for word, keep in zip(words, kept, strict=True) if keep)

    return replace(article, headline=thin(article.headline), body=thin(article.body))


def swap_bodies(article: Article, other: Article, random: np.random.Generator) -> Article:
    """Return the article with the body of the other one."""
    return replace(article, body=other.body)


def mix_words(article: Article, other: Article, random: np.random.Generator) -> Article:
    """Return the beginning of the article's texts, followed by the end of the other's.

    This is mix-up (Zhang et al. 2018, arXiv 1710.09412) of words instead of embeddings, so that the result is
    still a text. The share of the article is drawn uniformly, which is Beta(1, 1) in the paper.
    """
    share = random.random()

    def join(first: str, second: str) -> str:
        left, right = first.split(), second.split()
        return " ".join(left[: round(share * len(left))] + right[round(share * len(right)) :])

    headline = join(article.headline, other.headline)
    return replace(
        article, headline=headline or article.headline, body=join(article.body, other.body)
    )


AUGMENTATIONS: Mapping[AugmentationName, Augmentation] = {
    "drop_words": drop_words,
    "swap_bodies": swap_bodies,
    "mix_words": mix_words,
}


def augment(
    articles: Sequence[Article], names: Sequence[AugmentationName], seed: int
) -> list[Article]:
    """Return one made article of each kind for each of N articles, without gold labels.

    Args:
        articles: N articles; each is paired with another one, drawn anew for each kind.
        names: the kinds.
        seed: seed of everything drawn.
    """
    made = []
    for number, name in enumerate(names):
        random = np.random.default_rng([seed, number])
        partners = random.permutation(len(articles))
        for article, partner in zip(articles, partners, strict=True):
            found = AUGMENTATIONS[name](article, articles[int(partner)], random)
            made.append(replace(found, labels={}))
    return made
