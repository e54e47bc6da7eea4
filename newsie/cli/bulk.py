"""Files into files: in parts, so that the same command goes on where the last one ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from newsie.classifier import Classifier
    from newsie.data.parts import Parts
    from newsie.data.readers import ArticleReader

__all__ = ["JSON_LINES", "Bulk", "Job", "into_folder", "tell_skipped", "tell_truncated"]

JSON_LINES = (".jsonl", ".ndjson")
TABLES = {".parquet": ".parquet", ".arrow": ".parquet", ".feather": ".parquet"}
TABLES |= {".csv": ".csv", ".tsv": ".csv"}
"""Ending of a file -> ending of its answers; all others, and all with --json, become .jsonl."""

RECORD = ".newsie.json"
"""In a folder of answers: which files are done, and what each answers."""


class Job(NamedTuple):
    """A file of articles, and the file that its answers go to."""

    source: Path
    target: Path


def into_folder(files: Sequence[str], folder: Path, json_: bool) -> list[Job]:
    """A job for each file, its answers under the same name in a folder. A wrong usage if two files
    would go to one, or if one would be overwritten."""
    if folder.is_file():
        raise typer.BadParameter(
            f"several files are answered into a folder, and {str(folder)!r} is a file; name a "
            "folder: -o out/",
            param_hint="--output",
        )
    jobs = [Job(Path(file), folder / _target_name(Path(file), json_)) for file in files]
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        if target in taken:
            raise typer.BadParameter(
                f"{taken[target]} and {source} would both be answered in {target}; classify them "
                "into two folders",
                param_hint="--output",
            )
        if target.exists() and target.samefile(source):
            raise typer.BadParameter(
                f"{str(folder)!r} holds the files that are read; name another folder",
                param_hint="--output",
            )
        taken[target] = source
    return jobs


def _target_name(source: Path, json_: bool) -> str:
    """a.csv.gz -> a.csv, a.parquet -> a.parquet, a.txt -> a.jsonl."""
    packed = source.suffix.lower() in (".gz", ".zst")
    plain = Path(source.stem if packed else source.name)
    return plain.stem + (".jsonl" if json_ else TABLES.get(plain.suffix.lower(), ".jsonl"))


@dataclass
class Bulk:
    """Answers files into files.

    Attributes:
        classifier: what answers.
        tasks: the tasks to answer; None means all.
        top_k: labels of each task; None means 1 in tables and all in JSON.
        columns: field of the article -> column.
        strict: stop at the first row that cannot be used.
    """

    classifier: Classifier
    tasks: Sequence[str] | None
    top_k: int | None
    columns: Mapping[str, str]
    strict: bool
    _bytes_done: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _told: str = field(default="", init=False)

    def one(self, job: Job) -> None:
        """A single file into a single file.

        Raises:
            InputError: no article could be classified.
        """
        self._bytes = job.source.stat().st_size
        try:
            self._classify(job)
        except (KeyboardInterrupt, OSError):
            _tell_how_to_go_on()
            raise

    def many(self, jobs: Sequence[Job]) -> None:
        """Files into a folder; those that are done already are left out, and a file that cannot be
        read does not stop the others.

        Raises:
            InputError: some files could not be classified; which ones was said on stderr.
        """
        from newsie.cli.terminal import note
        from newsie.errors import InputError

        folder = jobs[0].target.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._bytes = sum(job.source.stat().st_size for job in jobs if job.source.exists())
        done, failed = 0, 0
        try:
            for job in jobs:
                if self.is_done(job):
                    self._bytes_done += job.source.stat().st_size
                else:
                    failed += not self._try(job)
                done += 1
        except (KeyboardInterrupt, OSError):
            note(f"{done:,} of {len(jobs):,} files are done")
            _tell_how_to_go_on()
            raise
        note(f"{len(jobs) - failed:,} of {len(jobs):,} files are answered in {folder}")
        if failed:
            raise InputError(
                f"{failed:,} of {len(jobs):,} files could not be classified, see above; put them right "
                "and type the same command again: the others are kept"
            )

    def _try(self, job: Job) -> bool:
        """Whether a file could be classified; if not, why is said."""
        from newsie.cli.terminal import note
        from newsie.errors import InputError

        try:
            self._classify(job)
        except InputError as error:
            if self.strict:
                raise
            note(f"newsie: {error}")
            return False
        finally:
            self._bytes_done += job.source.stat().st_size if job.source.exists() else 0
        self.remember(job)
        return True

    def _classify(self, job: Job) -> None:
        from newsie.cli.sources import FIELDS
        from newsie.cli.terminal import note
        from newsie.data.parts import Parts
        from newsie.data.readers import ArticleReader
        from newsie.errors import InputError

        reader = ArticleReader(job.source, columns=self.columns, fields=FIELDS, strict=self.strict)
        if (columns := reader.describe_columns()) != self._told:
            self._told = columns
            note(f"columns: {columns}")
        with Parts(job.target, self._meaning(job)) as parts:
            if parts.done:
                note(f"{job.source}: going on behind row {parts.done:,}, where the last run ended")
            self._write(reader, parts)
            if not parts.tally["articles"]:
                tell_skipped(reader)
                raise InputError(
                    f"{reader.path}: no article could be classified; rows read: {reader.rows:,}"
                )
            parts.finish()
        tell_truncated(parts.tally, self.classifier)
        tell_skipped(reader)
        note(f"{parts.tally['articles']:,} predictions written to {job.target}")

    def _write(self, reader: ArticleReader, parts: Parts) -> None:
        from newsie.cli.rows import answers, flat_row, nested_row
        from newsie.cli.terminal import counted

        nested = parts.target.suffix.lower() in JSON_LINES
        size = Path(reader.path).stat().st_size

        def share() -> float | None:
            own = reader.share
            return None if own is None else (self._bytes_done + own * size) / max(self._bytes, 1)

        found = answers(self.classifier, reader, self.tasks, parts.done)
        for answer in counted(found, "articles", share):
            row = nested_row(answer, self.top_k) if nested else flat_row(answer, self.top_k or 1)
            parts.write(answer.number, row)
            parts.tally["articles"] += 1
            parts.tally["truncated"] += answer.prediction.truncated

    def _meaning(self, job: Job) -> dict[str, Any]:
        """All that decides what the answers are: other answers are never put beside them."""
        about = job.source.stat()
        return {
            "file": str(job.source.resolve()),
            "bytes": about.st_size,
            "modified_ns": about.st_mtime_ns,
            "model": self.classifier.bundle.fingerprint,
            "tasks": list(self.tasks or self.classifier.tasks),
            "top_k": self.top_k,
            "columns": dict(self.columns),
        }

    def is_done(self, job: Job) -> bool:
        """Whether an earlier run has answered a file, as it is now and with this model."""
        if not (job.target.exists() and job.source.exists()):
            return False
        return _read_record(job.target.parent).get(job.target.name) == self._meaning(job)

    def remember(self, job: Job) -> None:
        """Note that a file is answered."""
        from newsie.atomic import write_text

        record = _read_record(job.target.parent) | {job.target.name: self._meaning(job)}
        text = json.dumps(record, ensure_ascii=False, indent=1)
        write_text(job.target.parent / RECORD, text)


def tell_skipped(reader: ArticleReader) -> None:
    """Say on stderr which rows were skipped, and why."""
    from newsie.cli.terminal import note

    if summary := reader.problems.summary():
        note(summary)


def tell_truncated(tally: Mapping[str, int], classifier: Classifier) -> None:
    """Say on stderr how many articles were cut off, and how many a cascade has passed on."""
    from newsie.cli.terminal import note

    if (passed := classifier.passed_on) and passed.articles:
        note(f"{100 * passed.share:.1f} % of the articles went on to the larger student")

    if tally["truncated"]:
        note(
            f"{tally['truncated']:,} of {tally['articles']:,} articles are longer than the model reads "
            f"({classifier.max_tokens} tokens); the rest of each was not read"
        )


def _tell_how_to_go_on() -> None:
    from newsie.cli.terminal import note

    note("what is finished is kept; type the same command again to go on")


def _read_record(folder: Path) -> dict[str, Any]:
    from newsie.errors import InputError

    path = folder / RECORD
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}; delete it to classify all again"
        ) from error
    return found
