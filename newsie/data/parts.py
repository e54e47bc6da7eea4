"""A file of answers, written in parts, so that a run that ends early goes on behind the last one.

    .NAME.parts/
      progress.json    what is answered (`source`), and how far that is
      00000.parquet    answers to the first 10,000 rows of the source, or to fewer where rows were skipped
      00001.parquet    ...

A part gets its name when it is on the disk as a whole, and counts once progress.json says so. At the
end the parts are put together under the file's name, and the folder goes.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from newsie.atomic import new_file, write_text
from newsie.data.writers import RowWriter, check_target, open_writer
from newsie.errors import InputError

__all__ = ["PART_ROWS", "Parts"]

PART_ROWS = 10_000
PROGRESS = "progress.json"


class Parts:
    """The parts of one file; a context that lets go of the unfinished part.

    Args:
        target: the file, .jsonl, .csv or .parquet; its folder must be there.
        source: what the rows answer, as plain JSON values; parts of anything else are thrown away.

    Attributes:
        done: number of rows of the source whose answers are in parts.
        tally: counts that are kept with the parts; to be raised behind `write`.

    Raises:
        InputError: another ending, or a folder that cannot be written to.
    """

    def __init__(self, target: Path, source: Mapping[str, Any]) -> None:
        check_target(target)
        self.target, self.source = target, json.loads(json.dumps(source))
        self.folder = target.with_name(f".{target.name}.parts")
        progress = self._read_progress()
        self.done: int = progress.get("done", 0)
        self.tally: Counter[str] = Counter(progress.get("tally", {}))
        self._last = self.done
        self._parts: int = progress.get("parts", 0)
        self._writer: RowWriter | None = None
        self._open = ExitStack()

    def __enter__(self) -> Parts:
        if not self._parts:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, *error: Any) -> None:
        """Without an error, nothing is left open; with one, the part that is not whole goes."""
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
        while number > self.done + PART_ROWS:
            self._close_part(self.done + PART_ROWS)
        if self._writer is None:
            path = self.folder / f"{self._parts:05d}{self.target.suffix.lower()}"
            self._writer = self._open.enter_context(open_writer(path))
        self._writer.write(row)
        self._last = number

    def finish(self) -> None:
        """Put all parts together under the file's name."""
        # Numbers may leave out blank lines: the number of rows read can be below the last of them.
        self._close_part(max(self.done, self._last))
        suffix = self.target.suffix.lower()
        paths = [self.folder / f"{part:05d}{suffix}" for part in range(self._parts)]
        if not paths:
            with open_writer(self.target):
                pass
        else:
            with new_file(self.target) as aside:
                _join(paths, aside)
        self._parts = 0
        shutil.rmtree(self.folder)

    def _close_part(self, done: int) -> None:
        if self._writer is not None:
            self._open.close()
            self._writer = None
            self._parts += 1
        self.done = done
        progress = {"source": self.source, "done": done, "parts": self._parts, "tally": self.tally}
        write_text(self.folder / PROGRESS, json.dumps(progress, ensure_ascii=False))

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
                    writer.write_table(part.read_row_group(group))
