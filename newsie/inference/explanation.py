"""Word-by-word explanations: how much each word of an article moves the probability of a label.

The method is occlusion: the model predicts again without the word, and the effect of the word is

    effect = p(label | all words) - p(label | all words but this one)

It is above 0 if the word speaks for the label. Zeiler & Fergus 2014 (arXiv 1311.2901) occluded parts of
images, Li, Monroe & Jurafsky 2016 (arXiv 1612.08220) erased words. Words are left out rather than replaced by
[MASK], which agrees less with integrated gradients; `benchmarks/explain.py` measures both. W words, T tokens,
C labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.data.cleaning import blank_markup, clean_text
from newsie.data.encoding import ReadText
from newsie.errors import InputError
from newsie.labels import LabelSpace

__all__ = [
    "Explanation",
    "ExplanationPlan",
    "Part",
    "Word",
    "occlude",
    "split_words",
]

Part = Literal["headline", "body"]

NO_WORD = -1
"""The word index of a token that belongs to no word, such as [CLS]."""

LOOK_AHEAD = 8
"""The number of upcoming words of the original text among which a word is searched for."""

MAX_PARTS = 4
"""The most parts into which markup may split one word."""

# Text between blanks, or single characters in Chinese and Japanese, which have no blanks.
_SCRIPTS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SCRIPTS}]|[^\s{_SCRIPTS}]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as the model reads it, or several neighbouring words of a long article.

    Attributes:
        text: the cleaned text.
        part: the part of the article that it is in.
        start: index of its first character in that part of the original article; None if cleaning has changed
            the text so much that it is not found.
        end: index after its last character, or None.
    """

    text: str
    part: Part
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The effect of each word of one article on its probabilities.

    Attributes:
        labels: the label space of the model.
        words: the W words that were read, in order; empty if the tokenizer knows no character.
        probabilities: task -> (C,), with all words.
        without: task -> (W, C), row i without word i.
        chosen: task -> the label that is explained.
        words_together: the most words that were grouped as one; 1 means no grouping.
        truncated: True if the article was longer than the model reads; the text after the last of the `words`
            was not read.
    """

    labels: LabelSpace
    words: tuple[Word, ...]
    probabilities: Mapping[str, NDArray[np.float64]]
    without: Mapping[str, NDArray[np.float64]]
    chosen: Mapping[str, str]
    words_together: int
    truncated: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the explained tasks."""
        return tuple(self.probabilities)

    def score(self, task: str, label: str | None = None) -> float:
        """Return the probability of a label with all words; None means the chosen label."""
        return float(self.probabilities[self._known(task)][self._index(task, label)])

    def effects(self, task: str, label: str | None = None) -> NDArray[np.float64]:
        """Return by how much each word raises the probability of a label, (W,); None means the chosen label.

        Effects lie between -1 and 1; 0.02 means that the probability is 2 points higher than without the
        word.

        Raises:
            LabelError: there is no such task or label.
            InputError: the task was not explained.
        """
        index = self._index(task, label)
        effects: NDArray[np.float64] = (
            self.probabilities[task][index] - self.without[task][:, index]
        )
        return effects

    def strongest(
        self, task: str, k: int | None = None, label: str | None = None
    ) -> list[tuple[Word, float]]:
        """Return the k words (None: all) with the greatest effects, for or against, with their effects."""
        if k is not None and k < 1:
            raise InputError(f"k is {k}; at least 1 word, or None for all")
        effects = self.effects(task, label)
        order = np.argsort(-abs(effects), kind="stable")[:k]
        return [(self.words[i], float(effects[i])) for i in order]

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as plain JSON values; effects follow the order of the words, to 6 digits."""
        return {
            "words": [
                {"text": word.text, "part": word.part, "start": word.start, "end": word.end}
                for word in self.words
            ],
            "tasks": {
                task: {
                    "label": self.chosen[task],
                    "score": self.score(task),
                    "effects": [round(float(effect), 6) + 0.0 for effect in self.effects(task)],
                }
                for task in self.tasks
            },
            "words_together": self.words_together,
            "truncated": self.truncated,
        }

    def _known(self, task: str) -> str:
        self.labels[task]  # raises for a task that the model does not have
        if task not in self.probabilities:
            raise InputError(
                f"task {task!r} was not asked for; asked for: {', '.join(self.probabilities)}"
            )
        return task

    def _index(self, task: str, label: str | None) -> int:
        return self.labels[self._known(task)].index(self.chosen[task] if label is None else label)


@dataclass(frozen=True, slots=True)
class ExplanationPlan:
    """The inputs that have to be computed to explain an article.

    Attributes:
        ids: 1 + W lists of token ids: the article, and the article without each word.
        tasks: the tasks to explain.
        words: the W words.
        labels: task -> the label to explain, if one was requested.
        words_together: the most words that are grouped as one.
        truncated: True if the article was longer than the model reads.
    """

    ids: Sequence[list[int]]
    tasks: tuple[str, ...]
    words: tuple[Word, ...]
    labels: Mapping[str, str]
    words_together: int
    truncated: bool


def split_words(
    read: ReadText, article: Article, max_words: int
) -> tuple[tuple[Word, ...], NDArray[np.int64], int]:
    """Return the words of an article that were read, and the word of each token.

    Args:
        read: the article as the model read it.
        article: the original article, in which the words are located.
        max_words: the most words; neighbours are grouped to keep to it.

    Returns:
        The W words; (T,) the index of each token's word or NO_WORD; the size of the groups.
    """
    words: list[Word] = []
    ends: list[int] = []  # in read.text
    parts: list[tuple[Part, str, str, int]] = [
        ("headline", read.headline, article.headline, 0),
        ("body", read.body, article.body, len(read.text) - len(read.body)),
    ]
    for part, text, given, start in parts:
        found = list(_WORD.finditer(text))
        spans = _find_words([word[0] for word in found], given)
        for word, span in zip(found, spans, strict=True):
            words.append(Word(word[0], part, *span))
            ends.append(start + word.end())
    # A token belongs to the word with its last character; the first may be the preceding blank.
    owners = np.searchsorted(ends, read.spans[:, 1]).astype(np.int64)
    owners[read.spans[:, 0] >= read.spans[:, 1]] = NO_WORD
    read_words, owners = _renumber(owners)
    return _together([words[i] for i in read_words], owners, max_words)


def occlude(
    ids: Sequence[int], owners: NDArray[np.int64], words: int, *, mask_id: int | None = None
) -> Iterator[list[int]]:
    """Yield the tokens without the first word, without the second, and so on: `words` lists.

    Args:
        ids: (T,) token ids.
        owners: (T,) the word of each token, as `split_words` returns it.
        words: the number of words, W.
        mask_id: a token that replaces each token of the word; None leaves them out.
    """
    for word in range(words):
        if mask_id is None:
            yield [token for token, owner in zip(ids, owners, strict=True) if owner != word]
        else:
            yield [
                mask_id if owner == word else token
                for token, owner in zip(ids, owners, strict=True)
            ]


def _renumber(owners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the words that own a token, and the owners renumbered among these."""
    found = np.unique(owners[owners != NO_WORD])
    return found, np.where(owners == NO_WORD, NO_WORD, np.searchsorted(found, owners))


def _together(
    words: Sequence[Word], owners: NDArray[np.int64], max_words: int
) -> tuple[tuple[Word, ...], NDArray[np.int64], int]:
    """Group neighbouring words, as few as keep to `max_words`, never across the end of a part."""
    headline = sum(word.part == "headline" for word in words)
    body = len(words) - headline
    size = 1
    while size < max(headline, body) and -(-headline // size) - (-body // size) > max_words:
        size += 1
    if size == 1:
        return tuple(words), owners, 1
    starts = [*range(0, headline, size), *range(headline, len(words), size)]
    ends = [*starts[1:], len(words)]
    joined = tuple(_join(words[a:b]) for a, b in zip(starts, ends, strict=True))
    groups = np.searchsorted(ends, owners, side="right").astype(np.int64)
    return joined, np.where(owners == NO_WORD, NO_WORD, groups), size


def _join(words: Sequence[Word]) -> Word:
    starts = [word.start for word in words if word.start is not None]
    ends = [word.end for word in words if word.end is not None]
    text = " ".join(word.text for word in words)
    return Word(text, words[0].part, starts[0] if starts else None, ends[-1] if ends else None)


def _find_words(words: Sequence[str], given: str) -> list[tuple[int | None, int | None]]:
    """Locate cleaned words in the original text, as far as they are found.

    Each is searched for among the next few words of the original text: as itself, as what one of them
    becomes when cleaned ("caf&eacute;"), or as several that markup separates ("<b>cup</b>,"). The search for
    the next word continues after it.
    """
    candidates = _WORD.finditer(blank_markup(given))
    ahead: list[re.Match[str]] = []
    spans: list[tuple[int | None, int | None]] = []
    for number, word in enumerate(words):
        while len(ahead) < LOOK_AHEAD and (candidate := next(candidates, None)):
            ahead.append(candidate)
        place = _find_word(word, [m[0] for m in ahead], last=number == len(words) - 1)
        if place is None:
            spans.append((None, None))
            continue
        first, behind = place
        spans.append((ahead[first].start(), ahead[behind - 1].end()))
        del ahead[:behind]
    return spans


def _find_word(word: str, ahead: Sequence[str], *, last: bool) -> tuple[int, int] | None:
    """Return the first word ahead, or the first few in a row, equal to this one; the last may be cut off."""
    for first, given in enumerate(ahead):
        # Cleaning shortens, but a much longer word is not worth cleaning.
        if (
            given == word
            or (last and given.startswith(word))
            or (len(given) < 20 * len(word) + 100 and clean_text(given) == word)
        ):
            return first, first + 1
        if word.startswith(given):
            for behind in range(first + 2, min(first + MAX_PARTS, len(ahead)) + 1):
                if "".join(ahead[first:behind]) == word:
                    return first, behind
    return None
