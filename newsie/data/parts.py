"""A file of answers, written in parts, so that a run that ends early goes on behind the last one.

    .NAME.parts/
      progress.json    what is answered (`source`), and how far that is
      00000.parquet    answers to some 10,000 rows of the source, up to the end of a window
      00001.parquet    ...
      lock             locked by the run that writes the file

A part gets its name when it is on the disk as a whole, and counts once progress.json says so. Articles of
a window are computed together, so a run that goes on behind a whole window gives the same numbers, to
the last digit, as one that was never stopped. At the end the parts are joined under the file's name, and
the folder is removed. The system releases the lock when the process ends, however that is.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from newsie.atomic import new_file, write_text
from newsie.data.writers import RowWriter, check_target, open_writer
from newsie.errors import InputError
from newsie.locks import try_lock

__all__ = ["PART_ROWS", "BusyError", "Parts", "has_parts", "locked_target"]

PART_ROWS = 10_000
PROGRESS = "progress.json"
LOCK = "lock"


class BusyError(InputError):
    """Another run is at work on the file."""


class Parts:
    """The parts of one file; a context that lets go of the unfinished part.

    Args:
        target: the file, .jsonl, .csv or .parquet; its folder must be there.
        source: what the rows answer, as plain JSON values; parts of anything else are thrown away.
        wait_seconds: how long to wait for another run that is at work on the same file.
        raw: see `open_writer`.

    Attributes:
        done: number of rows of the source whose answers are in parts; known within the context.
        tally: counts that are kept with the parts; to be raised behind `write`.

    Raises:
        InputError: another ending, or a folder that cannot be written to.
        BusyError: on entry, another run is at work on the file, and still is after waiting.
    """

    def __init__(
        self,
        target: Path,
        source: Mapping[str, Any],
        wait_seconds: float = 0,
        *,
        raw: bool = False,
    ) -> None:
        check_target(target)
        self.target, self.source = target, json.loads(json.dumps(source))
        self.folder = _folder(target)
        self.done = 0
        self.tally: Counter[str] = Counter()
        self._wait_seconds, self._raw = wait_seconds, raw
        self._last = self._parts = 0
        self._writer: RowWriter | None = None
        self._open, self._held = ExitStack(), ExitStack()

    def __enter__(self) -> Parts:
        with ExitStack() as held:
            held.enter_context(_wait_for_lock(target=self.target, seconds=self._wait_seconds))
            progress = self._read_progress()
            self.done = self._last = progress.get("done", 0)
            self.tally = Counter(progress.get("tally", {}))
            self._parts = progress.get("parts", 0)
            if not self._parts:
                for path in self.folder.iterdir():
                    if path.name != LOCK:
                        path.unlink()
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Without an error, nothing is left open; with one, the part that is not whole goes."""
        with self._held:
            self._open.__exit__(*error)
            if not self._parts:
                shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, number: int, row: Mapping[str, Any]) -> None:
        """Write the answer to a row of the source; rows come in order.

        Args:
            number: 1-based number of the row in the source, above `done`.
            row: column -> value.

        Raises:
            InputError: see `RowWriter.write`.
        """
        if self._writer is None:
            path = self.folder / f"{self._parts:05d}{self.target.suffix.lower()}"
            self._writer = self._open.enter_context(open_writer(path, raw=self._raw))
        self._writer.write(row)
        self._last = number

    def end_window(self) -> None:
        """Close the part that is open if it is full. To be called when a whole window is written."""
        if self._last >= self.done + PART_ROWS:
            self._close_part(self._last)

    def keep(self) -> None:
        """Close the part that is open, so that a later run goes on behind it."""
        # Numbers may leave out blank lines: the number of rows read can be below the last of them.
        self._close_part(max(self.done, self._last))

    def finish(self, like: Mapping[str, Any] | None = None) -> None:
        """Put all parts together under the file's name.

        Args:
            like: a row that tells the columns of a file without rows.
        """
        self.keep()
        suffix = self.target.suffix.lower()
        paths = [self.folder / f"{part:05d}{suffix}" for part in range(self._parts)]
        if not paths:
            with open_writer(self.target, raw=self._raw) as writer:
                writer.name_columns(like or {})
        else:
            with new_file(self.target) as aside:
                _join(paths, aside)
        self._parts = 0
        (self.folder / PROGRESS).unlink()  # first, as it tells of parts that go now

    def _close_part(self, done: int) -> None:
        if self._writer is not None:
            self._open.close()
            self._writer = None
            self._parts += 1
        self.done = done
        progress = {"source": self.source, "done": done, "parts": self._parts, "tally": self.tally}
        # ASCII, because a file name need not be UTF-8.
        write_text(self.folder / PROGRESS, json.dumps(progress))

    def _read_progress(self) -> dict[str, Any]:
        """What is left of a run that ended early; nothing if it answered something else."""
        try:
            found = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.folder / PROGRESS} cannot be read: {error}; delete it"
            ) from error
        return found if found["source"] == self.source else {}


def has_parts(target: Path) -> bool:
    """Return True if a run that ended early has left finished parts of a file."""
    return (_folder(target) / PROGRESS).exists()


@contextmanager
def locked_target(target: Path) -> Iterator[None]:
    """Keep other runs from writing a file for as long as the block runs, as `Parts` does.

    Raises:
        InputError: another ending, or a folder that cannot be written to.
        BusyError: another run is writing the file.
    """
    check_target(target)
    with _wait_for_lock(target, 0):
        try:
            yield
        finally:
            if not has_parts(target):
                shutil.rmtree(_folder(target), ignore_errors=True)


def _folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.parts")


def _wait_for_lock(target: Path, seconds: float) -> IO[bytes]:
    """Return the open file that keeps other runs away for as long as it is open."""
    end = time.monotonic() + seconds
    while (lock := _lock(_folder(target))) is None:
        if time.monotonic() >= end:
            raise BusyError(
                f"{target} is being written by another run; wait for it, or name another file"
            )
        time.sleep(0.1)
    return lock


def _lock(folder: Path) -> IO[bytes] | None:
    """Lock a folder of parts, which is created. Return None if another run has it."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder.parent} cannot be written to: {error.strerror or error}"
        ) from error
    path = folder / LOCK
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(path.open("ab"))
            # The other run may have ended in between, and removed the folder.
            if try_lock(lock.fileno()) is False or not os.path.samestat(
                os.fstat(lock.fileno()), path.stat()
            ):
                return None
        except FileNotFoundError:
            return None
        stack.pop_all()
        return lock


def _join(paths: Sequence[Path], target: Path) -> None:
    if paths[0].suffix == ".parquet":
        _join_parquet(paths, target)
        return
    with target.open("wb") as whole:
        for number, path in enumerate(paths):
            with path.open("rb") as part:
                if number and path.suffix == ".csv":
                    part.readline()  # the columns' names, which only the first part keeps
                shutil.copyfileobj(part, whole, 1 << 20)


def _join_parquet(paths: Sequence[Path], target: Path) -> None:
    import pyarrow.parquet as parquet

    with ExitStack() as stack:
        writer: Any = None
        for path in paths:
            with parquet.ParquetFile(path) as part:
                if writer is None:
                    kind = parquet.ParquetWriter(target, part.schema_arrow, compression="zstd")
                    writer = stack.enter_context(kind)
                for group in range(part.num_row_groups):
                    writer.write_table(part.read_row_group(group, use_threads=False))
