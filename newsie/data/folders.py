"""Folders of texts: a folder for each label."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from newsie.data.binary import DAMAGE, open_binary
from newsie.data.records import BadRow, RecodedRow, Record, Records, Row, recode
from newsie.errors import ReadError

__all__ = ["find_texts", "open_folder"]

OTHER_ENDING = "file left out: it does not end in .txt"
NO_LABEL = "file left out: it lies in no folder for a label"
LOCKED = "folder left out: it cannot be opened"


def open_folder(path: Path, limit: int) -> Records:
    """The .txt files of a folder that holds a folder for each label, also those deeper in it. The first
    line of a file is the headline, the rest the body.

    Raises:
        ReadError: there is no such file.
    """
    files, left_out = _find_files(path)
    if not files:
        raise ReadError(
            path,
            "is a folder without a folder for each label that holds .txt files (first line the "
            "headline, the rest the body); add them, or name one file",
        )
    notes = Counter[str]()

    def read(_wanted: object) -> Iterator[Record]:
        notes.update(left_out)
        for number, file in enumerate(files, 1):
            yield Record(number, _read_text(file, path, limit))

    return Records(("id", "headline", "body", "label"), read, notes=notes)


def find_texts(path: Path) -> list[Path]:
    """The files of a folder of texts by label that `open_folder` reads, in order."""
    return _find_files(path)[0]


def _find_files(path: Path) -> tuple[list[Path], Counter[str]]:
    """The texts in order, and the number of other files by why they are left out."""
    files: list[Path] = []
    left_out = Counter[str]()
    for entry in path.iterdir():
        if not entry.is_dir():
            _sort_out(entry, [], left_out, NO_LABEL)
        elif not entry.name.startswith("."):
            for folder, _, names in os.walk(entry, onerror=lambda _: left_out.update([LOCKED])):
                for name in names:
                    _sort_out(Path(folder, name), files, left_out)
    return sorted(files), left_out


def _sort_out(file: Path, files: list[Path], left_out: Counter[str], no_text: str = "") -> None:
    """Put a file among the texts, or count why it is left out; hidden files are neither."""
    if file.suffix.lower() != ".txt":
        if not file.name.startswith("."):
            left_out[OTHER_ENDING] += 1
    elif no_text:
        left_out[no_text] += 1
    else:
        files.append(file)


def _readable(name: str) -> str:
    """A name as text. One that is not UTF-8 is read as Windows-1252, with "?" for what is not that
    either."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return recode(os.fsencode(name)) or name.encode("utf-8", "replace").decode()
    return name


def _read_text(file: Path, root: Path, limit: int) -> Row | BadRow:
    place = file.relative_to(root)
    name = "/".join(map(_readable, place.parts))
    kind: type[Row] = dict
    try:
        with io.TextIOWrapper(open_binary(file), encoding="utf-8-sig") as stream:
            text = stream.read(limit + 1)
    except UnicodeDecodeError as error:
        with open_binary(file) as raw:
            recoded = recode(raw.read(limit + 1))
        if recoded is None:
            return BadRow("not UTF-8", f"{name}, byte {error.start + 1}")
        text, kind = recoded, RecodedRow
    except ReadError as error:
        return BadRow("cannot be opened", f"{name}: {error.reason}")
    except DAMAGE as error:
        return BadRow("cannot be read", f"{name}: {error}")
    if "\0" in text:
        return BadRow("NUL character", name)
    if len(text) > limit:
        return BadRow("field too long", f"{name}: more than {limit:,} characters", "body")
    headline, _, body = text.lstrip().partition("\n")
    label = _readable(place.parts[0])
    return kind(id=name, headline=headline.strip(), body=body.strip(), label=label)
