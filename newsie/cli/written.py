"""Records of the files that `newsie classify` has written, which decide whether a file may be replaced.

The record of DIR/NAME is DIR/.newsie/NAME.json. It holds what the predictions were computed from. It is empty
while the file is being written. A file without a record was not written by Newsie.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from newsie.atomic import check_regular, write_text

__all__ = [
    "check_replaceable",
    "input_name",
    "read_record",
    "record_path",
    "start_record",
    "write_record",
]

RECORDS = ".newsie"


def record_path(target: Path) -> Path:
    """Return the path of a file's record."""
    return target.parent / RECORDS / f"{target.name}.json"


def read_record(target: Path) -> dict[str, Any] | None:
    """Return the record of a file; empty if the file is not finished, None if it has no record."""
    try:
        record: dict[str, Any] = json.loads(record_path(target).read_text(encoding="utf-8") or "{}")
    except FileNotFoundError:
        return None
    except ValueError:  # the machine stopped while it was being written
        return {}
    return record


def start_record(target: Path) -> None:
    """Empty the record of a file that is about to be replaced."""
    path = record_path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def write_record(target: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a finished file."""
    path = record_path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record))  # ASCII, because a file name need not be UTF-8


def input_name(file: str | None, texts: Sequence[str] | None) -> str:
    """Return the name under which a record holds the input of a run.

    It is the path of a saved file, the name of a data set on the hub, a checksum of texts on the command
    line, and "-" for standard input and other pipes.
    """
    if file is None:
        if not texts or list(texts) == ["-"]:
            return "-"
        return "texts " + hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()
    if os.path.isfile(file):
        return str(Path(file).resolve())
    return "-" if os.path.exists(file) else file


def check_replaceable(target: Path, source: str, advice: str) -> None:
    """Check that a file may be replaced: an earlier run has written it for the same input.

    An empty file may be replaced.

    Args:
        target: the file, which need not exist.
        source: the input, see `input_name`.
        advice: what to do instead.

    Raises:
        BadParameter: the file has no record, or was written for another input.
        InputError: the name is that of a pipe or a device.
    """
    if not os.path.lexists(target):
        return
    check_regular(target)
    if target.exists() and not target.stat().st_size:
        return  # created beforehand to set its permissions, or by mktemp
    record = read_record(target)
    if record is None:
        reason = f"{target} exists, and no earlier run of newsie wrote it"
    elif record and record["file"] != source:
        reason = f"{target} holds the predictions for another input, {record['file']}"
    else:
        return
    raise typer.BadParameter(
        f"{reason}; {advice}, or give --overwrite to replace it", param_hint="--output"
    )
