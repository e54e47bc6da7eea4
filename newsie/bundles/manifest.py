"""The manifest of a bundle, newsie.json: its metadata under a seal.

The seal is the sha256 of everything before it in the file. It is checked before anything is parsed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from newsie.data.encoding import EncodingPolicy
from newsie.errors import BundleError, InputError, LabelError
from newsie.labels import LabelSpace
from newsie.texts import name_fault
from newsie.version import __version__

__all__ = [
    "CARD",
    "FIRST",
    "FORMAT_VERSION",
    "MANIFEST",
    "MODEL",
    "TOKENIZER",
    "CascadeRule",
    "FileRecord",
    "Lineage",
    "Manifest",
    "parse_manifest",
    "read_manifest",
    "seal",
]

FORMAT_VERSION = 1
MANIFEST, MODEL, TOKENIZER, CARD = "newsie.json", "model.onnx", "tokenizer.json", "README.md"
FIRST = "first.onnx"
MAX_BYTES = 64 << 20
"""The largest manifest that is read."""
MAX_FILE_BYTES = 2 << 30
"""The largest file of a bundle; a graph is one protobuf message, which holds no more."""
MAX_NAME_CHARACTERS = 500
TEMPERATURES = 1e-6, 1e6
"""The bounds of a calibration temperature.

Logits divided by one within them stay finite. Those of `fit_calibration_temperature` are far within.
"""
_SEAL = re.compile(rb',\n  "sha256": "([0-9a-f]{64})"\n}\n\Z')
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class FileRecord:
    """The manifest's record of a file: its digest (hex) and its size."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if not (isinstance(self.sha256, str) and _DIGEST.fullmatch(self.sha256)):
            raise BundleError(f"{self.sha256!r:.80} is not a sha256 in hexadecimal digits")
        if type(self.bytes) is not int or self.bytes < 0:
            raise BundleError(f"{self.bytes!r:.80} is not the size of a file in bytes")
        if self.bytes > MAX_FILE_BYTES:
            raise BundleError(
                f"a file of {self.bytes:,} bytes is named; a file of a bundle has at most "
                f"{MAX_FILE_BYTES:,}"
            )


@dataclass(frozen=True)
class Lineage:
    """The origin of a model, as fingerprints of what it was made from; empty if there is none.

    Attributes:
        parent: the bundle that it was retrained from.
        teacher: the teacher whose soft labels it was trained on.
        data: the articles that it was trained on.
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
    """The rule that decides when a cascade keeps the small student's prediction.

    Attributes:
        calibration: task -> calibration temperature of the small student.
        thresholds: task -> label -> confidence, 0 to 1, above which the prediction is kept; at 1, never.
    """

    calibration: Mapping[str, float]
    thresholds: Mapping[str, Mapping[str, float]]

    def check(self, labels: LabelSpace) -> None:
        """Check that there is a threshold for every label.

        Raises:
            BundleError: a threshold is missing, or is not a confidence.
        """
        for task in labels.tasks:
            thresholds = self.thresholds.get(task.name)
            if not isinstance(thresholds, Mapping) or set(thresholds) != set(task.labels):
                raise BundleError(
                    f"the cascade's thresholds of task {task.name!r} are {thresholds}; one for each of its "
                    f"labels is needed ({', '.join(task.labels)}): make it again with newsie cascade"
                )
            for label, threshold in thresholds.items():
                if not (_is_number(threshold) and 0 <= threshold <= 1):
                    raise BundleError(
                        f"the threshold of label {label!r} of task {task.name!r} is {threshold}; it is a "
                        "confidence, 0 to 1"
                    )


@dataclass(frozen=True)
class Manifest:
    """The manifest of a bundle.

    Attributes:
        name: the display name of the model.
        label_space: the tasks, one output of the model each.
        encoding: the conversion of text to token ids.
        calibration: task -> calibration temperature, by which logits are divided.
        cascade: when the small student's prediction is kept; None for a single student.
        files: name -> record of every file of the bundle except the manifest.
        metrics: measured quality, as plain JSON values.
        lineage: the origin of the model.
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
        self._check_names()
        _check_json("metrics", self.metrics)
        _check_json("the recipe in the lineage", self.lineage.recipe)
        _check_calibration(self.calibration, tasks)
        if self.cascade is not None:
            _check_calibration(self.cascade.calibration, tasks)
            self.cascade.check(self.label_space)
        for name in self.files:
            if not _PLAIN_NAME.fullmatch(name) or name == MANIFEST:
                raise BundleError(
                    f"the manifest names the file {name!r}; only plain file names are allowed, "
                    "without any directory: do not use this bundle, it may have been forged"
                )
        for name in (MODEL, TOKENIZER, *([FIRST] if self.cascade else [])):
            if name not in self.files:
                raise BundleError(f"the manifest does not list {name}, which every bundle needs")

    def _check_names(self) -> None:
        if fault := name_fault(self.name, MAX_NAME_CHARACTERS):
            raise BundleError(f"the model's name {fault}; a name is one line of text")
        lineage = {
            name: getattr(self.lineage, name) for name in ("parent", "teacher", "data", "commit")
        }
        others = {"created": self.created, "newsie_version": self.newsie_version, **lineage}
        for what, value in others.items():
            if value != "" and (fault := name_fault(value, MAX_NAME_CHARACTERS)):
                raise BundleError(f"{what} in the manifest: {fault}")

    @property
    def fingerprint(self) -> str:
        """The hex digest of all that determines predictions: equal fingerprints mean equal predictions."""
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
        """Return the manifest as plain JSON values."""
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
        """Return the manifest that `to_json` wrote. Raise BundleError for invalid values."""
        _check_format(content.get("format_version"))
        try:
            return cls(
                name=content["name"],
                label_space=LabelSpace.from_json(content["label_space"]),
                encoding=EncodingPolicy.from_json(content["encoding"]),
                calibration={**content["calibration"]},
                files={name: FileRecord(**record) for name, record in content["files"].items()},
                metrics=content["metrics"],
                lineage=Lineage(**content["lineage"]),
                created=content["created"],
                newsie_version=content["newsie_version"],
                format_version=content["format_version"],
                cascade=CascadeRule(**content["cascade"]) if "cascade" in content else None,
            )
        except (InputError, LabelError) as error:
            raise BundleError(f"the manifest cannot be used: {error}") from error
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise BundleError(f"the manifest cannot be understood: {error!r}") from error


def seal(manifest: Manifest) -> bytes:
    """Return the text of newsie.json, which ends in the sha256 of everything before it.

    Raises:
        BundleError: metrics or lineage hold a value that JSON does not know.
    """
    try:
        text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise BundleError(f"metrics or lineage hold a value JSON does not know: {error}") from error
    content = text.removesuffix("\n}").encode()
    digest = hashlib.sha256(content).hexdigest()
    return content + f',\n  "sha256": "{digest}"\n}}\n'.encode()


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check its seal.

    Raises:
        BundleError: the manifest is missing, was changed, or cannot be understood.
    """
    if path.exists() and not path.is_file():
        raise BundleError(f"{MANIFEST} is not a plain file; copy the whole directory again")
    if not path.is_file():
        inside = sorted(found.parent.name for found in path.parent.glob(f"[!.]*/{MANIFEST}"))
        advice = (
            f"name a bundle in it: {', '.join(inside[:5])}"
            if inside
            else "copy the whole directory again"
        )
        raise BundleError(f"{MANIFEST} is missing; {advice}")
    with path.open("rb") as file:
        return parse_manifest(file.read(MAX_BYTES + 1))


def parse_manifest(raw: bytes) -> Manifest:
    """Parse the content of newsie.json, whose seal is checked first.

    Raises:
        BundleError: it was changed, or cannot be understood.
    """
    if len(raw) > MAX_BYTES:
        raise BundleError(f"{MANIFEST} has more than {MAX_BYTES >> 20} MiB; it is no manifest")
    found = _SEAL.search(raw)
    if found is None or hashlib.sha256(raw[: found.start()]).hexdigest().encode() != found[1]:
        raise BundleError(
            f"{MANIFEST} was changed after it was written (its own sha256 does not match); "
            "copy the bundle again"
        )
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST} is not JSON: {error}") from error
    return Manifest.from_json(content)


def _check_calibration(calibration: Mapping[str, float], tasks: set[str]) -> None:
    if set(calibration) != tasks:
        raise BundleError(
            f"calibration is given for {sorted(calibration)}, the tasks are "
            f"{sorted(tasks)}; give every task one temperature (1.0 changes nothing)"
        )
    for task, temperature in calibration.items():
        least, most = TEMPERATURES
        if not (_is_number(temperature) and least <= temperature <= most):
            raise BundleError(
                f"the calibration temperature of task {task!r} is {temperature!r:.80}; it must be a "
                f"finite number from {least:g} to {most:,g} (1.0 changes nothing)"
            )


def _check_json(what: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BundleError(
            f"{what} in the manifest: {value!r:.80} is given; a mapping from names to JSON values is needed"
        )


def _is_number(value: object) -> bool:
    """Return True if a value is a finite number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_format(version: object) -> None:
    if type(version) is int and version > FORMAT_VERSION:
        raise BundleError(
            f"it is of format {version}; this Newsie ({__version__}) reads formats up to "
            f"{FORMAT_VERSION}: install a newer Newsie"
        )
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleError(f"format_version is {version!r}; it must be {FORMAT_VERSION}")
