"""Tokenising with a memory: the pieces of a word are looked up once they are known.

News is made of the same words again and again. BERT's tokenizers treat every word on its own, so that the
pieces of a text are those of its words, one after the other; a regular expression finds the words, and the
tokenizer itself is asked only for those that were not seen before.
"""

from __future__ import annotations

import re
from itertools import chain

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

__all__ = ["PieceCache"]

MAX_WORDS = 65_536
"""Words that are remembered, about 15 MB; the most frequent ones come early."""

MAX_WORD_CHARACTERS = 64
"""Longer ones are no words, and seldom come again."""

# Characters that BERT's pre-tokenizer makes a word of their own wherever they stand: ASCII punctuation and
# what typesetters use. There are more; a word that holds one of those goes to the tokenizer as it is.
_PUNCTUATION = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~‘’“”–—…")
# Only the blanks that a clean text has: of others, Python and the tokenizer think differently.
_WORDS = re.compile(f"[^ \\n{_PUNCTUATION}]+|[{_PUNCTUATION}]")


class PieceCache(dict[str, list[int]]):
    """Word -> ids of its pieces. Safe to use from several threads at once.

    Args:
        tokenizer: one for which `suits` holds.
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
        """Whether a tokenizer treats every word on its own, and only adds tokens at both ends."""
        return (
            isinstance(tokenizer.normalizer, BertNormalizer)
            and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
            and not any(
                token.normalized or any(map(str.isspace, token.content))
                for token in tokenizer.get_added_tokens_decoder().values()
            )
        )

    def ids(self, text: str) -> list[int]:
        """Ids of a text's pieces, without the special tokens at its ends."""
        if any(token in text for token in self._special):  # a text that speaks of "[MASK]"
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return [*chain.from_iterable(map(self.__getitem__, _WORDS.findall(text)))]

    def __missing__(self, word: str) -> list[int]:
        ids = list(self._tokenizer.encode(word, add_special_tokens=False).ids)
        if len(self) < MAX_WORDS and len(word) <= MAX_WORD_CHARACTERS:
            self[word] = ids
        return ids
