"""The recipe's settings for experiments: comparing students, and searching for one under a budget."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

__all__ = ["CompareConfig", "SearchConfig", "Sweeps", "Swept"]

STRICT = ConfigDict(extra="forbid")
Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Searched = Literal["kl", "standardised", "decoupled", "correlation"]
LOSSES: tuple[Searched, ...] = ("kl", "standardised")
Swept = Literal["temperature", "alpha", "layers", "labelled", "transfer"]


class Sweeps(TypedDict, total=False):
    """The values of each swept setting, see `Swept`."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    temperature: list[Annotated[float, Field(ge=1)]]
    alpha: list[Annotated[float, Field(ge=0, le=1)]]
    layers: list[Count]
    labelled: list[Count]
    transfer: list[Natural]


@dataclass(frozen=True, config=STRICT)
class CompareConfig:
    """A comparison of students, each trained once per seed. See docs/laboratory.md.

    All students of a seed train for the same number of steps. A seed determines which articles are
    labelled, the teacher's initial heads and order of articles, and the students' order and views.

    Attributes:
        seeds: the number of seeds, 0, 1, ... An interval needs two.
        labelled: the number of training articles that keep their gold labels, drawn again for each seed;
            the teacher learns from these alone. 0 means all.
        transfer: the number of further articles, without gold labels, for the arms that learn from more text.
        test: the number of test articles to evaluate on, drawn once; 0 means all.
        attacked: the number of test articles, from the first, on which typos, swapped words and gradient
            attacks are tried; 0 means none.
        arms: the names of the students to compare, see newsie/laboratory/arms.py.
        sweeps: the values to try for settings of the recipe's student, one setting at a time.
    """

    seeds: Annotated[int, Field(ge=2)] = 5
    labelled: Natural = 0
    transfer: Natural = 0
    test: Natural = 0
    attacked: Natural = 0
    arms: list[str] = Field(default_factory=lambda: ["gold", "hard", "soft", "soft+gold"])
    sweeps: Sweeps = Field(default_factory=Sweeps)


@dataclass(frozen=True, config=STRICT)
class SearchConfig:
    """A search for the best student under a budget. See docs/laboratory.md.

    Attributes:
        trials: the number of students to finish, not counting those stopped early or over budget.
        articles: the number of training articles that they learn from, drawn once; 0 means all.
        layers, max_tokens, vocabulary, temperature, alpha, loss, epochs, learning_rate, warmup_ratio: the
            allowed values; each trial uses one of each. A vocabulary of 0 is the encoder's own.
        seed: the seed of the search and of all its students.
    """

    trials: Annotated[int, Field(ge=1)] = 20
    articles: Natural = 0
    layers: list[int] = Field(default_factory=lambda: [1, 2, 3, 4, 6])
    max_tokens: list[int] = Field(default_factory=lambda: [32, 64])
    vocabulary: list[int] = Field(default_factory=lambda: [0, 16_000, 8_000])
    temperature: list[float] = Field(default_factory=lambda: [1.0, 2.0, 4.0])
    alpha: list[float] = Field(default_factory=lambda: [0.0, 0.1, 0.3])
    loss: list[Searched] = Field(default_factory=lambda: list(LOSSES))
    epochs: list[float] = Field(default_factory=lambda: [1.0, 2.0])
    learning_rate: list[float] = Field(default_factory=lambda: [3e-4, 6e-4])
    warmup_ratio: list[float] = Field(default_factory=lambda: [0.05, 0.2])
    seed: Natural = 0
