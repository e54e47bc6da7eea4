"""`newsie serve` whose event loop is watched: how long each callback held it.

    python -m serving.load.watched REPORT --port 8000

When the server ends, REPORT holds the figures as JSON. Any other option is one of `newsie serve`. SIGUSR1
starts the figures again, so that those of a start can be left out.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["LoopTimes", "watch"]

BOUNDS_MS = (5, 10, 20, 50, 100)


@dataclass
class LoopTimes:
    """How long the callbacks of an event loop took, in seconds.

    Attributes:
        callbacks: how many ran.
        longest: the longest of them, by the clock. It includes waits for the GIL and for a processor.
        longest_cpu: the longest by the processor time of the loop's thread.
        longest_name: the callback that took longest by the clock.
        over_ms: milliseconds -> callbacks that took longer by the clock.
        cpu_over_ms: the same by processor time.
    """

    callbacks: int = 0
    longest: float = 0.0
    longest_cpu: float = 0.0
    longest_name: str = ""
    over_ms: dict[int, int] = field(default_factory=lambda: dict.fromkeys(BOUNDS_MS, 0))
    cpu_over_ms: dict[int, int] = field(default_factory=lambda: dict.fromkeys(BOUNDS_MS, 0))

    def add(self, handle: asyncio.Handle, seconds: float, cpu_seconds: float) -> None:
        """Count a callback."""
        self.callbacks += 1
        self.longest_cpu = max(self.longest_cpu, cpu_seconds)
        for bound in BOUNDS_MS:
            self.over_ms[bound] += seconds > bound / 1_000
            self.cpu_over_ms[bound] += cpu_seconds > bound / 1_000
        if seconds > self.longest:
            self.longest, self.longest_name = seconds, _name_of(handle)

    def reset(self) -> None:
        """Count from now on."""
        self.__dict__.update(LoopTimes().__dict__)


def _name_of(handle: asyncio.Handle) -> str:
    callback = getattr(handle, "_callback", None)
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return str(getattr(owner.get_coro(), "__qualname__", owner.get_name()))
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))


def watch() -> LoopTimes:
    """Time all callbacks of all event loops of this process from now on."""
    times, run = LoopTimes(), asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began, cpu = time.perf_counter(), time.thread_time()
        run(handle)
        times.add(handle, time.perf_counter() - began, time.thread_time() - cpu)

    asyncio.Handle._run = timed  # type: ignore[assignment, method-assign]
    return times


def main() -> None:
    """Run the server."""
    from newsie.cli import main as newsie

    report, sys.argv[1:] = Path(sys.argv[1]), ["serve", *sys.argv[2:]]
    times = watch()
    signal.signal(signal.SIGUSR1, lambda *_: times.reset())
    try:
        newsie()
    finally:
        report.write_text(json.dumps(asdict(times), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
