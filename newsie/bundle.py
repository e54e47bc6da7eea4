"""The bundle: the directory that holds a model and all that is needed to trust and to run it.

    newsie.json      the manifest: label space, encoding, calibration, lineage, sha256 of each file
    model.onnx       the student, one output of shape (B, C_task) per task
    tokenizer.json
    README.md        the model card
    first.onnx       of a cascade only: the small student, which model.onnx helps out where it is unsure

The manifest ends in a seal, the sha256 of all that stands before it in the file, and names the
sha256 of every other file. `read_bundle` checks the seal before it parses the manifest, and every
other file before anybody can open it, so that a byte that changed anywhere is an error and never a
different answer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from newsie.data.encoding import EncodingPolicy
from newsie.errors import BundleError
from newsie.labels import LabelSpace
from newsie.manifest import (
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
    read_manifest,
    seal,
)

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
    "CascadeRule",
    "FileRecord",
    "Lineage",
    "Manifest",
    "bundled_path",
    "copy_bundle",
    "read_bundle",
    "write_bundle",
]


HASHED_BYTES = 2 << 20
"""Of a file, read and hashed at once."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files were all verified.

    Attributes:
        path: its directory.
        manifest: what it says about itself.
    """

    path: Path
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """See `Manifest.fingerprint`."""
        return self.manifest.fingerprint

    @property
    def model_path(self) -> Path:
        """The ONNX graph."""
        return self.path / MODEL

    @property
    def first_path(self) -> Path:
        """The ONNX graph of a cascade's small student."""
        return self.path / FIRST

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer."""
        return self.path / TOKENIZER

    @property
    def card(self) -> str:
        """The text of the model card; empty where there is none."""
        path = self.path / CARD
        return path.read_text(encoding="utf-8") if CARD in self.manifest.files else ""


def bundled_path() -> Path:
    """The directory of the student that is installed with Newsie (it may not exist)."""
    return Path(__file__).parent / "models" / "default"


def read_bundle(path: str | Path) -> Bundle:
    """Verify and read the manifest of a bundle, then verify every file that it names.

    Files that the manifest does not name are left alone.

    Raises:
        BundleError: the directory, its manifest or a file of it is missing or damaged, or the
            bundle was written by a newer Newsie.
    """
    path = Path(path)
    if not path.is_dir():
        raise BundleError(
            f"{path} is not a directory; a bundle is a directory that holds {MANIFEST}, {MODEL} "
            f"and {TOKENIZER}"
        )
    try:
        manifest = read_manifest(path / MANIFEST)
        for name, record in manifest.files.items():
            _verify_file(path / name, record)
    except BundleError as error:
        raise BundleError(f"bundle {path}: {error}") from error
    except OSError as error:
        raise BundleError(f"bundle {path} cannot be read: {error}") from error
    return Bundle(path, manifest)


def write_bundle(
    directory: str | Path,
    *,
    name: str,
    label_space: LabelSpace,
    encoding: EncodingPolicy,
    calibration: Mapping[str, float],
    model: Path,
    tokenizer: str,
    card: str,
    metrics: Mapping[str, Any] | None = None,
    lineage: Lineage | None = None,
    cascade: CascadeRule | None = None,
    first: Path | None = None,
    replace: bool = False,
) -> Bundle:
    """Write a bundle: aside first, then renamed, so that it is never half there.

    Args:
        directory: where the bundle goes; its parent directories are made.
        name: the model's name, for people.
        label_space: the tasks, in the order of the model's heads.
        encoding: how text becomes token ids.
        calibration: a calibration temperature for every task.
        model: the ONNX file, copied.
        tokenizer: the text of tokenizer.json (`Tokenizer.to_str()`).
        card: the text of README.md.
        metrics: measured quality, as plain JSON values.
        lineage: where the model comes from.
        cascade: when the small student's answer stands, together with `first`.
        first: the ONNX file of the small student, copied.
        replace: whether a bundle that is already there may be replaced.

    Raises:
        BundleError: the directory exists already, or holds something else than a bundle; or a value
            makes no sense.
    """
    import shutil  # here, as most programs only read, and each of their starts would pay for it

    from newsie.atomic import new_directory

    directory = Path(directory)
    if directory.exists() and not replace:
        raise BundleError(f"{directory} exists already; choose another name, or delete it first")
    _check_target(directory)
    with new_directory(directory, replace=replace) as aside:
        shutil.copyfile(model, aside / MODEL)
        (aside / TOKENIZER).write_text(tokenizer, encoding="utf-8")
        (aside / CARD).write_text(card, encoding="utf-8")
        files = [MODEL, TOKENIZER, CARD]
        if first is not None:
            shutil.copyfile(first, aside / FIRST)
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
    """Copy a bundle, verified, over whatever bundle is in a directory, which may be its own: aside
    first, then renamed. Its answers stay the same, and so does its fingerprint.

    Args:
        source: the bundle.
        directory: where the copy goes.
        card: the text of its README.md from now on; None keeps it.
        metrics: its metrics from now on; None keeps them.

    Raises:
        BundleError: the source is no bundle, or is damaged, or the directory holds something else.
    """
    import shutil  # see write_bundle

    from newsie.atomic import new_directory

    bundle, directory = read_bundle(source), Path(directory)
    _check_target(directory)
    with new_directory(directory, replace=True) as aside:
        for name in (*bundle.manifest.files, MANIFEST):
            shutil.copyfile(bundle.path / name, aside / name)
        if card is not None or metrics is not None:
            _rewrite(aside, bundle.manifest, card, metrics)
    return read_bundle(directory)


def _now() -> datetime:
    """The time, or SOURCE_DATE_EPOCH (reproducible-builds.org), by which bundles of one making are equal to
    the last byte."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(given), UTC) if given.isdecimal() else datetime.now(UTC)


def _rewrite(
    directory: Path, manifest: Manifest, card: str | None, metrics: Mapping[str, Any] | None
) -> None:
    """Change what says something about the model, and nothing of what answers."""
    files = dict(manifest.files)
    if card is not None:
        (directory / CARD).write_text(card, encoding="utf-8")
        files[CARD] = _record(directory / CARD)
    changed = replace(
        manifest, files=files, metrics=manifest.metrics if metrics is None else metrics
    )
    (directory / MANIFEST).write_bytes(seal(changed))


def _verify_file(path: Path, record: FileRecord) -> None:
    if not path.is_file():
        raise BundleError(f"{path.name} is missing; copy the whole directory again")
    found = _record(path)
    if found != record:
        raise BundleError(
            f"{path.name} is damaged (sha256 {found.sha256[:12]}..., {found.bytes} bytes; the "
            f"manifest says {record.sha256[:12]}..., {record.bytes} bytes); copy it again"
        )


def _record(path: Path) -> FileRecord:
    """In pieces so large that it seldom asks for Python's lock: whatever else the process has to do goes on.
    The file is not mapped: one that another process shortens would end this one."""
    digest, size, room = hashlib.sha256(), 0, memoryview(bytearray(HASHED_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(room):
            digest.update(room[:count])
            size += count
    return FileRecord(digest.hexdigest(), size)


def _check_target(directory: Path) -> None:
    """Refuse to replace anything but a bundle or an empty directory."""
    if not directory.exists():
        return
    if directory.is_dir() and ((directory / MANIFEST).is_file() or not any(directory.iterdir())):
        return
    raise BundleError(
        f"{directory} is there and is not a bundle, so it is not replaced; choose another name"
    )
