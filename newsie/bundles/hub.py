"""Finding a model: the bundled one, a directory, or the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from newsie.bundles.bundle import bundled_path, restore_bundle
from newsie.bundles.manifest import MANIFEST
from newsie.errors import BundleError, MissingExtraError

__all__ = ["find_bundle"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_bundle(path: str | Path | None) -> Path:
    """Return the directory of a bundle; see `Classifier.from_pretrained`.

    Raises:
        BundleError: there is no such model.
        MissingExtraError: a hub id is given and huggingface_hub is not installed.
    """
    if path is None:
        if not bundled_path().is_dir():
            raise BundleError(
                "this installation of Newsie brings no model; name a directory, or the id of a "
                "model on the Hugging Face hub"
            )
        return bundled_path()
    if str(path) and (_is_directory(Path(path)) or restore_bundle(Path(path))):
        return Path(path)
    if isinstance(path, str) and _HUB_ID.fullmatch(path):
        _check_typo(path)
        return _download(path)
    raise BundleError(
        f"there is no model {str(path)!r}; allowed are a directory that holds a newsie.json, or "
        "the id of a model on the Hugging Face hub, written owner/name"
    )


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # longer than any name, or in a directory without access
        return False


def _check_typo(path: str) -> None:
    """Check that a hub id is not a mistyped path of a local bundle.

    Raises:
        BundleError: its first part is a local folder, or a local bundle has nearly the same path.
    """
    from difflib import (
        get_close_matches,
    )  # a misspelt path is rare, and each start would pay for it

    folder = path.partition("/")[0]
    is_here = _is_directory(Path(folder))
    folders = [folder]
    if not is_here:
        here = [entry.name for entry in Path().glob("*") if _is_directory(entry)]
        folders = get_close_matches(folder, here, cutoff=0.8)
    bundles = [
        f"{name}/{manifest.parent.name}"
        for name in folders
        for manifest in sorted(Path(name).glob(f"[!.]*/{MANIFEST}"))
    ]
    similar = get_close_matches(path, bundles, n=1, cutoff=0.8)
    if similar:
        raise BundleError(f"there is no model {path!r}; did you mean {similar[0]}?")
    if is_here:
        raise BundleError(
            f"there is no model {path!r}; the folder {folder} holds: {', '.join(bundles[:5]) or 'none'}. "
            "For a model of the Hugging Face hub of that name, use another working directory"
        )


def _download(hub_id: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(
            f"downloading the model {hub_id!r} (there is no directory of that name)",
            "huggingface_hub",
            "hub",
        ) from error
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.onnx", "README.md"]))
    except Exception as error:  # its errors and connection errors have no other common base
        raise BundleError(
            f"there is no directory {hub_id!r}, and the model of that name cannot be downloaded "
            f"from the Hugging Face hub: {error}"
        ) from error
