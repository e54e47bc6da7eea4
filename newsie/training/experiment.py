"""What a recipe may say about experiments: students compared, and a search for one under a budget."""

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
    """What is swept -> the values that it is set to, see `Swept`."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    temperature: list[Annotated[float, Field(ge=1)]]
    alpha: list[Annotated[float, Field(ge=0, le=1)]]
    layers: list[Count]
    labelled: list[Count]
    transfer: list[Natural]


@dataclass(frozen=True, config=STRICT)
class CompareConfig:
    """Students that are compared, each of them once a seed. See docs/laboratory.md.

    All students of a seed take equally many steps. A seed decides which articles are labelled, the
    teacher's heads and order, and the students' order and views.

    Attributes:
        seeds: how many; 0, 1, ... An interval needs two.
        labelled: training articles that keep their gold labels, drawn anew with each seed; the teacher
            learns from these alone. 0 means all.
        transfer: further articles, without gold labels, for the arms that learn from more text.
        test: test articles that are measured on, drawn once; 0 means all.
        attacked: test articles, the first ones, on which typos, swapped words and gradient attacks are
            tried; 0 means none.
        arms: names of the students to compare, see newsie/laboratory/arms.py.
        sweeps: value -> what it is set to, one at a time, in the recipe's student.
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
        trials: students to finish; what is stopped early or over budget does not count.
        articles: training articles that they learn from, drawn once; 0 means all.
        layers, max_tokens, vocabulary, temperature, alpha, loss, epochs, learning_rate, warmup_ratio: what a
            student may have; each trial has one of each. A vocabulary of 0 is the encoder's own.
        seed: of the search, and of all its students.
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
