"""Health: alive is not ready."""

from __future__ import annotations

from typing import Literal

__all__ = ["Health", "State"]

State = Literal["loading", "ready", "failing", "draining"]


class Health:
    """Whether requests should come here.

    loading, until there is a model; ready; failing, after several failed batches in a row and until
    one works; draining, from SIGTERM to the end. A full queue is none of these: it answers 429.

    Args:
        failures_until_unready: batches that fail in a row until the state is failing.
    """

    def __init__(self, failures_until_unready: int) -> None:
        self._limit = failures_until_unready
        self._failures = 0
        self._loaded = self._draining = False

    @property
    def state(self) -> State:
        """The state now."""
        if self._draining:
            return "draining"
        if not self._loaded:
            return "loading"
        return "failing" if self._failures >= self._limit else "ready"

    @property
    def ready(self) -> bool:
        """Whether the state is ready."""
        return self.state == "ready"

    @property
    def draining(self) -> bool:
        """Whether the end has begun."""
        return self._draining

    def loaded(self) -> None:
        """There is a model, a new one perhaps."""
        self._loaded, self._failures = True, 0

    def worked(self) -> None:
        """A batch was computed."""
        self._failures = 0

    @property
    def at_limit(self) -> bool:
        """Whether one more failed batch makes the state failing, or it is that already."""
        return self._failures + 1 >= self._limit

    def failed(self) -> None:
        """A batch could not be computed."""
        self._failures += 1

    def drain(self) -> None:
        """The end begins."""
        self._draining = True
