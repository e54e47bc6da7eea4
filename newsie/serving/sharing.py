"""What the workers of a server know of each other: the model that was chosen, and who answers with which.

All of it stands in small files of the directory that they share, each written aside and renamed.
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
        number: tells this choice from all others, also from those of the same model.
        source: where the model is.
    """

    number: str
    source: str


class Shared:
    """The directory that workers share, as one of them sees it.

    Args:
        directory: the directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._state = directory / f"{STATE}{os.getpid()}"

    def read_choice(self) -> Choice | None:
        """The choice that was made last."""
        with suppress(FileNotFoundError):
            number, source = (self.directory / MODEL).read_text("utf-8").split("\n", 1)
            return Choice(number, source)
        return None

    def choose(self, source: str) -> Choice:
        """Make a choice for all workers."""
        choice = Choice(os.urandom(8).hex(), source)
        self._write(self.directory / MODEL, f"{choice.number}\n{source}")
        return choice

    def note_model(self, fingerprint: str) -> None:
        """This worker answers with a model."""
        self._write(self._state, fingerprint)

    def note_failure(self, choice: Choice) -> None:
        """This worker could not load what was chosen."""
        self._write(self._state, f"failed {choice.number}")

    def count(self, fingerprint: str, choice: Choice) -> tuple[int, int]:
        """Workers that answer with a model, and workers that could not load the choice."""
        states = []
        for path in self.directory.glob(f"{STATE}*"):
            with suppress(FileNotFoundError):  # its worker has just ended
                states.append(path.read_text("utf-8"))
        return states.count(fingerprint), states.count(f"failed {choice.number}")

    @contextmanager
    def choosing(self) -> Iterator[bool]:
        """False if another worker is making a choice now."""
        import fcntl  # here: systems without it have no workers

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
    """A worker has ended: it answers with no model any more."""
    (directory / f"{STATE}{pid}").unlink(missing_ok=True)
