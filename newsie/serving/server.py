"""The server: an app on a port, from the start to the end."""

from __future__ import annotations

import uvicorn

from newsie.classifier import Classifier
from newsie.serving.app import create_app
from newsie.serving.settings import Settings

__all__ = ["serve"]


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    app = create_app(Classifier.from_pretrained(settings.model, threads=settings.threads), settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=int(settings.keep_alive_seconds),
        timeout_graceful_shutdown=int(settings.shutdown_timeout_seconds),
    )
    uvicorn.Server(config).run()
