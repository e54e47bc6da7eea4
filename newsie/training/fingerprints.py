"""Fingerprints: short digests of the inputs that a result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.data.encoding import Encoder
from newsie.training.encoder import encoder_directory

__all__ = ["Pretrained", "digest", "encoder_digest", "fingerprint"]


def digest(*parts: Any) -> str:
    """Return a short hex digest of plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


@singledispatch
def fingerprint(value: Any) -> Any:
    """Return JSON values that differ whenever two inputs of a stage differ.

    Plain values, sequences, mappings, arrays and dataclasses of these are supported directly. Any other
    object needs a `fingerprint` attribute or method.

    Raises:
        TypeError: the value has no fingerprint.
    """
    own = getattr(value, "fingerprint", None)
    if own is not None:
        return own() if callable(own) else own
    if is_dataclass(value) and not isinstance(value, type):
        content = {field.name: fingerprint(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__name__, **content}
    raise TypeError(f"a stage cannot depend on {value!r}: it has no fingerprint")


@fingerprint.register
def _(value: bool | int | float | str | None) -> Any:
    return value


@fingerprint.register
def _(value: list | tuple) -> Any:  # type: ignore[type-arg]  # dispatch needs the bare classes
    return [fingerprint(item) for item in value]


@fingerprint.register
def _(value: Mapping) -> Any:  # type: ignore[type-arg]
    return {str(key): fingerprint(item) for key, item in value.items()}


@fingerprint.register
def _(value: np.ndarray) -> Any:
    array: NDArray[Any] = np.ascontiguousarray(value)
    return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]


@fingerprint.register
def _(value: Encoder) -> Any:
    return [value.tokenizer.to_str(), value.policy.to_json()]


def encoder_digest(name: str) -> str:
    """Return a digest of a local encoder's files, or the name of an encoder on the hub."""
    directory = Path(encoder_directory(name))
    if not directory.is_dir():
        return name
    digest = hashlib.sha256()
    for file in sorted(directory.glob("*.json")) + sorted(directory.glob("*.safetensors")):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class Pretrained:
    """A pretrained encoder as an input of a stage, identified by its files rather than its name.

    Attributes:
        name: see `load_encoder`.
    """

    name: str

    def fingerprint(self) -> str:
        """Return the digest of the encoder; see `encoder_digest`."""
        return encoder_digest(self.name)
