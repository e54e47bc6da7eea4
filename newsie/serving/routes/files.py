"""Reading of uploaded files: `POST /v1/read`, which the page calls before it classifies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from newsie.serving.http.request_bodies import FILE_TYPES
from newsie.serving.http_errors import RefusedError
from newsie.serving.reading import FileReader
from newsie.serving.responses import ERRORS
from newsie.serving.settings import Settings

__all__ = ["READ_PATH", "router"]

READ_PATH = "/v1/read"

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The file, as it is: CSV, TSV, JSON, JSON Lines or a headline a line; also packed as "
        ".gz or .zst.",
        "content": {
            name: {"schema": {"type": "string", "format": "binary"}} for name in sorted(FILE_TYPES)
        },
    }
}


class ReadArticle(BaseModel):
    """An article of the file. A long one is cut to the characters that the server takes."""

    row: int = Field(description="Number of its row, from 1; a header is not counted.")
    headline: str
    body: str
    id: str


class SkippedRow(BaseModel):
    """A row that holds no article."""

    row: int
    message: str


class ReadResponse(BaseModel):
    """The articles of a file, and how they were read."""

    articles: list[ReadArticle]
    rows: int = Field(description="Rows read: those of the articles and those that were skipped.")
    columns: dict[str, str] = Field(
        description="Field of the article -> the column it is read from."
    )
    column_names: list[str] = Field(description="The columns of the file, up to 1,000.")
    skipped: dict[str, int] = Field(description="Reason -> number of rows that were skipped.")
    examples: list[SkippedRow] = Field(description="The first few of these rows.")
    notes: list[str] = Field(description="What was read in an unusual way, in sentences.")


def router(settings: Settings) -> APIRouter:
    """Return the route that reads a file."""
    routes = APIRouter(tags=["Newsie"], responses=ERRORS)
    reader = FileReader(settings)

    @routes.post(READ_PATH, response_model=ReadResponse, openapi_extra=_BODY)
    async def read(
        request: Request,
        name: Annotated[
            str, Query(max_length=255, description="Name of the file; its ending tells the format.")
        ] = "",
        columns: Annotated[
            list[str] | None,
            Query(
                max_length=6, description="Where names do not tell: headline=COLUMN, body=COLUMN."
            ),
        ] = None,
    ) -> Response:
        """Read the articles of a file, as `newsie classify --file` does. Nothing is stored."""
        chosen = _chosen_columns(columns or ())
        answer = await reader.read(await request.body(), name or "file", chosen)
        return Response(answer, media_type="application/json")

    return routes


def _chosen_columns(pairs: Sequence[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        field, _, column = pair.partition("=")
        if not (field and column):
            raise RefusedError(
                422, "invalid", f"columns: {pair!r} is not FIELD=COLUMN, such as headline=Titel"
            )
        columns[field] = column
    return columns
