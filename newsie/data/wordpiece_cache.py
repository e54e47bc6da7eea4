"""Tokenising with a cache of the pieces of each word.

News repeats the same words. BERT's tokenizers treat every word independently, so the pieces of a text are
those of its words, concatenated. A regular expression finds the words, and the tokenizer itself is called
only for new ones.
"""

from __future__ import annotations

import re
from itertools import chain

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

__all__ = ["PieceCache"]

MAX_WORDS = 65_536
"""The most words in the cache, about 15 MB. The most frequent ones come early."""

MAX_WORD_CHARACTERS = 64
"""The longest word to cache. Longer strings are not words, and seldom recur."""

# Characters that BERT's pre-tokenizer always makes a separate word: ASCII punctuation and typographic
# characters. There are more, but a word that contains one of those goes to the tokenizer unsplit.
_PUNCTUATION = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~‘’“”–—…")
# Only the blanks of cleaned text, because Python and the tokenizer disagree about others.
_WORDS = re.compile(f"[^ \\n{_PUNCTUATION}]+|[{_PUNCTUATION}]")


class PieceCache(dict[str, list[int]]):
    """A cache of word -> ids of its pieces. It is thread-safe.

    Args:
        tokenizer: a tokenizer for which `suits` returns True.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        whole, bare = (
            tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False)
        )
        start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        self.before, self.after = whole[:start], whole[start + len(bare) :]

    @staticmethod
    def suits(tokenizer: Tokenizer) -> bool:
        """Return True if a tokenizer treats every word independently and adds tokens only at the ends."""
        return (
            isinstance(tokenizer.normalizer, BertNormalizer)
            and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
            and not any(
                token.normalized or any(map(str.isspace, token.content))
                for token in tokenizer.get_added_tokens_decoder().values()
            )
        )

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text's pieces, without the special tokens at its ends."""
        if any(token in text for token in self._special):  # a text that contains "[MASK]"
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return [*chain.from_iterable(map(self.__getitem__, _WORDS.findall(text)))]

    def __missing__(self, word: str) -> list[int]:
        ids = list(self._tokenizer.encode(word, add_special_tokens=False).ids)
        if len(self) < MAX_WORDS and len(word) <= MAX_WORD_CHARACTERS:
            self[word] = ids
        return ids
