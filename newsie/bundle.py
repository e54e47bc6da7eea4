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
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from newsie.atomic import new_directory
from newsie.data.encoding import EncodingPolicy
from newsie.errors import BundleError
from newsie.labels import LabelSpace
from newsie.version import __version__

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

FORMAT_VERSION = 1
MANIFEST, MODEL, TOKENIZER, CARD = "newsie.json", "model.onnx", "tokenizer.json", "README.md"
FIRST = "first.onnx"
_SEAL = re.compile(rb',\n  "sha256": "([0-9a-f]{64})"\n}\n\Z')
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class FileRecord:
    """What the manifest knows of a file: its digest (hex) and its size."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from; fingerprints of what it was made of, empty where there is none.

    Attributes:
        parent: the bundle that it was retrained from.
        teacher: the teacher whose soft labels it learnt.
        data: the articles that it learnt from.
        commit: the git commit of the code.
        recipe: the training configuration, as plain JSON values.
    """

    parent: str = ""
    teacher: str = ""
    data: str = ""
    commit: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CascadeRule:
    """When the answer of a cascade's small student stands.

    Attributes:
        calibration: task -> calibration temperature of the small student.
        thresholds: task -> confidence, 0 to 1, above which its answer stands. At 1 none does.
    """

    calibration: Mapping[str, float]
    thresholds: Mapping[str, float]

    def __post_init__(self) -> None:
        for task, threshold in self.thresholds.items():
            if not 0 <= threshold <= 1:
                raise BundleError(
                    f"the threshold of task {task!r} is {threshold}; it is a confidence, 0 to 1"
                )


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself.

    Attributes:
        name: the model's name, for people.
        label_space: the tasks; an output of the model each.
        encoding: how text becomes token ids.
        calibration: task -> calibration temperature, by which logits are divided.
        cascade: when the small student's answer stands; None where there is one student only.
        files: name -> record of every file of the bundle but the manifest.
        metrics: measured quality, as plain JSON values.
        lineage: where the model comes from.
        created: time of writing, ISO 8601, UTC.
        newsie_version: version of Newsie that wrote the bundle.
        format_version: version of this layout.
    """

    name: str
    label_space: LabelSpace
    encoding: EncodingPolicy
    calibration: Mapping[str, float]
    files: Mapping[str, FileRecord]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    created: str = ""
    newsie_version: str = __version__
    format_version: int = FORMAT_VERSION
    cascade: CascadeRule | None = None

    def __post_init__(self) -> None:
        tasks = set(self.label_space.names)
        _check_calibration(self.calibration, tasks)
        if self.cascade is not None:
            _check_calibration(self.cascade.calibration, tasks)
            if set(self.cascade.thresholds) != tasks:
                raise BundleError(
                    f"thresholds are given for {sorted(self.cascade.thresholds)}, the tasks are "
                    f"{sorted(tasks)}; give every task one"
                )
        for name in self.files:
            if not _PLAIN_NAME.fullmatch(name) or name == MANIFEST:
                raise BundleError(
                    f"the manifest names the file {name!r}; only plain file names are allowed, "
                    "without any directory: do not use this bundle, it may have been forged"
                )
        for name in (MODEL, TOKENIZER, *([FIRST] if self.cascade else [])):
            if name not in self.files:
                raise BundleError(f"the manifest does not list {name}, which every bundle needs")

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides the answers: equal fingerprints answer equally."""
        content = [
            self.label_space.fingerprint(),
            self.encoding.to_json(),
            {task: float(value) for task, value in self.calibration.items()},
            self.files[MODEL].sha256,
            self.files[TOKENIZER].sha256,
        ]
        if self.cascade is not None:
            content += [asdict(self.cascade), self.files[FIRST].sha256]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        cascade = {} if self.cascade is None else {"cascade": asdict(self.cascade)}
        return {
            "format_version": self.format_version,
            "name": self.name,
            "newsie_version": self.newsie_version,
            "created": self.created,
            "label_space": self.label_space.to_json(),
            "encoding": self.encoding.to_json(),
            "calibration": dict(self.calibration),
            **cascade,
            "metrics": dict(self.metrics),
            "lineage": asdict(self.lineage),
            "files": {name: asdict(record) for name, record in self.files.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`. Raises BundleError for values that make no sense."""
        _check_format(content.get("format_version"))
        try:
            return cls(
                name=str(content["name"]),
                label_space=LabelSpace.from_json(content["label_space"]),
                encoding=EncodingPolicy.from_json(content["encoding"]),
                calibration={task: float(t) for task, t in content["calibration"].items()},
                files={name: FileRecord(**record) for name, record in content["files"].items()},
                metrics=content["metrics"],
                lineage=Lineage(**content["lineage"]),
                created=str(content["created"]),
                newsie_version=str(content["newsie_version"]),
                format_version=content["format_version"],
                cascade=CascadeRule(**content["cascade"]) if "cascade" in content else None,
            )
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise BundleError(f"the manifest cannot be understood: {error!r}") from error


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
        manifest = _read_manifest(path / MANIFEST)
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
    directory = Path(directory)
    if directory.exists() and not replace:
        raise BundleError(f"{directory} exists already; choose another name, or replace it")
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
        (aside / MANIFEST).write_bytes(_seal(manifest))
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
    (directory / MANIFEST).write_bytes(_seal(changed))


def _check_calibration(calibration: Mapping[str, float], tasks: set[str]) -> None:
    if set(calibration) != tasks:
        raise BundleError(
            f"calibration is given for {sorted(calibration)}, the tasks are "
            f"{sorted(tasks)}; give every task one temperature (1.0 changes nothing)"
        )
    for task, temperature in calibration.items():
        if not (math.isfinite(temperature) and temperature > 0):
            raise BundleError(
                f"the calibration temperature of task {task!r} is {temperature}; it must be a "
                "finite number above 0 (1.0 changes nothing)"
            )


def _seal(manifest: Manifest) -> bytes:
    try:
        text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise BundleError(f"metrics or lineage hold a value JSON does not know: {error}") from error
    content = text.removesuffix("\n}").encode()
    digest = hashlib.sha256(content).hexdigest()
    return content + f',\n  "sha256": "{digest}"\n}}\n'.encode()


def _read_manifest(path: Path) -> Manifest:
    if not path.is_file():
        raise BundleError(f"{MANIFEST} is missing; copy the whole directory again")
    raw = path.read_bytes()
    seal = _SEAL.search(raw)
    if seal is None or hashlib.sha256(raw[: seal.start()]).hexdigest().encode() != seal[1]:
        raise BundleError(
            f"{MANIFEST} was changed after it was written (its own sha256 does not match); "
            "copy the bundle again"
        )
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST} is not JSON: {error}") from error
    return Manifest.from_json(content)


def _check_format(version: object) -> None:
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"it is of format {version}; this Newsie ({__version__}) reads formats up to "
            f"{FORMAT_VERSION}: type  pip install -U newsie"
        )
    if version != FORMAT_VERSION:
        raise BundleError(f"format_version is {version!r}; it must be {FORMAT_VERSION}")


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
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(digest, file.tell())


def _check_target(directory: Path) -> None:
    """Refuse to replace anything but a bundle or an empty directory."""
    if not directory.exists():
        return
    if directory.is_dir() and ((directory / MANIFEST).is_file() or not any(directory.iterdir())):
        return
    raise BundleError(
        f"{directory} is there and is not a bundle, so it is not replaced; choose another name"
    )
