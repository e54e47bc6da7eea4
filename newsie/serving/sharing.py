"""The shared state of the workers of a server: the chosen model, and the model of each worker.

It is kept in small files of a shared directory, each written to a temporary file and renamed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Choice", "Shared", "forget_worker"]

MODEL = "model"
STATE = "state-"


@dataclass(frozen=True)
class Choice:
    """A model that was chosen.

    Attributes:
        number: unique, also among choices of the same model.
        source: directory or name of the model.
    """

    number: str
    source: str


class Shared:
    """The shared directory, as seen by this worker.

    Args:
        directory: path of the directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._state = directory / f"{STATE}{os.getpid()}"

    def read_choice(self) -> Choice | None:
        """Return the latest choice, or None if there is none."""
        with suppress(FileNotFoundError):
            number, source = (self.directory / MODEL).read_text("utf-8").split("\n", 1)
            return Choice(number, source)
        return None

    def choose(self, source: str) -> Choice:
        """Write a new choice for all workers, and return it."""
        choice = Choice(os.urandom(8).hex(), source)
        self._write(self.directory / MODEL, f"{choice.number}\n{source}")
        return choice

    def note_model(self, fingerprint: str) -> None:
        """Record the model that this worker serves."""
        self._write(self._state, fingerprint)

    def note_failure(self, choice: Choice) -> None:
        """Record that this worker could not load the chosen model."""
        self._write(self._state, f"failed {choice.number}")

    def count(self, fingerprint: str, choice: Choice) -> tuple[int, int]:
        """Return the number of workers that serve a model, and of those that could not load the choice."""
        states = []
        for path in self.directory.glob(f"{STATE}*"):
            with suppress(FileNotFoundError):  # its worker has just ended
                states.append(path.read_text("utf-8"))
        return states.count(fingerprint), states.count(f"failed {choice.number}")

    @contextmanager
    def choosing(self) -> Iterator[bool]:
        """Hold the lock on choices. Yield False if another worker holds it."""
        import fcntl  # imported here, as systems without it have no workers

        with (self.directory / "choosing").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _write(self, path: Path, text: str) -> None:
        with tempfile.NamedTemporaryFile(
            "w", dir=self.directory, delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        os.replace(file.name, path)


def forget_worker(directory: Path, pid: int) -> None:
    """Remove the state of a worker that has ended."""
    (directory / f"{STATE}{pid}").unlink(missing_ok=True)
