"""Names of labels: spellings of one label, placeholders for none, and several labels in one cell."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from newsie.texts import plural

__all__ = [
    "NUMBER",
    "Combined",
    "closest_label",
    "combined_labels",
    "placeholders",
    "plain_label",
    "spellings",
]

NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")

SEPARATORS = ("|", ";", ",", "/")
"""The characters that people and programs put between several labels in one cell."""


_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)


_NO_LABEL = re.compile(
    r"#?n/?a|nan|null|none|nil|undefined|unknown|unlabell?ed|--?|\?", re.IGNORECASE
)
"""The placeholders that people and programs write for a missing label."""


@dataclass(frozen=True)
class Combined:
    """Labels that combine several labels in one cell: "sport|city".

    Attributes:
        separator: the characters between the labels; empty if they are written as lists.
        counts: combined label -> number of articles.
    """

    separator: str
    counts: Mapping[str, int]

    def describe(self) -> str:
        """Return a clause with the number of combined labels and an example."""
        form = f"joined by {self.separator!r}" if self.separator else "written as lists"
        return (
            f"{plural(len(self.counts), 'label is', 'labels are')} several labels {form} "
            f"({plural(sum(self.counts.values()), 'article', 'articles')}), such as "
            f"{next(iter(self.counts))!r}"
        )


def combined_labels(counts: Mapping[str, int], known: Collection[str] = ()) -> Combined | None:
    """Return the labels that are lists, or that join other labels by a separator. Return None if there
    are none, or no more than by chance.

    Args:
        counts: label -> number of articles.
        known: further labels that may be joined.
    """
    lists = {label: n for label, n in counts.items() if _LIST.fullmatch(label)}
    if len(lists) > 1:
        return Combined("", lists)
    for separator in SEPARATORS:
        joined = {label: _parts(label, separator) for label in counts if separator in label}
        uses = Counter(part for parts in joined.values() for part in parts)
        single = {label.strip() for label in (*counts, *known)}
        combined = {
            label: counts[label]
            for label, parts in joined.items()
            if len(parts) > 1 and all(part in single or uses[part] > 1 for part in parts)
        }
        if len(combined) > (separator in ",/"):  # these also occur in the name of a single label
            return Combined(separator, combined)
    return None


def _parts(label: str, separator: str) -> set[str]:
    return {part for cell in label.split(separator) if (part := cell.strip())}


def spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Return label -> the most frequent label that differs from it only in case, spaces and punctuation.

    Args:
        counts: label -> number of articles.
    """
    families: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        families[plain_label(label)].append(label)
    return {other: first for first, *others in families.values() for other in others}


def placeholders(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the labels that stand for a missing one ("NA", "null", "-"), with their article counts."""
    return {label: n for label, n in counts.items() if _NO_LABEL.fullmatch(label)}


def plain_label(label: str) -> str:
    """Return a label without case, spaces and punctuation, or the label itself if nothing is left.

    Signs that distinguish labels are kept: "-1" is not "1", "1.0" not "10", and "C++" not "C".
    """
    text = unicodedata.normalize("NFKC", label).casefold().replace("&", "and").strip()
    if NUMBER.fullmatch(text):
        return text
    return "".join(c for c in text if c.isalnum() or c in "+#") or label


def closest_label(label: str, known: Sequence[str]) -> str | None:
    """Return the known label that is equal to a label up to case, punctuation or a few letters."""
    plain = {plain_label(other): other for other in known}
    found = get_close_matches(plain_label(label), plain, n=1, cutoff=0.8)
    return plain[found[0]] if found else None
