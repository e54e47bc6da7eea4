"""Progress of long jobs: a bar on a terminal, periodic lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich import progress as rich_progress
from rich.console import Console

from newsie.printable import printable

__all__ = ["Progress"]

LINE_EVERY_SECONDS = 60.0


class Progress:
    """A display of articles done, articles/s and time left, on stderr.

    Args:
        title: the name of the job.
        total: the total number of articles.
        enabled: False shows nothing (all processes but one).
    """

    def __init__(self, title: str, total: int, *, enabled: bool = True) -> None:
        self.title, self.total, self.enabled = printable(title), total, enabled
        self.done = 0
        self._start_done = 0
        self._console = Console(file=sys.stderr)
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TextColumn("{task.fields[rate]}", markup=False),
            rich_progress.TimeRemainingColumn(),
            console=self._console,
            disable=not (enabled and self._console.is_terminal),
        )
        self._task = self._bar.add_task(self.title, total=total, rate="")

    def __enter__(self) -> Progress:
        self._bar.start()
        self._started = self._spoke = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if kind is None:
            self._line()

    def resume(self, articles: int) -> None:
        """Count articles that were done before this process started."""
        self.done = self._start_done = min(articles, self.total)

    def advance(self, articles: int, loss: float | None = None) -> None:
        """Count articles as done."""
        self.done += articles
        rate = f"{self.rate:.0f}/s" + (f" loss {loss:.3f}" if loss is not None else "")
        self._bar.update(self._task, completed=min(self.done, self.total), rate=rate)
        if not self._console.is_terminal and time.monotonic() - self._spoke > LINE_EVERY_SECONDS:
            self._line(f" loss {loss:.3f}" if loss is not None else "")

    @property
    def rate(self) -> float:
        """The number of articles per second since this process started."""
        return (self.done - self._start_done) / max(time.monotonic() - self._started, 1e-9)

    def note(self, text: str) -> None:
        """Print a line that stays on screen."""
        if self.enabled:
            self._console.print(f"{self.title}: {printable(text)}", highlight=False, markup=False)

    def _line(self, suffix: str = "") -> None:
        self._spoke = time.monotonic()
        if self.enabled and not self._console.is_terminal:
            left = max(self.total - self.done, 0) / max(self.rate, 1e-9)
            articles = f"{self.done:,} of {self.total:,} articles, {self.rate:.0f}/s, "
            articles += f"{left / 60:.0f} min left{suffix}"
            if self.done >= self.total:
                articles = f"{self.total:,} articles done{suffix}"
            self._console.print(
                f"{self.title}: {articles}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
