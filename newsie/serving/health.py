"""The health of the server, from loading to draining."""

from __future__ import annotations

from typing import Literal

__all__ = ["Health", "State"]

State = Literal["loading", "ready", "failing", "draining"]


class Health:
    """The state of the server. It should receive requests only while it is ready.

    The state is loading until there is a model, then ready. It is failing after several failed batches in a
    row, until one works, and draining from SIGTERM to the end. A full queue does not change it.

    Args:
        failures_until_unready: number of failed batches in a row after which the state is failing.
    """

    def __init__(self, failures_until_unready: int) -> None:
        self._limit = failures_until_unready
        self._failures = 0
        self._loaded = self._draining = False

    @property
    def state(self) -> State:
        """The current state."""
        if self._draining:
            return "draining"
        if not self._loaded:
            return "loading"
        return "failing" if self._failures >= self._limit else "ready"

    @property
    def ready(self) -> bool:
        """True if the state is ready."""
        return self.state == "ready"

    @property
    def draining(self) -> bool:
        """True if the server is shutting down."""
        return self._draining

    def loaded(self) -> None:
        """Record that a model was loaded."""
        self._loaded, self._failures = True, 0

    def worked(self) -> None:
        """Record a batch that was computed."""
        self._failures = 0

    @property
    def at_limit(self) -> bool:
        """True if the state is failing already, or would be after one more failed batch."""
        return self._failures + 1 >= self._limit

    def failed(self) -> None:
        """Record a batch that failed."""
        self._failures += 1

    def drain(self) -> None:
        """Record that the shutdown has begun."""
        self._draining = True
