"""Articles made of others, for the teacher to label: more text where there is little.

Nobody knows the gold label of what is made here, so it has none; the teacher's distribution tells how much
of each label is left in it (Jiao et al. 2020, arXiv 1909.10351, and Tang et al. 2019, arXiv 1903.12136,
distil from such text; the latter's masking is the word dropout here).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from newsie.data.articles import Article
from newsie.training.config import AugmentationName

__all__ = ["AUGMENTATIONS", "Augmentation", "augment", "drop_words", "mix_words", "swap_bodies"]

DROPPED = 0.2
"""Share of the words that are left out."""

Augmentation = Callable[[Article, Article, np.random.Generator], Article]
"""An article, another one, and randomness -> a made article."""


def drop_words(article: Article, other: Article, random: np.random.Generator) -> Article:
    """The article with each word left out with a probability of 0.2; one word at least is kept."""

    def thin(text: str) -> str:
        words = text.split()
        kept = random.random(len(words)) >= DROPPED
        if words and not kept.any():
            kept[random.integers(len(words))] = True
        return " ".join(word for word, keep in zip(words, kept, strict=True) if keep)

    return replace(article, headline=thin(article.headline), body=thin(article.body))


def swap_bodies(article: Article, other: Article, random: np.random.Generator) -> Article:
    """The headline of the article over the body of the other one."""
    return replace(article, body=other.body)


def mix_words(article: Article, other: Article, random: np.random.Generator) -> Article:
    """The beginning of the article's texts, the rest of the other's: mix-up (Zhang et al. 2018,
    arXiv 1710.09412) with words in place of embeddings, so that it remains a text.

    The share of the article is drawn from the uniform distribution, Beta(1, 1) of the paper.
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
    """One article of each kind made of each of N articles, without gold labels.

    Args:
        articles: N articles; each is paired with another one, drawn anew for each kind.
        names: which kinds.
        seed: of everything drawn.
    """
    made = []
    for number, name in enumerate(names):
        random = np.random.default_rng([seed, number])
        partners = random.permutation(len(articles))
        for article, partner in zip(articles, partners, strict=True):
            found = AUGMENTATIONS[name](article, articles[int(partner)], random)
            made.append(replace(found, labels={}))
    return made
