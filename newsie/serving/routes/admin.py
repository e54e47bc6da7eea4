"""Administration: `POST /admin/model`. It requires a key and accepts only names in `models_dir`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from newsie.serving.hot_swap import Swapper
from newsie.serving.http_errors import RefusedError
from newsie.serving.json_route import JsonRoute
from newsie.serving.responses import ERRORS, json_response
from newsie.serving.schemas import ErrorResponse, Strict

__all__ = ["router"]


class ModelRequest(Strict):
    """The model that should answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "2026-11"}]})

    model: str = Field(max_length=100, description="A name in the directory of models; no path.")


class ModelResponse(BaseModel):
    """The model that answers now."""

    model: str = Field(description="Its fingerprint.")
    name: str = Field(description="Its name, as its manifest has it.")
    changed: bool = Field(description="Whether it is another one than before.")
    workers: int = Field(description="Processes of the server.")
    swapped: int = Field(
        description="Those of them that answer with this model now. If it is fewer, the log says why."
    )


def router(swapper: Swapper, *, has_key: bool) -> APIRouter:
    """Return the routes of administration."""
    why = {403: "There is no key or no directory of models, or a foreign web page asks."}
    why[404] = "No such model."
    why[409] = "Another model is being loaded."
    extra: dict[int | str, dict[str, Any]] = {
        code: {"model": ErrorResponse, "description": text} for code, text in why.items()
    }
    routes = APIRouter(route_class=JsonRoute, tags=["Administration"], responses=ERRORS | extra)

    @routes.post("/admin/model", response_model=ModelResponse)
    async def choose(request: ModelRequest) -> Response:
        """Let another model answer. It is verified and tested first; if it fails, the old one stays.

        With several workers, the answer comes when each of them has swapped or failed to.
        """
        if not has_key:
            raise RefusedError(
                403, "no_key", "models can only be changed on a server that has a key"
            )
        return json_response(vars(await swapper.choose(request.model)))

    return routes
