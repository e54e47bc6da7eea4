"""Reading folders of text files that have one folder per label."""

from __future__ import annotations

import io
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from newsie.data.binary import DAMAGE, open_binary
from newsie.data.records import BadRow, RecodedRow, Record, Records, Row, recode
from newsie.errors import ReadError

__all__ = ["find_texts", "open_folder"]

OTHER_ENDING = "file left out: it does not end in .txt"
NO_LABEL = "file left out: it lies in no folder for a label"
NO_FILE = "file left out: it is a pipe, a socket, a device or a link to nothing"
LINKED = (
    "folder left out: it is a link inside of a folder for a label, or to one that is read already"
)
LOCKED = "folder left out: it cannot be opened"


def open_folder(path: Path, limit: int) -> Records:
    """Open the .txt files of a folder that contains one folder per label, at any depth. The first line of
    a file is the headline, and the rest is the body.

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
    """Return the files that `open_folder` reads, in order."""
    return _find_files(path)[0]


def _find_files(path: Path) -> tuple[list[Path], Counter[str]]:
    """Return the text files in order, and the number of other files by the reason they are left out."""
    files: list[Path] = []
    left_out = Counter[str]()
    labels: list[Path] = []
    for entry in path.iterdir():
        if not entry.is_dir():
            _sort_out(entry, [], left_out, NO_LABEL)
        elif not entry.name.startswith("."):
            labels.append(entry)
    for label in _read_once(path, labels, left_out):
        for folder, inner, names in os.walk(label, onerror=lambda _: left_out.update([LOCKED])):
            left_out[LINKED] += sum(Path(folder, name).is_symlink() for name in inner)
            for name in names:
                _sort_out(Path(folder, name), files, left_out)
    return sorted(files), +left_out


def _read_once(root: Path, labels: list[Path], left_out: Counter[str]) -> Iterator[Path]:
    """Yield the label folders, without links to a folder that is already read: the root, a folder in it
    or above it, or the target of another link. So each text has one label."""
    seen = {root.resolve()}
    links = {label: label.resolve() for label in labels if label.is_symlink()}
    yield from (label for label in labels if label not in links)
    for label, target in sorted(links.items(), key=lambda link: (len(link[1].parts), link)):
        if seen.isdisjoint((target, *target.parents)) and target not in root.resolve().parents:
            seen.add(target)
            yield label
        else:
            left_out[LINKED] += 1


def _sort_out(file: Path, files: list[Path], left_out: Counter[str], no_text: str = "") -> None:
    """Add a file to the texts, or count the reason it is left out. Hidden files are ignored."""
    if file.suffix.lower() != ".txt":
        if not file.name.startswith("."):
            left_out[OTHER_ENDING] += 1
    elif no_text:
        left_out[no_text] += 1
    elif not _may_be_file(file):  # opening a pipe would block forever
        left_out[NO_FILE] += 1
    else:
        files.append(file)


def _may_be_file(path: Path) -> bool:
    """Return True if a path is a regular file, or cannot be examined, in which case opening it fails."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        return True
    except OSError:  # a link to nothing, or to itself
        return False


def _readable(name: str) -> str:
    """Return a file name as text. A name that is not UTF-8 is decoded as Windows-1252, with "?" for bytes
    that are not that either."""
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
