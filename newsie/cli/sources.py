"""The sources of articles for a command: texts, a file, or standard input."""

from __future__ import annotations

import glob
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from newsie.data.readers import ArticleReader

__all__ = [
    "FIELDS",
    "check_source",
    "find_files",
    "fixed_folder",
    "is_directory",
    "is_file",
    "is_pattern",
    "open_source",
]

FIELDS = ("headline", "body", "id", "url")
"""The fields of articles that are read for classification; a student may read URLs."""


def check_source(texts: list[str] | None, file: str | None) -> None:
    """Raise a usage error unless either texts or a file are given, and no text is the name of a file."""
    if texts and file is not None and is_file(file) and all(map(is_file, texts)):
        return  # --file big/*.parquet, expanded by the shell
    if bool(texts) == (file is not None):
        given = "both" if texts else "neither"
        raise typer.BadParameter(
            f"give texts or --file FILE, and {given} was given; - reads standard input",
            param_hint="TEXT",
        )
    if texts and "-" in texts and len(texts) > 1:
        raise typer.BadParameter("- cannot be mixed with texts", param_hint="TEXT")
    for text in texts or ():
        if reason := _why_no_text(text):
            raise typer.BadParameter(reason, param_hint="TEXT")


def _why_no_text(text: str) -> str:
    """Return why a text is the name of a file or folder and not a headline; empty if it may be a headline."""
    from newsie.data.formats import SUFFIXES

    path = Path(text)
    if (path.suffix and is_file(text)) or ("/" in text and is_directory(text)):
        kind = "file" if path.suffix else "folder"
        return f"{text!r} is a {kind}; to read the articles in it, type --file {text}"
    if path.suffix.lower() in SUFFIXES and len(text.split()) == 1:
        return f"{text!r} looks like a file, and there is no such file; --file reads files"
    return ""


def is_pattern(file: str) -> bool:
    """Return True if a name stands for several files: "big/*.parquet"."""
    return not is_file(file) and glob.has_magic(file) and not file.startswith("hub:")


def fixed_folder(pattern: str) -> Path:
    """Return the folder that contains all files of a pattern: "big/**/*.parquet" -> big."""
    parts = Path(pattern).parts
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts))


def find_files(texts: list[str] | None, file: str) -> list[str]:
    """Return the files of a pattern in order, or the single file.

    Files that a shell has expanded from --file big/*.parquet are included. Raises a usage error if no file
    matches the pattern.
    """
    names = [file, *(texts or [])]
    found: list[str] = []
    for name in names:
        pattern = is_pattern(name)
        files = sorted(filter(is_file, glob.glob(name, recursive=True))) if pattern else [name]
        if not files:
            raise typer.BadParameter(f"there is no file {name!r}", param_hint="--file")
        found += files
    return list(dict.fromkeys(found))


def is_file(text: str) -> bool:
    """Return True if there is a file of that name."""
    try:
        return Path(text).is_file()
    except OSError:  # a text may be longer than any file name, or name an inaccessible file
        return False


def is_directory(text: str) -> bool:
    """Return True if there is a folder of that name."""
    try:
        return Path(text).is_dir()
    except OSError:
        return False


def open_source(
    texts: list[str] | None, file: str | None, columns: dict[str, str], strict: bool
) -> ArticleReader | None:
    """Return the reader of the file or of standard input; None if texts are given."""
    source = "-" if texts == ["-"] else file
    if source is None:
        return None
    from newsie.cli.terminal import note
    from newsie.data.readers import ArticleReader

    reader = ArticleReader(source, columns=columns, fields=FIELDS, strict=strict)
    note(f"columns: {reader.describe_columns()}")
    return reader
