"""The bundle: a directory with a model and everything needed to trust and to run it.

    newsie.json      the manifest: label space, encoding, calibration, lineage, sha256 of each file
    model.onnx       the student, one output of shape (B, C_task) per task
    tokenizer.json
    README.md        the model card
    first.onnx       only in a cascade: the small student, which passes on to model.onnx if unsure

The manifest ends in a seal, the sha256 of everything before it in the file, and lists the sha256 of every
other file. `read_bundle` checks the seal before it parses the manifest, and every other file before it is
opened. A changed byte anywhere is therefore an error and never a different prediction.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from newsie.bundles.manifest import (
    CARD,
    FIRST,
    FORMAT_VERSION,
    MANIFEST,
    MODEL,
    TOKENIZER,
    CascadeRule,
    FileRecord,
    Lineage,
    Manifest,
    parse_manifest,
    read_manifest,
    seal,
)
from newsie.data.encoding import EncodingPolicy
from newsie.errors import BundleError
from newsie.labels import LabelSpace

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
    "CascadeRule",
    "FileRecord",
    "Lineage",
    "Manifest",
    "bundled_path",
    "copy_bundle",
    "open_bundle",
    "read_bundle",
    "restore_bundle",
    "write_bundle",
]


HASHED_BYTES = 2 << 20
"""The number of bytes of a file that are read and hashed at once."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. Its manifest is verified when opened, each file when it is read.

    Attributes:
        path: the directory.
        manifest: the manifest.
    """

    path: Path
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the bundle; see `Manifest.fingerprint`."""
        return self.manifest.fingerprint

    @property
    def model_path(self) -> Path:
        """The path of the ONNX graph."""
        return self.path / MODEL

    @property
    def first_path(self) -> Path:
        """The path of the ONNX graph of a cascade's small student."""
        return self.path / FIRST

    @property
    def tokenizer_path(self) -> Path:
        """The path of the tokenizer."""
        return self.path / TOKENIZER

    @property
    def card(self) -> str:
        """The text of the model card; empty if there is none."""
        return self.read(CARD).decode() if CARD in self.manifest.files else ""

    def read(self, name: str) -> bytes:
        """Return the verified content of a file that the manifest lists.

        Raises:
            BundleError: the file is missing or damaged.
        """
        with _errors(self.path):
            return _read_verified(self.path / name, self.manifest.files[name])

    def contents(self) -> dict[str, bytes]:
        """Read each file once and verify it; return the graphs and the tokenizer.

        The content that is verified is the content that is returned, even if the files change meanwhile.

        Raises:
            BundleError: a file is missing or damaged.
        """
        needed = (MODEL, TOKENIZER, *([FIRST] if self.manifest.cascade else []))
        with _errors(self.path):
            for name, record in self.manifest.files.items():
                if name not in needed:
                    _verify_file(self.path / name, record)
        return {name: self.read(name) for name in needed}


def bundled_path() -> Path:
    """The directory of the student that is installed with Newsie (it may not exist)."""
    return Path(__file__).parents[1] / "models" / "default"


def read_bundle(path: str | Path) -> Bundle:
    """Verify and read the manifest of a bundle, then verify every file that it lists.

    Files that the manifest does not list are left alone.

    Raises:
        BundleError: the directory, its manifest or one of its files is missing or damaged, or the
            bundle was written by a newer Newsie.
    """
    bundle = open_bundle(path)
    with _errors(bundle.path):
        for name, record in bundle.manifest.files.items():
            _verify_file(bundle.path / name, record)
    return bundle


def open_bundle(path: str | Path) -> Bundle:
    """Read the manifest of a bundle; its files are verified when they are read.

    A bundle that was being replaced when its process was killed is restored first.

    Raises:
        BundleError: the directory or its manifest is missing or damaged, or the bundle was written by
            a newer Newsie.
    """
    path = Path(path)
    with _errors(path):
        if not (path.is_dir() or restore_bundle(path)):
            raise BundleError(
                f"it is not a directory; a bundle is a directory that holds {MANIFEST}, {MODEL} "
                f"and {TOKENIZER}"
            )
        return Bundle(path, read_manifest(path / MANIFEST))


def restore_bundle(path: Path) -> bool:
    """Restore a bundle that a killed process moved aside to replace it. Return True if there was one.

    Raises:
        BundleError: there is one, and it cannot be restored.
    """
    from newsie.atomic import restore_directory  # see write_bundle

    try:
        return restore_directory(path)
    except OSError as error:
        raise BundleError(
            f"{path} was being replaced when a process was killed, and its old files, in "
            f"{path.with_name(f'.{path.name}.old')}, cannot be renamed: {error.strerror or error}; "
            "rename them"
        ) from error


def write_bundle(
    directory: str | Path,
    *,
    name: str,
    label_space: LabelSpace,
    encoding: EncodingPolicy,
    calibration: Mapping[str, float],
    model: Path | bytes,
    tokenizer: str,
    card: str,
    metrics: Mapping[str, Any] | None = None,
    lineage: Lineage | None = None,
    cascade: CascadeRule | None = None,
    first: Path | bytes | None = None,
    replace: bool = False,
) -> Bundle:
    """Write a bundle atomically.

    Args:
        directory: the directory to write; its parents are created.
        name: the display name of the model.
        label_space: the tasks, in the order of the model's heads.
        encoding: the conversion of text to token ids.
        calibration: a calibration temperature for every task.
        model: the ONNX file, which is copied, or its content.
        tokenizer: the text of tokenizer.json (`Tokenizer.to_str()`).
        card: the text of README.md.
        metrics: measured quality, as plain JSON values.
        lineage: the origin of the model.
        cascade: when the small student's prediction is kept; given together with `first`.
        first: the ONNX file of the small student, which is copied, or its content.
        replace: replace an existing bundle.

    Raises:
        BundleError: the directory exists already or holds something other than a bundle, or a value is
            invalid.
    """
    # Imported here, because most programs only read bundles and would pay for it at each start.
    from newsie.atomic import new_directory

    directory = Path(directory)
    if directory.exists() and not replace:
        raise BundleError(f"{directory} exists already; choose another name, or delete it first")
    _check_target(directory)
    with new_directory(directory, replace=replace) as aside:
        _copy(model, aside / MODEL)
        (aside / TOKENIZER).write_text(tokenizer, encoding="utf-8")
        (aside / CARD).write_text(card, encoding="utf-8")
        files = [MODEL, TOKENIZER, CARD]
        if first is not None:
            _copy(first, aside / FIRST)
            files.append(FIRST)
        manifest = Manifest(
            name=name,
            label_space=label_space,
            encoding=encoding,
            calibration=calibration,
            files={file: _record(aside / file) for file in files},
            metrics=metrics or {},
            lineage=lineage or Lineage(),
            created=_now().isoformat(timespec="seconds"),
            cascade=cascade,
        )
        (aside / MANIFEST).write_bytes(seal(manifest))
    return read_bundle(directory)


def copy_bundle(
    source: str | Path,
    directory: str | Path,
    *,
    card: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Bundle:
    """Copy a verified bundle atomically, over any bundle in a directory, which may be its own.

    Its predictions and its fingerprint stay the same.

    Args:
        source: the bundle.
        directory: the directory to copy to.
        card: the new text of README.md; None keeps it.
        metrics: the new metrics; None keeps them.

    Raises:
        BundleError: the source is not a bundle or is damaged, or the directory holds something else.
    """
    from newsie.atomic import new_directory  # see write_bundle

    bundle, directory = open_bundle(source), Path(directory)
    _check_target(directory)
    with new_directory(directory, replace=True) as aside:
        for name in bundle.manifest.files:
            (aside / name).write_bytes(bundle.read(name))
        (aside / MANIFEST).write_bytes(_read_sealed(bundle))
        if card is not None or metrics is not None:
            _rewrite(aside, bundle.manifest, card, metrics)
    return read_bundle(directory)


def _now() -> datetime:
    """Return the time, or SOURCE_DATE_EPOCH (reproducible-builds.org), which makes bundles reproducible."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(given), UTC) if given.isdecimal() else datetime.now(UTC)


def _rewrite(
    directory: Path, manifest: Manifest, card: str | None, metrics: Mapping[str, Any] | None
) -> None:
    """Change the card and the metrics, and nothing that affects predictions."""
    files = dict(manifest.files)
    if card is not None:
        (directory / CARD).write_text(card, encoding="utf-8")
        files[CARD] = _record(directory / CARD)
    changed = replace(
        manifest, files=files, metrics=manifest.metrics if metrics is None else metrics
    )
    (directory / MANIFEST).write_bytes(seal(changed))


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Prefix every error with the bundle."""
    try:
        yield
    except BundleError as error:
        raise BundleError(f"bundle {path}: {error}") from error
    except OSError as error:
        raise BundleError(f"bundle {path} cannot be read: {error}") from error


def _copy(source: Path | bytes, target: Path) -> None:
    import shutil  # see write_bundle

    if isinstance(source, bytes):
        target.write_bytes(source)
    else:
        shutil.copyfile(source, target)


def _read_sealed(bundle: Bundle) -> bytes:
    """Return the manifest as stored in the file, which another version may have written."""
    raw = (bundle.path / MANIFEST).read_bytes()
    if parse_manifest(raw) != bundle.manifest:
        raise BundleError(f"bundle {bundle.path} was replaced while it was copied; copy it again")
    return raw


def _read_verified(path: Path, record: FileRecord) -> bytes:
    _check_size(path, record)
    with path.open("rb") as file:
        content = file.read(record.bytes + 1)
    _check_record(path, FileRecord(hashlib.sha256(content).hexdigest(), len(content)), record)
    return content


def _verify_file(path: Path, record: FileRecord) -> None:
    _check_size(path, record)
    _check_record(path, _record(path, record.bytes), record)


def _check_size(path: Path, record: FileRecord) -> None:
    """Check the size of a file before it is opened: a FIFO would block, and a sparse file take hours."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise BundleError(f"{path.name} is missing; copy the whole directory again") from error
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path.name} is not a plain file; copy the whole directory again")
    if found.st_size != record.bytes:
        raise BundleError(
            f"{path.name} is damaged ({found.st_size:,} bytes; the manifest says {record.bytes:,}); "
            "copy it again"
        )


def _check_record(path: Path, found: FileRecord, record: FileRecord) -> None:
    if found != record:
        raise BundleError(
            f"{path.name} is damaged (sha256 {found.sha256[:12]}..., {found.bytes} bytes; the "
            f"manifest says {record.sha256[:12]}..., {record.bytes} bytes); copy it again"
        )


def _record(path: Path, expected_bytes: int | None = None) -> FileRecord:
    """Return the digest and the size of a file. Reading stops at more bytes than expected.

    The chunks are so large that Python's lock is seldom taken and other threads go on. The file is not
    mapped, because truncation by another process would then kill this one.
    """
    digest, size, room = hashlib.sha256(), 0, memoryview(bytearray(HASHED_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(room):
            digest.update(room[:count])
            size += count
            if expected_bytes is not None and size > expected_bytes:
                break
    return FileRecord(digest.hexdigest(), size)


def _check_target(directory: Path) -> None:
    """Raise BundleError unless a directory is missing, empty, or a bundle."""
    if not directory.exists():
        return
    if directory.is_dir() and ((directory / MANIFEST).is_file() or not any(directory.iterdir())):
        return
    raise BundleError(
        f"{directory} is there and is not a bundle, so it is not replaced; choose another name"
    )
