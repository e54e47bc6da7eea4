"""Text as people meant it: no markup, no invisible characters, no name of the site at the end."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

__all__ = ["clean_text", "learn_site_suffixes", "strip_site_suffix"]

# Every pattern below takes time in proportion to the text, whatever the text: no repetition can
# start again within what another one has read ("<" ends each), and find() gives up for good once
# an end is missing.
_AMPERSANDS = re.compile(r"&(?:(?:amp|#0{0,5}38|#x0{0,5}26);)+", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_INLINE_NAMES = (
    "a|abbr|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|"
    "strong|sub|sup|time|tt|u|var|wbr"
)
_BLOCK_NAMES = (
    "address|article|aside|audio|blockquote|body|br|button|canvas|caption|center|col|colgroup|dd|"
    "details|div|dl|dt|embed|fieldset|figcaption|figure|footer|form|h[1-6]|head|header|hr|html|"
    "iframe|img|input|label|legend|li|link|main|meta|nav|noscript|object|ol|option|p|param|"
    "picture|pre|script|section|select|source|style|summary|svg|table|tbody|td|template|textarea|"
    "tfoot|th|thead|title|tr|track|ul|video|[a-z]+[:-][a-z][a-z:-]*"
)
# A tag is a known name alone, a name with an attribute ("="), or a closing tag. Everything else in
# angle brackets is text: "<3", "5 < 6 and 7 > 3", "x <b and c> d", "<unk>".
_INLINE_TAG = re.compile(
    rf"</(?:{_INLINE_NAMES})\s*+>|<(?:{_INLINE_NAMES})(?:\s*+/?>|\s[^<>=]*+=[^<>]*+>)",
    re.IGNORECASE,
)
_BLOCK_TAG = re.compile(
    rf"</[a-z][a-z0-9:-]*+\s*+>|<(?:{_BLOCK_NAMES})\s*+/?>|<[a-z][a-z0-9:-]*+\s[^<>=]*+=[^<>]*+>|"
    r"<!(?:doctype|\[CDATA\[)[^<>\[]*+>?|\]\]>|<\?xml[^<>]*+>",
    re.IGNORECASE,
)
_HIDDEN_BLOCKS = (("<!--", "-->"), ("<script", "</script>"), ("<style", "</style>"))
# Soft hyphen, zero-width characters, direction marks, byte order mark, interlinear and tag marks.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]+"
)
_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")

MAX_MARKS = 30
"""Combining marks kept in a row (the limit of Unicode's stream-safe text): normalising sorts each
run, and a hostile run of a million marks would take hours."""


def clean_text(text: str) -> str:
    """One line of plain text: no HTML, no control or invisible characters, single spaces, NFC.

    Never raises, and takes time in proportion to the length of the text.
    """
    if _is_plain(text):
        return text
    if "&" in text:
        text = _unescape(text)
    text = _INVISIBLE.sub("", text)
    if "<" in text:
        text = _remove_tags(text)
    text = " ".join(_UNREADABLE.sub(" ", text).split())
    return text if text.isascii() else _normalise(text)


def _is_plain(text: str) -> bool:
    """Whether cleaning would change nothing; a few fast scans, true for most articles."""
    return (
        text.isprintable()  # false for control, invisible and blank characters other than " "
        and "<" not in text
        and "&" not in text
        and "  " not in text
        and text[:1] != " "
        and text[-1:] != " "
        and text.isascii()
    )


def _unescape(text: str) -> str:
    """Entities as characters, also when escaped more than once ("&amp;amp;quot;")."""
    text = _AMPERSANDS.sub("&", text)
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text)


def _remove_tags(text: str) -> str:
    for opening, closing in _HIDDEN_BLOCKS:
        text = _remove_blocks(text, opening, closing)
    return _BLOCK_TAG.sub(" ", _INLINE_TAG.sub("", text))


def _remove_blocks(text: str, opening: str, closing: str) -> str:
    """Without what lies between the marks; an opening mark without an end is left alone."""
    lowered = text.lower() if opening in text or opening.upper() in text else text
    if opening not in lowered or len(lowered) != len(text):
        return text
    kept, position = [], 0
    while (start := lowered.find(opening, position)) >= 0:
        end = lowered.find(closing, start + len(opening))
        if end < 0:
            break
        kept.append(text[position:start])
        position = end + len(closing)
    kept.append(text[position:])
    return " ".join(kept)


def _normalise(text: str) -> str:
    if unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", text)


# --- names of sites at the end of headlines ---------------------------------------------------

_DASHES = (" - ", " – ", " — ")
_MAX_STRIPPED = 4
_MAX_WORDS, _MAX_CHARACTERS = 5, 40
_DOMAIN = re.compile(r"(?:www\.)?[\w-]+(?:\.[\w-]+)*\.[a-z]{2,6}(?: news)?", re.IGNORECASE)
_TOP_LEVEL = re.compile(r"(?:\.(?:com|co|org|net|in|uk|au|us|ie|ca|tv|news|info|io))+$")
_NOT_NAMES = frozenset(
    "analysis breaking exclusive explained gossip here latest live news opinion photo photos pics "
    "poll recap report reports review reviews source sources study survey update updates video "
    "videos watch world today health sport sports business".split()
)


def _split_suffix(headline: str) -> tuple[str, str, bool]:
    """(what is before the last separator, what is behind it, whether that is a bar)."""
    bar = headline.rfind("|")
    dash = max(headline.rfind(separator) for separator in _DASHES)
    if bar < 0 and dash < 0:
        return headline, "", False
    if bar > dash:
        return headline[:bar].rstrip(" |"), headline[bar + 1 :].strip(), True
    return headline[:dash].rstrip(), headline[dash + 3 :].strip(), False


def strip_site_suffix(headline: str, suffixes: frozenset[str]) -> str:
    """A cleaned headline without the names of sites at its end; never empty if it was not.

    Args:
        headline: a headline, as `clean_text` gives it.
        suffixes: the endings to remove, as `learn_site_suffixes` gives them.
    """
    if not suffixes:
        return headline
    for _ in range(_MAX_STRIPPED):
        before, suffix, _bar = _split_suffix(headline)
        if not before or suffix not in suffixes:
            break
        headline = before
    return headline


def learn_site_suffixes(
    headlines: Iterable[str], publishers: Iterable[str] | None = None, min_count: int = 20
) -> tuple[str, ...]:
    """The endings of headlines that name a site ("BBC News" in "... | BBC News"), sorted.

    An ending is what follows the last bar or the last dash between spaces. It counts when it
    recurs and is short, and
    - behind a bar: it starts with a capital or looks like a domain;
    - behind a dash, where real text stands too ("- report", "- live updates"): it looks like a
      domain, or most headlines that end so come from a publisher of about that name; without
      publishers, it is written like a name, every word with a capital.

    Args:
        headlines: the training headlines.
        publishers: the publisher of each headline ("" where unknown), or None.
        min_count: how often an ending must occur.
    """
    texts = [clean_text(headline) for headline in headlines]
    names = None if publishers is None else [_letters(publisher) for publisher in publishers]
    if names is not None and len(names) != len(texts):
        raise ValueError(f"{len(texts)} headlines and {len(names)} publishers; one of each")
    found: frozenset[str] = frozenset()
    for _ in range(_MAX_STRIPPED):  # "A | B - C": B is seen once C is known
        new = _find_suffixes([strip_site_suffix(text, found) for text in texts], names, min_count)
        if new <= found:
            break
        found |= new
    return tuple(sorted(found))


def _find_suffixes(
    headlines: list[str], names: list[str] | None, min_count: int
) -> frozenset[str]:
    after_bar: Counter[str] = Counter()
    after_dash: dict[str, Counter[str]] = defaultdict(Counter)
    for position, headline in enumerate(headlines):
        before, suffix, bar = _split_suffix(headline)
        if not before or not _is_short(suffix):
            continue
        if bar:
            after_bar[suffix] += 1
        else:
            after_dash[suffix]["" if names is None else names[position]] += 1
    found = {s for s, n in after_bar.items() if n >= min_count and _starts_like_name(s)}
    for suffix, sources in after_dash.items():
        if sources.total() >= min_count and _is_site(suffix, None if names is None else sources):
            found.add(suffix)
    return frozenset(found)


def _is_short(suffix: str) -> bool:
    return 0 < len(suffix) <= _MAX_CHARACTERS and suffix.count(" ") < _MAX_WORDS


def _starts_like_name(suffix: str) -> bool:
    return suffix[0].isupper() or _DOMAIN.fullmatch(suffix) is not None


def _is_site(suffix: str, sources: Counter[str] | None) -> bool:
    """Whether an ending behind a dash names a site; `sources`: how often by publisher."""
    if _DOMAIN.fullmatch(suffix):
        return True
    words = suffix.split()
    if all(word.casefold().strip("!.:?") in _NOT_NAMES for word in words):
        return False
    if sources is None:
        return all(word[0].isupper() or word in ("of", "the", "and", "&") for word in words)
    ending = _letters(suffix)
    same = sum(n for publisher, n in sources.items() if _is_same_name(ending, publisher))
    return 2 * same > sources.total()


def _letters(name: str) -> str:
    """A name for comparing: "The Jakarta Post", "jakartapost.com" -> "jakartapost"."""
    name = _TOP_LEVEL.sub("", name.casefold().strip().removeprefix("www."))
    return "".join(c for c in name.removeprefix("the ") if c.isalnum()).removeprefix("the")


def _is_same_name(a: str, b: str) -> bool:
    """Equal, or the one within the other and at least half as long."""
    if len(a) > len(b):
        a, b = b, a
    return len(a) >= 2 and a in b and 2 * len(a) >= len(b)
