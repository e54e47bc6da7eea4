"""Word by word: how much each word of an article moves the probability of a label.

Occlusion: the model answers once more without the word, and the effect of the word is

    effect = p(label | all words) - p(label | all words but this one)

above 0 where the word speaks for the label. Zeiler & Fergus 2014 (arXiv 1311.2901) occluded parts of
images, Li, Monroe & Jurafsky 2016 (arXiv 1612.08220) erased words. Words are left out rather than
replaced by [MASK], which agrees less with integrated gradients: `benchmarks/explain.py` measures
both. W words, T tokens, C labels.
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
"""The word of a token that belongs to none, such as [CLS]."""

LOOK_AHEAD = 8
"""Words of the text given among which a word that was read is looked for."""

MAX_PARTS = 4
"""Parts of one word that markup may part."""

# What stands between blanks; Chinese and Japanese, which have none, by the character.
_SCRIPTS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SCRIPTS}]|[^\s{_SCRIPTS}]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as the model reads it; several neighbouring ones of a long article.

    Attributes:
        text: cleaned.
        part: where it stands.
        start: index of its first character in that part of the article as it was given; None where
            cleaning has changed the text so much that it is not found there.
        end: index behind its last character, or None.
    """

    text: str
    part: Part
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """How the words of one article move its probabilities.

    Attributes:
        labels: the label space of the model.
        words: the W words that were read, in order; none where the tokenizer knows no character.
        probabilities: task -> (C,), with all words.
        without: task -> (W, C), row i without word i.
        chosen: task -> the label that is explained.
        words_together: most words of the article that were taken as one; 1 means each alone.
        truncated: whether the article was longer than the model reads; what follows the last of the
            `words` was not read.
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
        """The tasks that are explained."""
        return tuple(self.probabilities)

    def score(self, task: str, label: str | None = None) -> float:
        """The probability of a label, with all words; None means the chosen one."""
        return float(self.probabilities[self._known(task)][self._index(task, label)])

    def effects(self, task: str, label: str | None = None) -> NDArray[np.float64]:
        """(W,) by how much each word raises the probability of a label; None means the chosen one.

        Between -1 and 1; 0.02 means that the probability is 2 points higher than without the word.

        Raises:
            LabelError: there is no such task or label.
            InputError: the task was not asked for.
        """
        index = self._index(task, label)
        effects: NDArray[np.float64] = (
            self.probabilities[task][index] - self.without[task][:, index]
        )
        return effects

    def strongest(
        self, task: str, k: int | None = None, label: str | None = None
    ) -> list[tuple[Word, float]]:
        """The k words (None: all) with the greatest effects, for or against, with these."""
        if k is not None and k < 1:
            raise InputError(f"k is {k}; at least 1 word, or None for all")
        effects = self.effects(task, label)
        order = np.argsort(-abs(effects), kind="stable")[:k]
        return [(self.words[i], float(effects[i])) for i in order]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; effects in the order of the words, rounded to a millionth."""
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
    """What has to be computed to explain an article.

    Attributes:
        ids: 1 + W lists of token ids: of the article, and of it without each word.
        tasks: the tasks to explain.
        words: the W words.
        labels: task -> the label to explain, where one was asked for.
        words_together: most words that are taken as one.
        truncated: whether the article was longer than the model reads.
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
    """The words of an article that were read, and the word of each token.

    Args:
        read: what was read of the article.
        article: as it was given, in which the words are found again.
        max_words: where there are more, neighbours are taken together, so many as are needed.

    Returns:
        The W words; (T,) the index of each token's word or NO_WORD; how many are taken together.
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
    # A token belongs to the word that holds its last character: the first may be the blank before.
    owners = np.searchsorted(ends, read.spans[:, 1]).astype(np.int64)
    owners[read.spans[:, 0] >= read.spans[:, 1]] = NO_WORD
    read_words, owners = _renumber(owners)
    return _together([words[i] for i in read_words], owners, max_words)


def occlude(
    ids: Sequence[int], owners: NDArray[np.int64], words: int, *, mask_id: int | None = None
) -> Iterator[list[int]]:
    """The tokens without the first word, without the second, and so on: `words` lists.

    Args:
        ids: (T,) token ids.
        owners: (T,) the word of each token, as `split_words` gives it.
        words: W.
        mask_id: a token to put in the place of each that goes; None leaves it out.
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
    """The words that own a token, and the owners counted among these."""
    found = np.unique(owners[owners != NO_WORD])
    return found, np.where(owners == NO_WORD, NO_WORD, np.searchsorted(found, owners))


def _together(
    words: Sequence[Word], owners: NDArray[np.int64], max_words: int
) -> tuple[tuple[Word, ...], NDArray[np.int64], int]:
    """Neighbours as one word, as few as keep to `max_words`, never over the end of a part."""
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
    """Where cleaned words stand in the text that was cleaned, as far as they are found there.

    Each is looked for among the next few words of the text given: itself, or what one of them is
    when it is cleaned ("caf&eacute;"), or several that markup parts ("<b>cup</b>,"). The search
    for the next one goes on behind it.
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
    """The first of the words ahead, or the first few in a row, that are this one; the last may be cut."""
    for first, given in enumerate(ahead):
        # Cleaning shortens, but a word that is much longer is not worth cleaning.
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
