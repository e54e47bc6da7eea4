"""`newsie serve`: the classifier over HTTP."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from newsie.cli.options import Model
from newsie.errors import MissingExtraError, NewsieError

__all__ = ["serve"]


def serve(
    model: Model = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen at; 0.0.0.0 is every network. (default: 127.0.0.1)",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="0 takes a free one. (default: 8000)", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the port. (default: 1)", show_default=False),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads of each process. (default: a core each)", show_default=False
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the key that clients must send.")
    ] = None,
    models_dir: Annotated[
        Path | None,
        typer.Option(help="Directory whose bundles POST /admin/model may load by name."),
    ] = None,
) -> None:
    """Answer over HTTP, with a page at /. All settings: docs/serving.md.

    SIGTERM ends it when all requests are answered; SIGHUP loads the model anew.
    """
    flags: dict[str, Any] = {
        "model": model,
        "host": host,
        "port": port,
        "workers": workers,
        "threads": threads,
        "api_key_file": api_key_file,
        "models_dir": models_dir,
    }
    start, read_settings = _import_server()
    start(read_settings({name: value for name, value in flags.items() if value is not None}))


def _import_server() -> tuple[Any, Any]:
    """Import what the extra `serve` provides."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("serving", str(error.name), "serve") from error
    if find_spec("resource") is None:
        raise NewsieError(
            "newsie serve runs on Linux and macOS; on Windows use the container (serving/README.md) or WSL"
        )
    from newsie.serving.http.server import serve as start
    from newsie.serving.settings import read_settings

    return start, read_settings
