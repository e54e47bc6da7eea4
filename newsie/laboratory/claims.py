"""The claims that a comparison tests: pairs of arms, and what it would show if the first beat the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from newsie.laboratory.arms import DEFAULT
from newsie.training.experiment import Swept

__all__ = ["CLAIMS", "ROBUST", "claims_about", "swept_by"]

CLAIMS: Mapping[tuple[str, str], str] = {
    ("soft", "hard"): "a student of the teacher's distribution beats one of its top label",
    ("soft", "gold"): "a student of the teacher's distribution beats one of the gold labels",
    ("soft+gold", "gold"): "soft and gold labels together beat gold labels alone",
    ("soft+gold", "soft"): "gold labels help beside soft ones",
    (
        "soft+gold",
        "sparse",
    ): "soft labels for every task of every article beat soft labels where there is a gold one",
    ("soft+gold", "two temperatures"): "one temperature for teacher and student beats two",
    ("ensemble", "soft+gold"): "an ensemble teaches better than a single teacher",
    ("gold", "no teacher"): "to begin with the teacher's layers helps, whatever is learnt then",
    ("soft+gold", "no teacher"): "distillation as a whole beats a student without a teacher",
    (
        "soft+gold, more text",
        "no teacher",
    ): "distillation with more text beats a student without a teacher",
    ("soft+gold, more text", "soft+gold"): "more text, labelled by the teacher, helps",
    ("soft, more text", "soft"): "more text helps where soft labels are all there is",
    (
        "soft, more text",
        "hard, more text",
    ): "with more text, too, the distribution beats the top label",
    ("soft, more text", "gold"): "soft labels of more text beat the gold labels of less",
    ("standardised", "soft+gold"): "standardised logits help",
    ("decoupled", "soft+gold"): "decoupling the target helps",
    ("correlation", "soft+gold"): "correlation instead of divergence helps",
    ("annealed", "soft+gold"): "teacher annealing helps",
    ("relations", "soft+gold"): "copying the teacher's relations between tokens helps",
    ("projection", "soft+gold"): "copying the teacher's hidden states helps",
    ("drop words", "soft+gold"): "articles with words left out help",
    ("swap bodies", "soft+gold"): "headlines over bodies of others help",
    ("mix words", "soft+gold"): "articles mixed of two help",
    ("mix-up", "soft+gold"): "mixtures of word embeddings help",
    ("boundary", "soft+gold"): "mixtures on the border of two labels help",
    ("headline soft", "headline gold"): "of headlines alone, too, soft labels beat gold ones",
    (
        "headline privileged",
        "headline gold",
    ): "a teacher of whole articles helps a student of headlines",
    (
        "headline privileged",
        "headline soft",
    ): "for a student of headlines a teacher of whole articles beats one that reads headlines itself",
    (
        "headline privileged, more text",
        "headline gold",
    ): "a teacher of whole articles and more text help a student of headlines",
    (
        "url privileged",
        "url gold",
    ): "a teacher of whole articles helps a student of the words of addresses",
    (
        "url privileged, more text",
        "url gold",
    ): "a teacher of whole articles and more text help a student of the words of addresses",
    ("self", "self gold"): "a student as large as its teacher is better for having been taught",
}
"""(first arm, second arm) -> the claim that holds if the first is better."""

ROBUST = (
    ("hard", "gold"),
    ("soft", "gold"),
    ("soft", "hard"),
    ("self hard", "self gold"),
    ("self", "self gold"),
    ("self", "self hard"),
)
"""The pairs that are compared under each attack."""


def claims_about(names: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the claims about the given arms, including one for each arm of a sweep."""
    swept = {pair: text for name in names for pair, text in _claims_of_sweep(name).items()}
    return {pair: text for pair, text in {**CLAIMS, **swept}.items() if set(pair) <= set(names)}


def swept_by(name: str) -> Swept | None:
    """Return the swept setting of an arm, such as "temperature" for "temperature 4"; None for other arms."""
    return next((swept for swept in get_args(Swept) if name.startswith(f"{swept} ")), None)


def _claims_of_sweep(name: str) -> dict[tuple[str, str], str]:
    match swept_by(name):
        case None:
            return {}
        case "labelled":
            return {
                (
                    name,
                    f"{name}, gold",
                ): f"{name}: soft and gold labels together beat gold labels alone"
            }
        case _:
            return {(name, DEFAULT): f"{name} is better than what the recipe says"}
