"""Newsie's own request and response formats, as pydantic models."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from newsie.data.articles import Article

__all__ = [
    "ArticleIn",
    "ClassifyRequest",
    "ClassifyResponse",
    "ErrorResponse",
    "ExplainRequest",
    "ExplainResponse",
    "Flag",
    "LabelScore",
    "Listed",
    "PlainError",
    "Scored",
    "Strict",
    "TaskEffects",
    "TaskQuery",
    "TopK",
    "Whole",
    "WordOut",
]

MAX_SLIPS = 10
"""The maximum number of unknown fields of an object that are reported."""

T = TypeVar("T")

Listed = Annotated[list[T], Field(fail_fast=True)]
"""A list whose first fault only is reported, as an error for each item would cost more than the request."""

Flag = Annotated[bool, Field(strict=True)]
"""true or false, but neither 1 nor "yes"."""


def _refuse_others(value: object) -> object:
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


Whole = Annotated[int, BeforeValidator(_refuse_others)]
"""A whole number such as 2 or 2.0, but neither true nor "2"."""

TopK = Annotated[Whole, Field(ge=1, le=1_000_000)] | None
"""The number of labels to return."""

_EXAMPLE: JsonValue = {
    "headline": "Rain stops play",
    "body": "The third day at the Oval was lost to rain.",
}


class Strict(BaseModel):
    """The base of request models. An unknown field is an error, so that typing errors are noticed."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_most_slips(cls, given: object) -> object:
        """Drop all but a few unknown fields, as each costs an error and only the first are reported."""
        known = cls.model_fields
        if not isinstance(given, dict) or len(given) <= len(known):
            return given
        slips = [name for name in given if name not in known]
        dropped = set(slips[MAX_SLIPS:])
        return {name: value for name, value in given.items() if name not in dropped}


class ArticleIn(Strict):
    """One article; at least one of headline and body."""

    headline: str = ""
    body: str = Field("", description="Lede, summary or full text.")
    id: str = Field("", max_length=256, description="Yours; not used.")

    def article(self) -> Article:
        """Return the article as the library's type."""
        return Article(self.headline, self.body)


Tasks = Annotated[
    Listed[str] | None, Field(min_length=1, description="Tasks to answer; without it, all.")
]


class ClassifyRequest(Strict):
    """Articles to classify."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"articles": [_EXAMPLE], "tasks": ["section"], "top_k": 3}]}
    )

    articles: Listed[ArticleIn] = Field(min_length=1)
    tasks: Tasks = None
    top_k: TopK = Field(None, description="Labels of each task, the best first; without it, all.")


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float = Field(ge=0, le=1)


class Scored(BaseModel):
    """A label and what the model gives it: a probability, or a logit where that was asked for."""

    label: str
    score: float


class ClassifyResponse(BaseModel):
    """Answer i belongs to article i: task -> labels, the best first."""

    predictions: list[dict[str, list[LabelScore]]]
    truncated: list[bool] = Field(description="Whether the end of article i was not read.")
    model: str = Field(description="Fingerprint of the model: equal ones answer equally.")


class ExplainRequest(Strict):
    """An article to explain, word by word."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"article": _EXAMPLE, "tasks": ["section"]}]}
    )

    article: ArticleIn
    tasks: Tasks = None
    labels: dict[str, str] | None = Field(
        None, description="Task -> the label to explain; without it, the most probable one."
    )


class WordOut(BaseModel):
    """A word as the model reads it, and where it stands in what was sent."""

    text: str
    part: str = Field(description='"headline" or "body".')
    start: int | None
    end: int | None


class TaskEffects(BaseModel):
    """How the words move the probability of a label of a task."""

    label: str
    score: float
    effects: list[float] = Field(
        description="For each word, by how much it raises the probability: -1 to 1."
    )


class ExplainResponse(BaseModel):
    """The words that were read, and their effects task by task."""

    words: list[WordOut]
    tasks: dict[str, TaskEffects]
    words_together: int = Field(description="Words of a long article that are taken as one.")
    truncated: bool
    model: str


TaskQuery = Annotated[
    str | None, Query(description="The task to answer; without it, the server's first.")
]
"""The query parameter that selects the task in dialects that predict one task."""


class PlainError(BaseModel):
    """Why there is no answer, in the dialects that know nothing else."""

    error: str


class ErrorResponse(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="For people.")
    reason: str = Field(description="For programs.")
    request_id: str = Field(description="As in the header X-Request-Id and in the log.")
