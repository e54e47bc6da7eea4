"""The shelf: a folder of bundles, and which of them is the current one.

`current` is a symbolic link beside the bundles. Whoever serves or classifies names it like any bundle.
A student that was promoted over the current one takes its place; rolling back makes its parent the
current one again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from newsie.bundle import Bundle, bundled_path, read_bundle
from newsie.errors import BundleError, InputError

__all__ = ["CURRENT", "Shelf", "follow"]

CURRENT = "current"


@dataclass(frozen=True)
class Shelf:
    """The bundles of a folder.

    Attributes:
        directory: the folder.
        bundles: its bundles, oldest first, verified.
        damaged: folder of a bundle that cannot be used -> why.
    """

    directory: Path
    bundles: tuple[Bundle, ...]
    damaged: dict[Path, str]

    @classmethod
    def of(cls, directory: str | Path) -> Shelf:
        """Read a folder.

        Raises:
            InputError: it is not a folder.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(f"{directory} is not a folder; name one that holds bundles")
        bundles, damaged = [], {}
        for path in sorted(directory.iterdir()):
            if path.is_symlink() or path.name.startswith("."):
                continue
            if (path / "newsie.json").is_file():
                try:
                    bundles.append(read_bundle(path))
                except BundleError as error:
                    damaged[path] = str(error)
        bundles.sort(key=lambda bundle: (bundle.manifest.created, bundle.path.name))
        return cls(directory, tuple(bundles), damaged)

    @property
    def current(self) -> Bundle | None:
        """The current bundle; None where there is no `current`.

        Raises:
            BundleError: `current` names something that is no bundle any more.
        """
        link = self.directory / CURRENT
        return read_bundle(link.resolve()) if os.path.lexists(link) else None

    def parent(self, bundle: Bundle) -> Bundle | None:
        """The bundle that another one was retrained from, if it is here or installed with Newsie."""
        wanted = bundle.manifest.lineage.parent
        known = list(self.bundles)
        if wanted and bundled_path().is_dir():
            known.append(read_bundle(bundled_path()))
        return next((b for b in known if b.fingerprint == wanted), None) if wanted else None

    def use(self, bundle: Bundle) -> None:
        """Make a bundle the current one, in one step."""
        link, aside = self.directory / CURRENT, self.directory / f".{CURRENT}.aside"
        if link.exists() and not link.is_symlink():
            raise BundleError(f"{link} is not a link; rename it: newsie makes a link of that name")
        aside.unlink(missing_ok=True)
        path = bundle.path.resolve()
        inside = path.parent == self.directory.resolve()
        aside.symlink_to(path.name if inside else path)
        aside.replace(link)

    def find(self, name: str) -> Bundle:
        """The bundle of a folder's name or fingerprint.

        Raises:
            InputError: there is none.
        """
        for bundle in self.bundles:
            if name in (bundle.path.name, bundle.fingerprint):
                return bundle
        names = ", ".join(bundle.path.name for bundle in self.bundles) or "none"
        raise InputError(f"there is no bundle {name!r} in {self.directory}; there are: {names}")

    def roll_back(self) -> tuple[Bundle, Bundle]:
        """Make the parent of the current bundle the current one; returns (what was, what is).

        Raises:
            InputError: there is no current bundle.
            BundleError: it has no parent, or its parent is not to be found.
        """
        was = self.current
        if was is None:
            raise InputError(
                f"{self.directory} has no current bundle; choose one: newsie models {self.directory} "
                "--use NAME"
            )
        wanted = was.manifest.lineage.parent
        if not wanted:
            raise BundleError(f"{was.path} was not retrained from another bundle; it has no parent")
        found = self.parent(was)
        if found is None:
            raise BundleError(
                f"the parent of {was.path}, with the fingerprint {wanted}, is not in {self.directory}; "
                f"copy it there, or choose another bundle: newsie models {self.directory} --use NAME"
            )
        self.use(found)
        return was, found


def follow(bundle: Bundle) -> bool | None:
    """Make a new bundle the current one of its folder, where the current one is its parent: it was compared
    with that one, and with no other.

    Returns:
        Whether it is the current one; None where the folder has none.
    """
    shelf = Shelf(bundle.path.absolute().parent, (), {})
    if not (shelf.directory / CURRENT).is_symlink():
        return None
    try:
        current = shelf.current
    except BundleError:  # what was the current one is gone
        return False
    if current is None or current.fingerprint != bundle.manifest.lineage.parent:
        return current is not None and current.path == bundle.path.resolve()
    shelf.use(bundle)
    return True
