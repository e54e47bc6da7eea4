from __future__ import annotations

import numpy as np
import pytest

from newsie.data.articles import Article
from newsie.laboratory.augmentation import (
    AUGMENTATIONS,
    augment,
    drop_words,
    mix_words,
    swap_bodies,
)
from newsie.training.config import AugmentationName
from tests.tiny import tiny_articles


class Fixed(np.random.Generator):
    """Randomness of which the next numbers are known."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.numbers = list(numbers)

    def random(self, size: int | None = None) -> object:  # type: ignore[override]
        if size is None:
            return self.numbers.pop(0)
        return np.array([self.numbers.pop(0) for _ in range(size)])


FIRST = Article("one two three four", "five six", labels={"section": "sports"})
OTHER = Article("uno due tre quattro", "cinque sei sette otto")


def test_words_are_dropped_one_by_one_and_never_all() -> None:
    made = drop_words(FIRST, OTHER, Fixed(0.1, 0.5, 0.19, 0.2, 0.0, 0.1))
    assert made.headline == "two four"
    assert made.body in ("five", "six")
    assert drop_words(Article("", ""), OTHER, Fixed()).headline == ""


def test_a_body_may_be_anothers() -> None:
    made = swap_bodies(FIRST, OTHER, Fixed())
    assert (made.headline, made.body) == (FIRST.headline, OTHER.body)


def test_a_mixture_begins_with_one_and_ends_with_the_other() -> None:
    made = mix_words(FIRST, OTHER, Fixed(0.5))
    assert (made.headline, made.body) == ("one two tre quattro", "five sette otto")
    assert mix_words(FIRST, OTHER, Fixed(1.0)).headline == FIRST.headline
    assert mix_words(FIRST, OTHER, Fixed(0.0)).body == OTHER.body
    assert mix_words(FIRST, Article("", ""), Fixed(0.0)).headline == FIRST.headline


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_what_is_made_has_text_no_labels_and_is_the_same_for_a_seed(name: AugmentationName) -> None:
    articles = tiny_articles(40)
    made = augment(articles, [name], seed=3)
    assert len(made) == 40
    assert all(article.headline and not article.labels for article in made)
    assert made == augment(articles, [name], seed=3) != augment(articles, [name], seed=4)
    known = {word for a in articles for word in f"{a.headline} {a.body}".split()}
    assert {word for a in made for word in f"{a.headline} {a.body}".split()} <= known


def test_kinds_do_not_share_their_partners() -> None:
    articles = tiny_articles(30)
    made = augment(articles, ["swap_bodies", "swap_bodies"], seed=0)
    assert [a.body for a in made[:30]] != [a.body for a in made[30:]]
