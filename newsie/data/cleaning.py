"""Text as people meant it: no markup, no invisible characters, no name of the site at the end."""

from __future__ import annotations

import html
import html.entities
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from newsie.errors import InputError

__all__ = [
    "blank_markup",
    "clean_start",
    "clean_text",
    "learn_site_suffixes",
    "strip_site_suffix",
]

# Every pattern below takes time in proportion to the text, whatever the text: no repetition can
# start again within what another one has read ("<" ends each), and find() gives up for good once
# an end is missing.
_AMPERSANDS = re.compile(r"&(?:(?:amp|#0{0,5}38|#x0{0,5}26);)+", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# What a text that is cut somewhere may end in: half an entity, half a tag.
_HALF_ENTITY = re.compile(r"&[#\w]{0,32}\Z")
_HALF_TAG = re.compile(r"<(?:[a-z/!?][^<>]*+)?\Z", re.IGNORECASE)
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
# angle brackets is text: "<3", "5 < 6 and 7 > 3", "x <b and c> d", "<unk>". The look ahead spares
# a "<" that starts no tag from trying every name.
_INLINE_TAG = re.compile(
    rf"<(?=[a-z/])(?:/(?:{_INLINE_NAMES})\s*+|(?:{_INLINE_NAMES})(?:\s*+/?|\s[^<>=]*+=[^<>]*+))>",
    re.IGNORECASE,
)
_BLOCK_TAG = re.compile(
    rf"<(?=[a-z/!?])(?:/[a-z][a-z0-9:-]*+\s*+|(?:{_BLOCK_NAMES})\s*+/?|[a-z][a-z0-9:-]*+\s[^<>=]*+=[^<>]*+"
    r"|!doctype[^<>]*+|\?xml[^<>]*+)>",
    re.IGNORECASE,
)
_HIDDEN = re.compile(r"<(!--|script(?=[\s>])|style(?=[\s>]))", re.IGNORECASE)
_HIDDEN_ENDS = {
    "!--": re.compile("-->"),
    "script": re.compile(r"</script\s*+>", re.IGNORECASE),
    "style": re.compile(r"</style\s*+>", re.IGNORECASE),
}
# Soft hyphen, zero-width characters, direction marks, byte order mark, interlinear and tag marks.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]+"
)
_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")

MAX_MARKS = 30
"""Combining marks kept in a row, the limit of Unicode's stream-safe text: normalising sorts each
run, which takes time in proportion to the square of its length."""
_MARKS = re.compile(rf"[^\x00-\u02ff\w\s]{{{MAX_MARKS + 1},}}")  # marks are not \w in Python


def clean_text(text: str) -> str:
    """One line of plain text: no HTML, no control or invisible characters, single spaces, NFC.

    Never raises, and takes time in proportion to the length of the text.
    """
    return _clean(text, cut=False)


def clean_start(text: str, characters: int) -> str:
    """More than so many characters of what `clean_text` gives, or all of it where it is shorter,
    without cleaning more than needed. The few behind those characters may differ."""
    size = 4 * (characters + MAX_MARKS)  # generous, because cleaning shortens
    while size < len(text):
        # Further marks might still combine with the last characters and reorder them.
        start = _clean(text[:size], cut=True)
        if len(start) > characters + MAX_MARKS:
            return start
        size *= 4
    return clean_text(text)


def blank_markup(text: str) -> str:
    """A text of the same length with blanks for comments, scripts, styles and tags: what is left
    stands where it stood."""

    def blank(match: re.Match[str]) -> str:
        return " " * len(match[0])

    if "<" not in text:
        return text
    kept, position = [], 0
    for start, end in _find_hidden(text):
        if end is not None:
            kept += [text[position:start], " " * (end - start)]
            position = end
    text = "".join([*kept, text[position:]])
    return _BLOCK_TAG.sub(blank, _INLINE_TAG.sub(blank, text))


def _clean(text: str, *, cut: bool) -> str:
    """A clean text; what it ends in is dropped if it is unfinished and the text is `cut`."""
    if _is_plain(text):
        return text
    if _is_plain(line := " ".join(text.split())):  # it had line breaks, and nothing worse
        return line
    if "&" in text:
        text = _unescape(text, cut)
    text = _INVISIBLE.sub("", text)
    if "<" in text:
        text = _remove_tags(text, cut)
    text = " ".join(_UNREADABLE.sub(" ", text).split())
    return text if text.isascii() else _normalise(text)


# Neither invisible nor a mark, and the same in NFC: Latin letters, quotes, dashes, signs of currencies.
_UNUSUAL = re.compile("[^ -\u02ff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2122]")


def _is_plain(text: str) -> bool:
    """Whether cleaning would change nothing; a few fast scans, true for most articles."""
    return (
        text.isprintable()  # false for control, invisible and blank characters other than " "
        and "<" not in text
        and "&" not in text
        and "  " not in text
        and text[:1] != " "
        and text[-1:] != " "
        and (text.isascii() or _UNUSUAL.search(text) is None)
    )


def _unescape(text: str, cut: bool) -> str:
    """Entities as characters, also when escaped more than once ("&amp;amp;quot;")."""
    text = _AMPERSANDS.sub("&", text)
    return _ENTITY.sub(_unescape_entity, _HALF_ENTITY.sub("", text) if cut else text)


def _unescape_entity(match: re.Match[str]) -> str:
    # html.unescape alone would turn "&notice;" into "¬ice;", as browsers must.
    if match[0][1] == "#":
        return html.unescape(match[0])
    return html.entities.html5.get(match[0][1:], match[0])


def _remove_tags(text: str, cut: bool) -> str:
    text = _remove_hidden(text, cut)
    if cut:
        text = _HALF_TAG.sub("", text)
    text = text.replace("<![CDATA[", " ").replace("]]>", " ")
    return _BLOCK_TAG.sub(" ", _INLINE_TAG.sub("", text))


def _remove_hidden(text: str, cut: bool) -> str:
    """Without comments, scripts and styles. One that does not end is left alone, or if the text is
    `cut`, all from there on is dropped: the end may be behind the cut."""
    kept, position = [], 0
    for start, end in _find_hidden(text):
        if end is None:
            if cut:
                text = text[:start]
                break
            continue
        kept.append(text[position:start])
        position = end
    kept.append(text[position:])
    return " ".join(kept)


def _find_hidden(text: str) -> Iterator[tuple[int, int | None]]:
    """Where comments, scripts and styles start and end; None for the first of a kind without end."""
    position, endless = 0, set[str]()
    for opening in _HIDDEN.finditer(text):
        kind = opening[1].lower()
        if opening.start() < position or kind in endless:
            continue
        closing = _HIDDEN_ENDS[kind].search(text, opening.end())
        if closing is None:
            endless.add(kind)
            yield opening.start(), None
        else:
            position = closing.end()
            yield opening.start(), position


def _normalise(text: str) -> str:
    if unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", _MARKS.sub(_limit_marks, text))


def _limit_marks(match: re.Match[str]) -> str:
    kept, run = [], 0
    for character in match[0]:
        run = run + 1 if unicodedata.combining(character) else 0
        if run <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)


# --- names of sites at the end of headlines ---------------------------------------------------

_DASHES = (" - ", " – ", " — ")
_MAX_STRIPPED = 4
_MAX_WORDS, _MAX_CHARACTERS = 5, 40
_DOMAIN = re.compile(r"(?:www\.)?[\w-]+(?:\.[\w-]+)*\.[a-z]{2,6}(?: news)?", re.IGNORECASE)
_TOP_LEVELS = frozenset(
    {"com", "co", "org", "net", "in", "uk", "au", "us", "ie", "ca", "tv", "news", "info", "io"}
)
_NOT_NAMES = frozenset(
    {
        *("analysis", "breaking", "exclusive", "explained", "gossip", "here", "latest", "live"),
        *("opinion", "photo", "photos", "pics", "poll", "recap", "report", "reports", "review"),
        *("reviews", "source", "sources", "study", "survey", "update", "updates", "video"),
        *("videos", "watch", "news", "world", "today", "health", "sport", "sports", "business"),
    }
)
_SMALL_WORDS = frozenset({"of", "the", "and", "&", "in", "for"})


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

    Raises:
        InputError: not as many publishers as headlines.
    """
    texts = [clean_text(headline) for headline in headlines]
    names = None if publishers is None else list(publishers)
    if names is not None and len(names) != len(texts):
        raise InputError(f"{len(texts)} headlines but {len(names)} publishers; one for each")
    found: frozenset[str] = frozenset()
    for _ in range(_MAX_STRIPPED):  # "A | B - C": B is seen once C is known
        new = _find_suffixes([strip_site_suffix(text, found) for text in texts], names, min_count)
        if new <= found:
            break
        found |= new
    return tuple(sorted(found))


def _find_suffixes(headlines: list[str], names: list[str] | None, min_count: int) -> frozenset[str]:
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
        return all(word[0].isupper() or word in _SMALL_WORDS for word in words)
    same = sum(n for publisher, n in sources.items() if _is_publisher(suffix, publisher))
    return 2 * same > sources.total()


def _is_publisher(suffix: str, publisher: str) -> bool:
    """Whether an ending is the name of the publisher, or of a part ("Jakarta Post - World")."""
    ending = _letters(suffix)
    parts = [publisher, *re.split(r" [-–—|] ", publisher)]
    return any(_is_same_name(ending, _letters(part)) for part in parts)


def _letters(name: str) -> str:
    """A name for comparing: "The Jakarta Post", "jakartapost.com" -> "jakartapost"."""
    parts = name.casefold().strip().removeprefix("www.").split(".")
    while len(parts) > 1 and parts[-1] in _TOP_LEVELS:
        parts.pop()
    return "".join(c for c in ".".join(parts).removeprefix("the ") if c.isalnum()).removeprefix(
        "the"
    )


def _is_same_name(a: str, b: str) -> bool:
    """Equal, or the one within the other and at least half as long."""
    if len(a) > len(b):
        a, b = b, a
    return len(a) >= 2 and a in b and 2 * len(a) >= len(b)
