"""Newsie on a Ray cluster: replicas of the same app, which Ray Serve starts, balances and replaces.

    serve run serving.ray_serve:app model=BUNDLE replicas=4

Needs pip install '.[serve,ray]'. Settings come from NEWSIE_* in the environment of the replicas; host,
port and workers are Ray's. https://docs.ray.io/en/latest/serve/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from ray.serve import Application

__all__ = ["Options", "app"]

MAX_ONGOING_REQUESTS = 128
"""Requests that a replica holds at once: Ray's 5 would leave nothing to make batches of."""

MAX_QUEUED_REQUESTS = 512
"""Requests that wait at each proxy for a replica; beyond that Ray answers 503."""


class Options(BaseModel):
    """What `serve run` takes after the name of the app.

    Attributes:
        model: directory of a bundle that every node has, or owner/name on the hub; None is the
            bundled one.
        replicas: processes, wherever in the cluster there is room.
        threads: threads that compute in each, and cores that each is given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    replicas: int = Field(default=2, ge=1)
    threads: int = Field(default=1, ge=1)


def app(given: Mapping[str, Any]) -> Application:
    """The application, to be run with `serve run` or `ray.serve.run`.

    Args:
        given: the fields of `Options`; as texts, where they come from the command line.
    """
    options = Options.model_validate(given)

    def build() -> FastAPI:  # in each replica
        from newsie import Classifier
        from newsie.serving.app import create_app
        from newsie.serving.http.process import give_back_memory
        from newsie.serving.settings import Settings

        give_back_memory()
        classifier = Classifier.from_pretrained(options.model, threads=options.threads)
        # Ray's proxies listen, on every node; so hosts are checked as for a server of all networks.
        return create_app(classifier, Settings(host="0.0.0.0"))

    deployment = serve.deployment(
        name="newsie",
        num_replicas=options.replicas,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        max_queued_requests=MAX_QUEUED_REQUESTS,
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=30,
        ray_actor_options={"num_cpus": options.threads},
    )
    return deployment(serve.ingress(build)()).bind()
