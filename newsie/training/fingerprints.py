"""Short names for what results depend on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from newsie.training.encoder import encoder_directory

__all__ = ["digest", "encoder_digest"]


def digest(*parts: Any) -> str:
    """Short hex digest of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def encoder_digest(name: str) -> str:
    """What identifies an encoder: the bytes of a local one, the id of one on the hub."""
    directory = Path(encoder_directory(name))
    if not directory.is_dir():
        return name
    digest = hashlib.sha256()
    for file in sorted(directory.glob("*.json")) + sorted(directory.glob("*.safetensors")):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
