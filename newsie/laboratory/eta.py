"""Progress of a long experiment, and an estimate of the time left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

__all__ = ["Course"]


class Course:
    """The progress of an experiment that fits the same students for each seed.

    Args:
        names: names of the students of a seed, in their order.
        seeds: number of seeds.
    """

    def __init__(self, names: Sequence[str], seeds: int) -> None:
        self.names, self.seeds = names, seeds
        self._taken: defaultdict[str, list[float]] = defaultdict(list)

    def note(self, name: str, record: Mapping[str, float]) -> None:
        """Note that a student is done; its record holds the seconds that it took, in whichever process."""
        self._taken[name].append(record["seconds_in_all"])

    @property
    def seconds_left(self) -> float:
        """The estimated seconds left: the mean time of finished students of each name, or of all if none."""
        taken = [seconds for times in self._taken.values() for seconds in times]
        typical = sum(taken) / max(len(taken), 1)
        left = 0.0
        for name in self.names:
            times = self._taken[name]
            each = sum(times) / len(times) if times else typical
            left += (self.seeds - len(times)) * each
        return left

    def describe(self) -> str:
        """Return a line of progress."""
        done, total = sum(map(len, self._taken.values())), self.seeds * len(self.names)
        if not done:
            return f"0 of {total} students"
        hours, minutes = divmod(round(self.seconds_left / 60), 60)
        left = f"{hours} h {minutes:02d}" if hours else f"{minutes} min"
        return f"{done} of {total} students, about {left} left in all"
