"""Writing a file of predictions in parts, so that an interrupted run can resume after the last part.

    .NAME.parts/
      progress.json    the input of the predictions (`source`), and the number of rows that are done
      00000.parquet    predictions for some 10,000 rows of the source, up to the end of a window
      00001.parquet    ...
      lock             locked by the run that writes the file

A part is renamed to its final name once it is completely on disk, and counts once progress.json lists it.
The articles of a window are computed together, so a run that resumes after a whole window gives exactly
the same numbers as one that was never interrupted. At the end the parts are joined under the file's name,
and the folder is removed. The system releases the lock when the process ends, for whatever reason.
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
    """An error that is raised if another run is writing the file."""


class Parts:
    """The parts of one file. A context manager that discards the unfinished part after an error.

    Args:
        target: the file, .jsonl, .csv or .parquet; its folder must exist.
        source: the input of the predictions, as plain JSON values; parts for another input are discarded.
        wait_seconds: how long to wait for another run that is writing the same file.
        raw: see `open_writer`.

    Attributes:
        done: number of rows of the source whose predictions are in parts; set within the context.
        tally: counts that are stored with the parts; the caller updates them after `write`.

    Raises:
        InputError: the suffix is another one, or the folder is not writable.
        BusyError: on entry, another run is writing the file, and still is after waiting.
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
        """Close what is open. After an error, the unfinished part is removed."""
        with self._held:
            self._open.__exit__(*error)
            if not self._parts:
                shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, number: int, row: Mapping[str, Any]) -> None:
        """Write the prediction for a row of the source. Rows are written in order.

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
        """Close the open part if it is full. Call this after each whole window."""
        if self._last >= self.done + PART_ROWS:
            self._close_part(self._last)

    def keep(self) -> None:
        """Close the open part, so that a later run resumes after it."""
        # Row numbers may skip blank lines, so the last number can exceed the number of rows read.
        self._close_part(max(self.done, self._last))

    def finish(self, like: Mapping[str, Any] | None = None) -> None:
        """Join all parts under the file's name.

        Args:
            like: a row with the columns to use for a file without rows.
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
        (self.folder / PROGRESS).unlink()  # first, because it lists parts that are removed next

    def _close_part(self, done: int) -> None:
        if self._writer is not None:
            self._open.close()
            self._writer = None
            self._parts += 1
        self.done = done
        progress = {"source": self.source, "done": done, "parts": self._parts, "tally": self.tally}
        # ASCII, because a file name may not be UTF-8.
        write_text(self.folder / PROGRESS, json.dumps(progress))

    def _read_progress(self) -> dict[str, Any]:
        """Return the progress of an interrupted run, or an empty dictionary if its source differs."""
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
    """Return True if an interrupted run has left finished parts of a file."""
    return (_folder(target) / PROGRESS).exists()


@contextmanager
def locked_target(target: Path) -> Iterator[None]:
    """Keep other runs from writing a file while the block runs, as `Parts` does.

    Raises:
        InputError: the suffix is another one, or the folder is not writable.
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
    """Return an open file whose lock keeps other runs away for as long as it is open."""
    end = time.monotonic() + seconds
    while (lock := _lock(_folder(target))) is None:
        if time.monotonic() >= end:
            raise BusyError(
                f"{target} is being written by another run; wait for it, or name another file"
            )
        time.sleep(0.1)
    return lock


def _lock(folder: Path) -> IO[bytes] | None:
    """Create and lock a folder of parts. Return None if another run holds the lock."""
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
            # The other run may have ended in the meantime, and removed the folder.
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
                    part.readline()  # the header, which only the first part keeps
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
