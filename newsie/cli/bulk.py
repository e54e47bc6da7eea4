"""Classification of files into files, in parts: the same command continues where the last one ended."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from newsie.cli.written import (
    check_replaceable,
    read_record,
    record_path,
    start_record,
    write_record,
)

if TYPE_CHECKING:
    from newsie.bulk.resumable_file import Parts
    from newsie.bulk.rows import Answer
    from newsie.data.readers import ArticleReader
    from newsie.inference.classifier import Classifier

__all__ = [
    "JSON_LINES",
    "Bulk",
    "Job",
    "folder_of",
    "into_folder",
    "tell_skipped",
    "tell_truncated",
]

JSON_LINES = (".jsonl", ".ndjson")
TABLES = {".parquet": ".parquet", ".arrow": ".parquet", ".feather": ".parquet"}
TABLES |= {".csv": ".csv", ".tsv": ".csv"}
"""The suffix of the prediction file by suffix of the source; all others, and all with --json, get .jsonl."""

BUSY_SECONDS = 10
"""The seconds to wait for another process that classifies the same file; one that lost its node ends soon."""


class Job(NamedTuple):
    """A file of articles, and the file that its predictions are written to."""

    source: Path
    target: Path


def into_folder(
    files: Sequence[str],
    folder: Path,
    json_: bool,
    below: Path | None = None,
    *,
    overwrite: bool = False,
) -> list[Job]:
    """Return a job for each file, with its predictions under the same name in a folder.

    Raises a usage error if two files would be written to one, or if a file would be overwritten that an
    earlier run did not write for the same articles.

    Args:
        files: the files; those that earlier runs wrote into the folder are left out.
        folder: the folder, which need not exist.
        json_: write all predictions as JSON Lines.
        below: a folder that contains all files; below/2020/a.csv is written to folder/2020/a.csv. None means
            that all go into the folder itself.
        overwrite: also replace files that no earlier run wrote for the same articles.
    """
    if folder.is_file():
        raise typer.BadParameter(
            f"several files are answered into a folder, and {str(folder)!r} is a file; name a "
            "folder: -o out/",
            param_hint="--output",
        )
    if folder.suffix.lower() in (*TABLES, *JSON_LINES) and not folder.is_dir():
        raise typer.BadParameter(
            f"several files are answered into a folder, and {str(folder)!r} is the name of a file; name a "
            "folder: -o out/",
            param_hint="--output",
        )
    sources = [path for path in map(Path, files) if not _is_answer(path, folder)]
    if not sources:
        raise _other_folder(f"{str(folder)!r} holds the files that are read")
    jobs, taken = [], dict[Path, Path]()
    for source in sources:
        name = _target_name(source, json_)
        target = folder / (source.relative_to(below).with_name(name) if below is not None else name)
        if target in taken:
            raise typer.BadParameter(
                f"{taken[target]} and {source} would both be answered in {target}; classify them "
                "into two folders, or name them by a pattern in quotation marks, 'big/**/*.parquet': "
                "the folders in it are kept apart",
                param_hint="--output",
            )
        _check_target(source, target, overwrite)
        taken[target] = source
        jobs.append(Job(source, target))
    return jobs


def folder_of(jobs: Sequence[Job]) -> str:
    """Return the folder that contains all predictions."""
    return os.path.commonpath([job.target.parent for job in jobs]) or os.curdir


def _is_answer(source: Path, folder: Path) -> bool:
    """Return True if a file was written into a folder by an earlier run."""
    return record_path(source).exists() and folder.resolve() in source.resolve().parents


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Raise a usage error if the target must not be overwritten."""
    if target.exists() and target.samefile(source):
        raise _other_folder(f"{str(target.parent)!r} holds the files that are read")
    if not overwrite:
        check_replaceable(target, str(source.resolve()), "name another folder")


def _other_folder(reason: str) -> typer.BadParameter:
    return typer.BadParameter(f"{reason}; name another folder", param_hint="--output")


def _target_name(source: Path, json_: bool) -> str:
    """Return the name of the prediction file: a.csv.gz -> a.csv, a.parquet -> a.parquet, a.txt -> a.jsonl."""
    packed = source.suffix.lower() in (".gz", ".zst")
    plain = Path(source.stem if packed else source.name)
    return plain.stem + (".jsonl" if json_ else TABLES.get(plain.suffix.lower(), ".jsonl"))


@dataclass
class Bulk:
    """The classification of files into files.

    Attributes:
        classifier: the classifier.
        tasks: the tasks to predict; None means all.
        top_k: labels per task; None means 1 in tables and all in JSON.
        columns: field of the article -> column.
        strict: stop at the first row that cannot be used.
        raw: write CSV as it is, see `newsie.data.writers.open_writer`.
    """

    classifier: Classifier
    tasks: Sequence[str] | None
    top_k: int | None
    columns: Mapping[str, str]
    strict: bool
    raw: bool = False
    _bytes_done: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _told: str = field(default="", init=False)

    def one(self, job: Job) -> None:
        """Classify a single file into a single file.

        Raises:
            InputError: no article could be classified.
        """
        self._bytes = job.source.stat().st_size
        from newsie.bulk.resumable_file import has_parts

        try:
            self._classify(job, BUSY_SECONDS, one_of_many=False)
        except (KeyboardInterrupt, OSError):
            _tell_how_to_go_on(has_parts(job.target))
            raise

    def many(self, jobs: Sequence[Job]) -> None:
        """Classify files into a folder.

        Finished files are skipped, and a file that cannot be read does not stop the others. Files that
        another run is working on are left to it, and waited for.

        Raises:
            InputError: some files could not be classified; stderr names them.
        """
        from newsie.bulk.resumable_file import BusyError, has_parts
        from newsie.cli.terminal import note
        from newsie.errors import InputError

        self.prepare(jobs)
        self._bytes = sum(job.source.stat().st_size for job in jobs if job.source.exists())
        done = failed = 0
        busy: list[Job] = []
        try:
            for job in jobs:
                try:
                    failed += not self._try(job)
                    done += 1
                except BusyError:
                    busy.append(job)
            if busy:
                note(f"waiting for another process that is at work on {len(busy):,} of the files")
            for job in busy:
                failed += not self._try(job, math.inf)
                done += 1
        except (KeyboardInterrupt, OSError):
            note(f"{done:,} of {len(jobs):,} files are done")
            _tell_how_to_go_on(any(has_parts(x.target) or self.is_done(x) for x in jobs))
            raise
        note(f"{len(jobs) - failed:,} of {len(jobs):,} files are answered in {folder_of(jobs)}")
        if failed:
            raise InputError(
                f"{failed:,} of {len(jobs):,} files could not be classified, see above; put them right "
                "and type the same command again: the others are kept"
            )

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Make the folders of the predictions and reserve their names; report which will be made anew."""
        from newsie.cli.terminal import note

        anew: Counter[str] = Counter()
        for job in jobs:
            path = record_path(job.target)
            path.parent.mkdir(parents=True, exist_ok=True)
            if (record := read_record(job.target)) and job.target.exists() and job.source.exists():
                anew[_difference(record, self._meaning(job))] += 1
            path.touch()
        for difference, count in anew.items():
            if difference:
                note(f"{count:,} of {len(jobs):,} files are answered anew: {difference}")

    def _try(self, job: Job, wait_seconds: float = 0) -> bool:
        """Return True if a file is or could be classified; otherwise report why, except for a BusyError."""
        from newsie.bulk.resumable_file import BusyError
        from newsie.cli.terminal import note
        from newsie.errors import InputError

        found = True
        try:
            if not self.is_done(job):
                self._classify(job, wait_seconds)
        except BusyError:
            raise
        except InputError as error:
            if self.strict:
                raise
            note(f"newsie: {error}")
            found = False
        self._bytes_done += job.source.stat().st_size if job.source.exists() else 0
        return found

    def _classify(self, job: Job, wait_seconds: float = 0, *, one_of_many: bool = True) -> None:
        from newsie.bulk.resumable_file import Parts
        from newsie.cli.terminal import note

        meaning = self._meaning(job)  # taken before reading, because the file may change meanwhile
        reader = self._open(job, empty=one_of_many)
        with Parts(job.target, meaning, wait_seconds, raw=self.raw) as parts:
            if one_of_many and self.is_done(job):
                note(f"{job.target} was written by another process")
                return
            if parts.done:
                note(f"{job.source}: going on behind row {parts.done:,}, where the last run ended")
            if reader is not None:
                self._write(reader, parts)
                _check_read(reader, parts, empty=one_of_many)
            start_record(job.target)
            parts.finish(None if parts.tally["articles"] else self._sample_row(reader))
            write_record(job.target, meaning)
        if not parts.tally["articles"]:
            note(f"{job.source} is empty, and so is {job.target}")
            return
        tell_truncated(parts.tally, self.classifier)
        assert reader is not None
        tell_skipped(reader)
        note(f"{parts.tally['articles']:,} predictions written to {job.target}")

    def _open(self, job: Job, *, empty: bool) -> ArticleReader | None:
        """Return the reader of a file; None if it is completely empty and `empty` allows that."""
        from newsie.cli.sources import FIELDS
        from newsie.cli.terminal import note
        from newsie.data.readers import ArticleReader
        from newsie.data.records import EmptyFileError

        try:
            reader = ArticleReader(
                job.source, columns=self.columns, fields=FIELDS, strict=self.strict
            )
        except EmptyFileError:
            if empty:
                return None
            raise
        if (columns := reader.describe_columns()) != self._told:
            self._told = columns
            note(f"columns: {columns}")
        return reader

    def _sample_row(self, reader: ArticleReader | None) -> dict[str, Any] | None:
        """Return a row with the columns of predictions for no articles; None if the columns are unknown."""
        from newsie.bulk.rows import sample_row

        if reader is None:
            return None
        return sample_row(self.classifier, reader, self.tasks, self.top_k or 1)

    def _write(self, reader: ArticleReader, parts: Parts) -> None:
        from newsie.bulk.rows import answer_windows, flat_row, nested_row
        from newsie.cli.terminal import counted

        nested = parts.target.suffix.lower() in JSON_LINES
        size = Path(reader.path).stat().st_size

        def share() -> float | None:
            own = reader.share
            return None if own is None else (self._bytes_done + own * size) / max(self._bytes, 1)

        windows = answer_windows(
            *(self.classifier, reader, self.tasks), after=parts.done, done=parts.tally["articles"]
        )

        def each() -> Iterator[Answer]:
            for window in windows:
                yield from window
                parts.end_window()

        with closing(windows):  # also closes the file being read
            for answer in counted(each(), "articles", share):
                row = (
                    nested_row(answer, self.top_k) if nested else flat_row(answer, self.top_k or 1)
                )
                parts.write(answer.number, row)
                parts.tally["articles"] += 1
                parts.tally["truncated"] += answer.prediction.truncated

    def _meaning(self, job: Job) -> dict[str, Any]:
        """Return all that determines the predictions; other predictions are never written beside them."""
        from newsie.errors import ReadError

        try:
            about = job.source.stat()
        except OSError as error:
            raise ReadError(job.source, f"cannot be opened: {error.strerror or error}") from error
        return {
            "file": str(job.source.resolve()),
            "bytes": about.st_size,
            "modified_ns": about.st_mtime_ns,
            "model": self.classifier.bundle.fingerprint,
            "tasks": list(self.tasks or self.classifier.tasks),
            "top_k": self.top_k,
            "columns": dict(self.columns),
            "raw": self.raw,
        }

    def is_done(self, job: Job) -> bool:
        """Return True if an earlier run has classified a file in its current state with this model."""
        if not (job.target.exists() and job.source.exists()):
            return False
        return read_record(job.target) == self._meaning(job)

    def remember(self, job: Job) -> None:
        """Record that a file is classified, unless the process that did it already has."""
        if not read_record(job.target):
            write_record(job.target, self._meaning(job))


def _difference(record: Mapping[str, Any], meaning: Mapping[str, Any]) -> str:
    """Return how the existing predictions differ from the requested ones; empty if they do not."""
    if record == meaning:
        return ""
    if record["file"] != meaning["file"]:
        return "what is there answers other files"
    if record["model"] != meaning["model"]:
        return "what is there is of another model"
    same = all(record.get(key) == meaning[key] for key in ("tasks", "top_k", "columns", "raw"))
    return "they have changed since" if same else "what is there is of other options"


def _check_read(reader: ArticleReader, parts: Parts, *, empty: bool) -> None:
    """Raise InputError unless a file was read to its end and has articles, or is empty and may be `empty`."""
    from newsie.errors import InputError

    if reader.cut_off is not None:
        parts.keep()
        tell_skipped(reader)
        raise InputError(
            f"{reader.path} is damaged or ends early behind row {reader.number:,}; its answers so far, "
            f"{parts.tally['articles']:,}, are kept in {parts.folder}"
        )
    if not (parts.tally["articles"] or (empty and not reader.rows)):
        tell_skipped(reader)
        raise InputError(
            f"{reader.path}: no article could be classified; rows read: {reader.rows:,}"
        )


def tell_skipped(reader: ArticleReader) -> None:
    """Report on stderr which rows were skipped, and why."""
    from newsie.cli.terminal import note

    if summary := reader.problems.summary():
        note(summary)


def tell_truncated(tally: Mapping[str, int], classifier: Classifier) -> None:
    """Report on stderr how many articles were cut off, and how many a cascade has passed on."""
    from newsie.cli.terminal import note

    if (passed := classifier.passed_on) and passed.articles:
        note(f"{100 * passed.share:.1f} % of the articles went on to the larger student")

    if tally["truncated"]:
        note(
            f"{tally['truncated']:,} of {tally['articles']:,} articles are longer than the model reads "
            f"({classifier.max_tokens} tokens); the rest of each was not read"
        )


def _tell_how_to_go_on(kept: bool) -> None:
    """Report on stderr what a run that ended early has kept."""
    from newsie.bulk.resumable_file import PART_ROWS
    from newsie.cli.terminal import note

    if not kept:
        note(
            f"nothing is kept yet: that begins after {PART_ROWS:,} rows of a file; the same command starts "
            "at the first row"
        )
        return
    note(
        f"what is finished is kept, in steps of {PART_ROWS:,} rows of a file; type the same command again to "
        "go on"
    )
