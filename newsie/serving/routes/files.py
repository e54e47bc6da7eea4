"""Articles out of a file that a client sends: `POST /v1/read`, which the page asks before it classifies."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from newsie.data.articles import Article
from newsie.data.readers import ArticleReader
from newsie.errors import MissingExtraError, ReadError
from newsie.serving.bodies import FILE_TYPES
from newsie.serving.refusals import RefusedError
from newsie.serving.responses import ERRORS
from newsie.serving.settings import Settings

__all__ = ["READ_PATH", "router"]

READ_PATH = "/v1/read"

_TABLES = (b"PAR1", b"ARROW1")
_UNPACKED = 4
"""How many times as large as the largest file an unpacked one may be."""
_SHOWN_COLUMNS = 1_000

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
    """The route that reads a file."""
    routes = APIRouter(tags=["Newsie"], responses=ERRORS)
    # One file at a time: it takes a multiple of its size in memory. If its client leaves, it is read on
    # until its time is over, and the next file waits for that.
    reading = ThreadPoolExecutor(1, "newsie-read")

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
        body = await request.body()
        work = partial(_read, body, name or "file", chosen, settings)
        try:
            async with asyncio.timeout(2 * settings.request_timeout_seconds):
                answer = await asyncio.get_running_loop().run_in_executor(reading, work)
        except TimeoutError:
            raise RefusedError(
                503,
                "busy_reading",
                "other files are being read; try again later",
                {"Retry-After": "1"},
            ) from None
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


def _read(body: bytes, name: str, columns: Mapping[str, str], settings: Settings) -> bytes:
    """The answer, as JSON. Raises RefusedError."""
    if body.startswith(_TABLES):
        raise RefusedError(
            422, "file", f"{name} is Parquet or Arrow: use  newsie classify --file  for it"
        )
    try:
        reader = ArticleReader(
            io.BytesIO(body),
            name=name,
            columns=columns,
            fields=("headline", "body", "id"),
            max_bytes=_UNPACKED * settings.max_file_bytes,
        )
        return _answer(reader, settings)
    except (ReadError, MissingExtraError) as error:
        raise RefusedError(422, "file", str(error)) from error


def _answer(reader: ArticleReader, settings: Settings) -> bytes:
    end = time.monotonic() + settings.request_timeout_seconds
    articles, cut = [], 0
    for article in reader:
        if reader.rows > settings.max_file_rows:
            raise RefusedError(
                413,
                "rows",
                f"the file has more than {settings.max_file_rows:,} rows; for more: newsie classify --file",
            )
        if time.monotonic() > end:
            raise RefusedError(504, "timeout", "the file takes too long to read; send a part of it")
        short = _shortened(article, settings.max_article_characters)
        cut += short is not article
        # Each by itself: one call for all would keep the interpreter from the event loop.
        articles.append(
            orjson.dumps(
                {
                    "row": reader.number,
                    "headline": short.headline,
                    "body": short.body,
                    "id": short.id,
                }
            )
        )
    rest = orjson.dumps(_described(reader, cut, settings.max_article_characters))
    return b'{"articles":[' + b",".join(articles) + b"]," + rest.removeprefix(b"{")


def _shortened(article: Article, most: int) -> Article:
    """The article, cut where the server would refuse it: the model reads no more than its beginning."""
    if len(article.headline) + len(article.body) <= most:
        return article
    headline = article.headline[:most]
    return Article(headline, article.body[: most - len(headline)], id=article.id)


def _described(reader: ArticleReader, cut: int, most: int) -> dict[str, Any]:
    problems = reader.problems
    notes = [f"{count:,} × {reason}" for reason, count in problems.notes.most_common()]
    if problems.recoded:
        notes.append(f"{problems.recoded:,} × not UTF-8, read as Windows-1252")
    if cut:
        notes.append(f"{cut:,} × cut to its first {most:,} characters")
    if reader.cut_off is not None:
        notes.append(f"nothing was read behind row {reader.cut_off.row:,}: {reader.cut_off.reason}")
    return {
        "rows": reader.rows,
        "columns": reader.columns.chosen(),
        "column_names": reader.column_names[:_SHOWN_COLUMNS],
        "skipped": dict(problems.counts),
        "examples": [{"row": p.row, "message": _message(p.error())} for p in problems.examples],
        "notes": notes,
    }


def _message(error: ReadError) -> str:
    return error.reason if error.column is None else f"column {error.column!r}: {error.reason}"
