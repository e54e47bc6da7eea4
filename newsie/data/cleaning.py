"""Cleaning text: removing markup, invisible characters and site names at the end of headlines."""

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

# Every pattern below runs in linear time on any text: no repetition can start again within a
# stretch that another one has read ("<" ends each), and the search for a closing mark is not
# repeated once it has failed.
_AMPERSANDS = re.compile(r"&(?:(?:amp|#0{0,5}38|#x0{0,5}26);)+", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# A truncated text may end in half an entity or half a tag.
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
# angle brackets is text: "<3", "5 < 6 and 7 > 3", "x <b and c> d", "<unk>". The lookahead avoids
# trying every name at a "<" that starts no tag.
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
"""The most combining marks kept in a row, the limit of Unicode's stream-safe text format.
Normalising sorts each run of marks in quadratic time."""
_MARKS = re.compile(rf"[^\x00-\u02ff\w\s]{{{MAX_MARKS + 1},}}")  # marks are not \w in Python


def clean_text(text: str) -> str:
    """Return a text as one line of plain text: no HTML, no control or invisible characters, single
    spaces, NFC.

    Never raises, and runs in linear time.
    """
    return _clean(text, cut=False)


def clean_start(text: str, characters: int) -> str:
    """Return the start of what `clean_text` returns, or all of it if it is short, without cleaning much
    more than needed. The first `characters` characters are the same; the few after them may differ."""
    size = 4 * (characters + MAX_MARKS)  # generous, because cleaning shortens
    while size < len(text):
        # Further marks might still combine with the last characters and reorder them.
        start = _clean(text[:size], cut=True)
        if len(start) > characters + MAX_MARKS:
            return start
        size *= 4
    return clean_text(text)


def blank_markup(text: str) -> str:
    """Replace comments, scripts, styles and tags by spaces, so that all other characters keep their
    positions."""

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
    """Clean a text. An unfinished entity or tag at its end is dropped if the text is `cut`."""
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


# Any character except Latin letters, quotes, dashes and currency signs. Those are visible, are no marks,
# and do not change in NFC.
_UNUSUAL = re.compile("[^ -\u02ff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2122]")


def _is_plain(text: str) -> bool:
    """Return True if cleaning would change nothing. A few fast scans, which most articles pass."""
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
    """Replace entities by characters, even those escaped more than once ("&amp;amp;quot;")."""
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
    """Remove comments, scripts and styles. One that is never closed is kept. If the text is `cut`, it is
    dropped instead, with all text after it, because its end may lie beyond the cut."""
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
    """Yield the start and end of each comment, script and style. The end is None for the first of each
    kind that is never closed."""
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


# --- site names at the end of headlines -------------------------------------------------------

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
    """Return the text before the last separator, the text after it, and True if the separator is a bar."""
    bar = headline.rfind("|")
    dash = max(headline.rfind(separator) for separator in _DASHES)
    if bar < 0 and dash < 0:
        return headline, "", False
    if bar > dash:
        return headline[:bar].rstrip(" |"), headline[bar + 1 :].strip(), True
    return headline[:dash].rstrip(), headline[dash + 3 :].strip(), False


def strip_site_suffix(headline: str, suffixes: frozenset[str]) -> str:
    """Remove site names from the end of a cleaned headline. The result is empty only if the headline is.

    Args:
        headline: a headline that `clean_text` returned.
        suffixes: the suffixes to remove, from `learn_site_suffixes`.
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
    """Return the suffixes of headlines that name a site ("BBC News" in "... | BBC News"), sorted.

    A suffix is the text after the last bar, or after the last dash between spaces. It names a site
    if it is short and recurs, and
    - after a bar, it starts with a capital or looks like a domain;
    - after a dash, which real text may also follow ("- report", "- live updates"), it looks like a
      domain, or most headlines with this suffix come from a publisher of about that name; without
      publishers, every word of it is capitalised.

    Args:
        headlines: the training headlines.
        publishers: the publisher of each headline ("" if unknown), or None.
        min_count: the fewest times a suffix must occur.

    Raises:
        InputError: the numbers of publishers and headlines differ.
    """
    texts = [clean_text(headline) for headline in headlines]
    names = None if publishers is None else list(publishers)
    if names is not None and len(names) != len(texts):
        raise InputError(f"{len(texts)} headlines but {len(names)} publishers; one for each")
    found: frozenset[str] = frozenset()
    for _ in range(_MAX_STRIPPED):  # in "A | B - C", B is found once C is known
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
    """Return True if a suffix after a dash names a site. `sources` counts it by publisher."""
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
    """Return True if a suffix names the publisher, or a section of it ("Jakarta Post - World")."""
    ending = _letters(suffix)
    parts = [publisher, *re.split(r" [-–—|] ", publisher)]
    return any(_is_same_name(ending, _letters(part)) for part in parts)


def _letters(name: str) -> str:
    """Return a name in a form to compare: "The Jakarta Post", "jakartapost.com" -> "jakartapost"."""
    parts = name.casefold().strip().removeprefix("www.").split(".")
    while len(parts) > 1 and parts[-1] in _TOP_LEVELS:
        parts.pop()
    return "".join(c for c in ".".join(parts).removeprefix("the ") if c.isalnum()).removeprefix(
        "the"
    )


def _is_same_name(a: str, b: str) -> bool:
    """Return True if names are equal, or one contains the other, which is at least half as long."""
    if len(a) > len(b):
        a, b = b, a
    return len(a) >= 2 and a in b and 2 * len(a) >= len(b)
