"""Encoding articles as token ids, the same way for teacher, student, training and serving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from newsie.data.articles import Article
from newsie.data.cleaning import clean_start, clean_text, strip_site_suffix
from newsie.data.urls import url_words
from newsie.data.wordpiece_cache import PieceCache
from newsie.errors import BundleError, InputError

__all__ = [
    "VIEWS",
    "EncodedArticles",
    "Encoder",
    "EncodingPolicy",
    "ReadText",
    "View",
    "pad",
    "view_text",
]

View = Literal["full", "headline", "url"]
"""The part of an article that a model reads: "full" is headline and body, "headline" is the headline alone
(the body, if there is none), and "url" is the words of the address alone (blank if it has none)."""
VIEWS: tuple[View, ...] = ("full", "headline")
"""The views that a model is trained on in turns, so that both work."""

MAX_TOKENS = 131_072
"""The largest max_tokens. More would be a mistake, and would run out of memory."""

CHARACTERS_A_TOKEN = 8
"""Text beyond max_tokens times this is cut before tokenising. English has 4 to 5 characters per
token, so the cut is well after the last token kept, and a 10 MB body costs no more than a page."""


@dataclass(frozen=True)
class EncodingPolicy:
    """The rules for turning text into token ids, which are part of every bundle.

    Attributes:
        max_tokens: longest input in tokens, special tokens included; the rest is cut off.
        site_suffixes: suffixes of headlines that name the outlet ("BBC News" in "... - BBC News"),
            learnt from the training data and removed before classifying.
    """

    max_tokens: int = 256
    site_suffixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if type(self.max_tokens) is not int or not 1 <= self.max_tokens <= MAX_TOKENS:
            raise InputError(
                f"max_tokens is {self.max_tokens!r:.80}; a whole number from 1 to {MAX_TOKENS:,} is allowed"
            )
        if not all(isinstance(suffix, str) for suffix in self.site_suffixes):
            raise InputError("site_suffixes holds something else than text; give a list of texts")

    def to_json(self) -> dict[str, Any]:
        """Return the policy as plain JSON values."""
        return {"max_tokens": self.max_tokens, "site_suffixes": list(self.site_suffixes)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> EncodingPolicy:
        """Return the policy that `to_json` gave as plain JSON values."""
        suffixes = content["site_suffixes"]
        if not isinstance(suffixes, list):
            raise InputError(f"site_suffixes is {type(suffixes).__name__}; give a list of texts")
        return cls(content["max_tokens"], tuple(suffixes))


class EncodedArticles(NamedTuple):
    """Token ids of N articles, unpadded.

    Attributes:
        ids: N sequences of token ids, special tokens included.
        truncated: (N,) bool, True where text was cut off; markup and blanks do not count as text.
    """

    ids: list[list[int]]
    truncated: NDArray[np.bool_]


class ReadText(NamedTuple):
    """The text of one article that a model reads, with the character span of each token.

    Attributes:
        headline: the part of the cleaned headline that is read; may be empty.
        body: the part of the cleaned body that is read; may be empty.
        ids: (T,) token ids, special tokens included.
        spans: (T, 2) int, start and end of each token in `text`, the end exclusive; equal if a token
            stands for no text.
        truncated: True if text was cut off.
    """

    headline: str
    body: str
    ids: list[int]
    spans: NDArray[np.int64]
    truncated: bool

    @property
    def text(self) -> str:
        """Headline and body, as they were passed to the tokenizer."""
        return _join(self.headline, self.body)


def view_text(article: Article, view: View, suffixes: frozenset[str] = frozenset()) -> str:
    """Return the cleaned text of an article that a model reads."""
    if view == "url":
        return url_words(article.url)
    headline = strip_site_suffix(clean_text(article.headline), suffixes)
    if view == "headline" and headline:
        return headline
    return _join(headline, clean_text(article.body))


def _join(headline: str, body: str) -> str:
    return f"{headline}\n{body}" if headline and body else headline or body


class Encoder:
    """A tokenizer with its encoding policy.

    Args:
        tokenizer: any fast tokenizer whose post-processor adds the special tokens.
        policy: the rules for cutting and cleaning.
    """

    def __init__(self, tokenizer: Tokenizer, policy: EncodingPolicy) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(policy.max_tokens)
        self.tokenizer = tokenizer
        self.policy = policy
        self._suffixes = frozenset(policy.site_suffixes)
        self._max_characters = policy.max_tokens * CHARACTERS_A_TOKEN
        self._pieces = PieceCache(tokenizer) if PieceCache.suits(tokenizer) else None
        special = tokenizer.num_special_tokens_to_add(False)
        if policy.max_tokens <= special:
            raise InputError(
                f"max_tokens is {policy.max_tokens}, and the tokenizer adds {special} special tokens to each "
                f"text; at least {special + 1} are needed"
            )

    @classmethod
    def from_file(cls, path: Path, policy: EncodingPolicy) -> Encoder:
        """Read a tokenizer.json file.

        Raises:
            BundleError: the file does not contain a working tokenizer.
        """
        with _tokenizer_errors(f"{path} cannot be used"):
            return cls(Tokenizer.from_file(str(path)), policy)

    @classmethod
    def from_text(cls, text: bytes, policy: EncodingPolicy) -> Encoder:
        """Read a tokenizer from the text of its tokenizer.json.

        Raises:
            BundleError: the text does not contain a working tokenizer.
        """
        with _tokenizer_errors("it cannot be used"):
            return cls(Tokenizer.from_str(text.decode()), policy)

    @property
    def pad_id(self) -> int:
        """The id that pads shorter rows of a batch, or 0 if the tokenizer names none."""
        for token in ("[PAD]", "<pad>"):
            token_id = self.tokenizer.token_to_id(token)
            if token_id is not None:
                return token_id
        return 0

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids, which start at 0."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(
        self, articles: Iterable[Article], view: View = "full", *, first: int = 1
    ) -> EncodedArticles:
        """Return the token ids of each article, in order. `first` is the first one's number in messages.

        Raises:
            InputError: an article has no text, and the view reads its text.
            BundleError: the tokenizer fails on an article.
        """
        articles = list(articles)
        texts = [
            _join(*self._parts(article, view, number))
            for number, article in enumerate(articles, first)
        ]
        starts = [text[: self._max_characters] for text in texts]
        try:
            with _tokenizer_errors("tokenizer.json fails"):
                ids, overflows = self._tokenize(starts)
        except BundleError:
            self._blame(starts, articles, first)
            raise
        truncated = [
            len(text) > self._max_characters or overflow
            for text, overflow in zip(texts, overflows, strict=True)
        ]
        return EncodedArticles(ids, np.asarray(truncated, dtype=np.bool_))

    def read(self, article: Article) -> ReadText:
        """Encode one article as `encode` does, with the character span of each token.

        Raises:
            InputError: the article has no text.
            BundleError: the tokenizer fails on the article.
        """
        headline, body = self._parts(article, "full", 1)
        text = _join(headline, body)[: self._max_characters]
        kept = text[: len(headline)] if headline else ""
        with _tokenizer_errors(_fault_of(article, 1)):
            encoding = self.tokenizer.encode(text)
        truncated = len(_join(headline, body)) > len(text) or bool(encoding.overflowing)
        return ReadText(
            kept,
            text[len(kept) :].lstrip("\n"),
            encoding.ids,
            np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2),
            truncated,
        )

    def _tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Return the ids of each text, and for each text True if it is truncated."""
        if self._pieces is None:
            found = self.tokenizer.encode_batch_fast(texts)
            return [encoding.ids for encoding in found], [bool(e.overflowing) for e in found]
        before, after = self._pieces.before, self._pieces.after
        room = self.policy.max_tokens - len(before) - len(after)
        bare = list(map(self._pieces.ids, texts))
        return [[*before, *ids[:room], *after] for ids in bare], [len(ids) > room for ids in bare]

    def _blame(self, texts: Sequence[str], articles: Sequence[Article], first: int) -> None:
        """Tokenize each text alone after an error, so that the error can name the article.

        Raises:
            BundleError: the tokenizer fails on an article.
        """
        for number, (text, article) in enumerate(zip(texts, articles, strict=True), first):
            with _tokenizer_errors(_fault_of(article, number)):
                self._tokenize([text])

    def _parts(self, article: Article, view: View, number: int) -> tuple[str, str]:
        """Return headline and body of what `view_text` returns, cut a little after the last character that
        is read, because cleaning takes time in proportion to the length."""
        if view == "url":
            return url_words(article.url), ""
        headline = clean_start(article.headline, self._max_characters)
        body = ""
        if len(headline) <= self._max_characters:
            headline = strip_site_suffix(headline, self._suffixes)
            if view == "full" or not headline:
                body = clean_start(article.body, self._max_characters)
        if not (headline or body):
            raise InputError(
                f"article {_name_of(article, number)} has neither a headline nor a body (or only blank and "
                "control characters); give it at least one word"
            )
        return headline, body


def _name_of(article: Article, number: int) -> str:
    return repr(article.id) if article.id else f"number {number}"


def _fault_of(article: Article, number: int) -> str:
    return (
        f"tokenizer.json fails on article {_name_of(article, number)}: leave the article out, or use "
        "another model"
    )


@contextmanager
def _tokenizer_errors(message: str) -> Iterator[None]:
    """Raise a BundleError with a message if the tokenizer fails.

    The library raises plain `Exception`. A panic of its Rust code arrives as a PanicException, which is a
    BaseException and cannot be imported.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise BundleError(f"{message} ({error!s:.200})") from error


def pad(
    ids: Sequence[Sequence[int] | NDArray[np.int32]], pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad rows to equal length: (input_ids, attention_mask), both (B, T) with T the longest row."""
    lengths = np.fromiter(map(len, ids), np.int64, count=len(ids))
    longest = int(lengths.max(initial=0))
    input_ids = np.full((len(ids), longest), pad_id, dtype=np.int64)
    for row, row_ids in enumerate(ids):
        input_ids[row, : len(row_ids)] = row_ids
    return input_ids, (np.arange(longest) < lengths[:, None]).astype(np.int64)
