"""Checks of texts: empty, very short, very long, not English, repeated sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from newsie.data.cleaning import clean_text
from newsie.doctor.findings import MAX_EXAMPLES, Example, Finding, Severity
from newsie.doctor.reading import NewsFile
from newsie.errors import MissingExtraError
from newsie.texts import plural

__all__ = ["check_columns", "check_texts", "is_foreign", "language_detector"]

SHORT_WORDS = 3
LONG_CHARACTERS = 50_000
SHOWN_CHARACTERS = 200

MIN_REPEATS, MIN_REPEATED_SHARE = 10, 0.001
MIN_SENTENCE_WORDS = 4
ENDS = 2
"""The number of sentences to compare at the start and at the end of a body, where notices stand."""

MIN_LETTER_BYTES, LANGUAGE_CHARACTERS = 30, 300
MAX_ENGLISH = 0.01
"""The probability of English below which a text counts as foreign."""

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<!\s)\s++[|•]\s+")
_COMMON = re.compile(r"\b(?:the|and|of|for|with|from|was|that)\b", re.IGNORECASE)


def check_columns(file: NewsFile) -> Iterator[Finding]:
    """Find columns that were probably mistaken for others, and missing fields."""
    fields = {"headline": file.columns.headline, "body": file.columns.body}
    for field, column in fields.items():
        values = [v for a in file.articles if (v := getattr(a, field).strip())]
        strange = sum(not _is_text(value) for value in values)
        if column is not None and len(values) > 1 and strange > len(values) / 2:
            yield _wrong_column(field, column, strange, len(values), values)
    sizes = [(len(a.headline), len(a.body)) for a in file.articles if a.headline and a.body]
    swapped = sum(headline > body for headline, body in sizes)
    if len(sizes) > 1 and swapped > 0.9 * len(sizes):
        yield Finding(
            "columns-swapped",
            Severity.problem,
            f"{swapped:,} of {len(sizes):,} headlines are longer than their body",
            f"Headline and body seem to be exchanged: --columns headline={file.columns.body} "
            f"--columns body={file.columns.headline}",
            swapped,
        )
    if file.columns.headline is None or file.columns.body is None:
        missing = "headline" if file.columns.headline is None else "body"
        yield Finding(
            f"no-{missing}",
            Severity.note,
            f"There is no column for the {missing}",
            f"That works. If the file has one, name it: --columns {missing}=COLUMN.",
            len(file.articles),
        )


def _is_text(value: str) -> bool:
    """Return True if a value is words, rather than a number, a date or a URL."""
    letters = sum(map(_is_letter, value))
    return 2 * letters > len(value.replace(" ", "")) and not re.match(r"https?://\S+$", value)


def _wrong_column(
    field: str, column: str, strange: int, total: int, values: Sequence[str]
) -> Finding:
    shown = [value for value in values if not _is_text(value)][:MAX_EXAMPLES]
    return Finding(
        "wrong-column",
        Severity.problem,
        f"Column {column!r} was taken for the {field}, and {strange:,} of its {total:,} values "
        "are numbers, dates or addresses",
        f"Name the right column: --columns {field}=COLUMN.",
        strange,
        examples=tuple(Example(_shown(value)) for value in shown),
    )


def check_texts(file: NewsFile, *, languages: bool = True) -> Iterator[Finding]:
    """Find rows and texts that teach a model nothing or the wrong thing."""
    yield from _check_skipped(file)
    yield from _check_notes(file)
    yield from _check_sizes(file)
    if languages:
        yield from _check_language(file)
    yield from _check_repeats(file)
    if file.site_suffixes:
        yield Finding(
            "site-names",
            Severity.note,
            f"{len(file.site_suffixes):,} names of sites stand at the end of headlines",
            "Training and classifying remove them; nothing to do.",
            len(file.site_suffixes),
            examples=tuple(Example(suffix) for suffix in file.site_suffixes[:MAX_EXAMPLES]),
        )


def _check_skipped(file: NewsFile) -> Iterator[Finding]:
    reasons = file.problems.counts
    if not reasons:
        return
    yield Finding(
        "rows-skipped",
        Severity.warning,
        f"{len(file.problems):,} of {file.rows:,} rows cannot be used: "
        + ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common()),
        "Training skips them. Repair them where they come from; --fix leaves them out.",
        len(file.problems),
        examples=tuple(
            Example(p.reason, p.row, p.detail) for p in file.problems.examples[:MAX_EXAMPLES]
        ),
        details={"reasons": dict(reasons)},
    )


def _check_notes(file: NewsFile) -> Iterator[Finding]:
    """Report the reader's notes about rows and files that it did not skip."""
    notes = file.problems.notes.copy()
    if file.problems.recoded:
        notes["row that is not UTF-8: read as Windows-1252"] = file.problems.recoded
    if not notes:
        return
    yield Finding(
        "read-with-notes",
        Severity.note,
        "Parts of it are read, but not quite as they stand: "
        + ", ".join(f"{n:,} × {reason}" for reason, n in notes.most_common()),
        "Check that this is meant; every command reads the file in the same way.",
        notes.total(),
        details={"notes": dict(notes)},
    )


def _check_sizes(file: NewsFile) -> Iterator[Finding]:
    short = [i for i, text in enumerate(file.texts) if len(text.split()) < SHORT_WORDS]
    if short:
        yield _about(
            file,
            short,
            "short",
            Severity.warning,
            f"with fewer than {SHORT_WORDS} words in headline and body together",
            "So little text tells nothing. Add the body, or leave the rows out.",
        )
    long = [i for i, text in enumerate(file.texts) if len(text) > LONG_CHARACTERS]
    if long:
        yield _about(
            file,
            long,
            "long",
            Severity.warning,
            f"longer than {LONG_CHARACTERS:,} characters",
            "Perhaps several articles in one row. A student reads the start only.",
        )


def _check_language(file: NewsFile) -> Iterator[Finding]:
    english = language_detector()
    foreign = [i for i, text in enumerate(file.texts) if is_foreign(text, english)]
    if foreign:
        share = len(foreign) / len(file.articles)
        yield _about(
            file,
            foreign,
            "not-english",
            Severity.problem if share > 0.5 else Severity.warning,
            f"({share:.1%}) not in English",
            "The encoders that come with Newsie learnt English. Leave these out, or train on an "
            "encoder that reads their language.",
        )


@cache  # reading its model takes a second
def language_detector() -> Callable[[str], float]:
    """Return a function that returns the probability that a text is English.

    It uses py3langid (Lui and Baldwin 2012, "langid.py"), which has 4.6 MB and needs no network.

    Raises:
        MissingExtraError: py3langid is not installed.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingExtraError("telling languages", "py3langid", "analysis") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return lambda text: float(dict(identifier.rank(text))["en"])


def is_foreign(text: str, english: Callable[[str], float]) -> bool:
    """Return True if the start of a text is certainly not English. A short text never is.

    Two different words among the most common English ones decide without the detector, which takes
    longer than everything else.
    """
    start = text[:LANGUAGE_CHARACTERS]
    if len({word.casefold() for word in _COMMON.findall(start)}) > 1:
        return False
    # Count bytes, because a letter or mark of many other scripts says as much as three Latin letters.
    size = len("".join(filter(_is_letter, start)).encode("utf-8", "surrogatepass"))
    return size >= MIN_LETTER_BYTES and english(start) < MAX_ENGLISH


def _is_letter(character: str) -> bool:
    """Return True if a character is a letter, or a vowel sign or the like in another script."""
    return character.isalpha() or not character.isascii()


def _check_repeats(file: NewsFile) -> Iterator[Finding]:
    """Find sentences that begin or end the bodies of many articles with different headlines."""
    bodies = [_ends(article.body) for article in file.articles]
    seen = {(h, s) for h, found in zip(file.headlines, bodies, strict=True) for s in found}
    counts = Counter(sentence for _, sentence in seen)
    least = max(MIN_REPEATS, MIN_REPEATED_SHARE * len(bodies))
    repeated = {sentence: n for sentence, n in counts.most_common() if n >= least}
    rows = [i for i, found in enumerate(bodies) if any(s in repeated for s in found)]
    if not repeated:
        return
    examples = tuple(
        Example(_shown(sentence), note=f"{n:,} articles")
        for sentence, n in list(repeated.items())[:MAX_EXAMPLES]
    )
    found = _about(
        file,
        rows,
        "boilerplate",
        Severity.warning,
        "that begin or end with a sentence that many others have, too "
        f"({plural(len(repeated), 'such sentence', 'such sentences')})",
        "Notices such as 'Sign up to our newsletter' are no news, and may give a publisher or a "
        "section away. Remove them where the text comes from.",
    )
    yield replace(found, examples=examples)


def _ends(body: str) -> set[str]:
    """Return the first and last sentences of a body, if it has more than one, each a short line."""
    sentences = [s for s in _SENTENCE_END.split(clean_text(body)) if s]
    if len(sentences) < 2:
        return set()
    ends = {*sentences[:ENDS], *sentences[-ENDS:]}
    return {s.casefold() for s in ends if s.count(" ") + 1 >= MIN_SENTENCE_WORDS}


def _about(
    file: NewsFile, found: Sequence[int], code: str, severity: Severity, what: str, advice: str
) -> Finding:
    """Return a finding about articles, given by position."""
    return Finding(
        code,
        severity,
        f"{plural(len(found), 'article', 'articles')} {what}",
        advice,
        len(found),
        examples=tuple(
            Example(_shown(file.texts[i]), file.numbers[i]) for i in found[:MAX_EXAMPLES]
        ),
        rows=tuple(file.numbers[i] for i in found),
    )


def _shown(text: str) -> str:
    return " ".join(text[:SHOWN_CHARACTERS].split())
