"""The shelf: a folder of bundles, one of which is the current one.

`current` is a symbolic link beside the bundles. A server or a command names it like any bundle. A student
that was promoted over the current one takes its place; rolling back makes its parent the current one again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from newsie.bundles.bundle import Bundle, bundled_path, copy_bundle, read_bundle, restore_bundle
from newsie.errors import BundleError, InputError

__all__ = ["CURRENT", "DEFAULT_FOLDER", "ROLLED_BACK", "Shelf", "follow", "use_command"]

DEFAULT_FOLDER = Path("models")
"""The default folder of `newsie models` and `newsie rollback`."""

CURRENT = "current"
ROLLED_BACK = ".rolled-back"
"""An empty file beside the bundles that marks a roll-back until a bundle is chosen."""


@dataclass(frozen=True)
class Shelf:
    """The bundles of a folder.

    Attributes:
        directory: the folder.
        bundles: its verified bundles, oldest first.
        damaged: folder of a bundle that cannot be used -> the reason.
    """

    directory: Path
    bundles: tuple[Bundle, ...]
    damaged: dict[Path, str]

    @classmethod
    def of(cls, directory: str | Path) -> Shelf:
        """Read a folder.

        Raises:
            InputError: the path is not a folder.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(f"{directory} is not a folder; name one that holds bundles")
        for left in directory.glob(".*.old"):
            restore_bundle(directory / left.name[1:].removesuffix(".old"))
        bundles, damaged = [], {}
        for path in sorted(directory.iterdir()):
            if path.is_symlink() or path.name.startswith("."):
                continue
            if os.path.lexists(path / "newsie.json"):
                try:
                    bundles.append(read_bundle(path))
                except BundleError as error:
                    damaged[path] = str(error)
        bundles.sort(key=lambda bundle: (bundle.manifest.created, bundle.path.name))
        return cls(directory, tuple(bundles), damaged)

    @property
    def current(self) -> Bundle | None:
        """The current bundle; None if there is no `current`.

        Raises:
            BundleError: `current` points to something that is no longer a bundle.
        """
        link = self.directory / CURRENT
        # Unlike Path.resolve, realpath accepts a link to itself.
        return read_bundle(os.path.realpath(link)) if os.path.lexists(link) else None

    def parent(self, bundle: Bundle) -> Bundle | None:
        """Return the bundle that another one was retrained from, if it is here or installed with Newsie."""
        wanted = bundle.manifest.lineage.parent
        known = list(self.bundles)
        if wanted and bundled_path().is_dir():
            known.append(read_bundle(bundled_path()))
        return next((b for b in known if b.fingerprint == wanted), None) if wanted else None

    def use(self, bundle: Bundle) -> None:
        """Make a bundle the current one atomically."""
        link, aside = self.directory / CURRENT, self.directory / f".{CURRENT}.aside"
        if link.exists() and not link.is_symlink():
            raise BundleError(f"{link} is not a link; rename it: newsie makes a link of that name")
        aside.unlink(missing_ok=True)
        path = bundle.path.resolve()
        inside = path.parent == self.directory.resolve()
        aside.symlink_to(path.name if inside else path)
        aside.replace(link)
        (self.directory / ROLLED_BACK).unlink(missing_ok=True)

    def find(self, name: str) -> Bundle:
        """Return the bundle with the given folder name or fingerprint.

        Raises:
            InputError: there is none.
        """
        for bundle in self.bundles:
            if name in (bundle.path.name, bundle.fingerprint):
                return bundle
        names = ", ".join(bundle.path.name for bundle in self.bundles) or "none"
        raise InputError(f"there is no bundle {name!r} in {self.directory}; there are: {names}")

    def roll_back(self) -> tuple[Bundle, Bundle]:
        """Make the parent of the current bundle the current one; return (old, new).

        A parent that is installed with Newsie is copied into the folder, because an upgrade may replace it.
        From now on, no new bundle becomes the current one automatically until one is chosen with `use`.

        Raises:
            InputError: there is no current bundle.
            BundleError: it has no parent, or its parent is not found.
        """
        was = self.current
        if was is None:
            raise InputError(
                f"{self.directory} has no current bundle; choose one: {use_command(self.directory, 'NAME')}"
            )
        wanted = was.manifest.lineage.parent
        if not wanted:
            raise BundleError(f"{was.path} was not retrained from another bundle; it has no parent")
        found = self.parent(was)
        if found is None:
            raise BundleError(
                f"the parent of {was.path}, with the fingerprint {wanted}, is not in {self.directory}; "
                f"copy it there, or choose another bundle: {use_command(self.directory, 'NAME')}"
            )
        if found.path.resolve().parent != self.directory.resolve():
            found = self._copy(found)
        self.use(found)
        (self.directory / ROLLED_BACK).touch()
        return was, found

    def _copy(self, bundle: Bundle) -> Bundle:
        name = bundle.path.name
        if os.path.lexists(self.directory / name):
            name = f"{name}-{bundle.fingerprint}"
        return copy_bundle(bundle.path, self.directory / name)


def use_command(directory: Path, name: str) -> str:
    """Return the command that makes a bundle the current one of a folder."""
    folder = "" if directory == DEFAULT_FOLDER else f" {directory}"
    return f"newsie models{folder} --use {name}"


def follow(bundle: Bundle) -> bool | None:
    """Make a new bundle the current one of its folder if the current one is its parent.

    It was compared with its parent, and with no other bundle.

    Returns:
        True if it is the current one; None if the folder has none. After a roll-back it is not.
    """
    shelf = Shelf(bundle.path.absolute().parent, (), {})
    if not (shelf.directory / CURRENT).is_symlink():
        return None
    try:
        current = shelf.current
    except BundleError:  # the former current one is gone
        return False
    rolled_back = (shelf.directory / ROLLED_BACK).exists()
    if rolled_back or current is None or current.fingerprint != bundle.manifest.lineage.parent:
        return current is not None and current.path == bundle.path.resolve()
    shelf.use(bundle)
    return True
