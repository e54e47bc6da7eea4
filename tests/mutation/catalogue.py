"""The mutants: small faults, kept as data in mutants/*.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["MUTANTS", "ROOT", "Mutant", "StaleMutantError", "read_mutants", "select"]

ROOT = Path(__file__).parents[2]
MUTANTS = Path(__file__).parent / "mutants"


class StaleMutantError(ValueError):
    """A mutant that no longer fits the source or the tests."""


@dataclass(frozen=True)
class Mutant:
    """One small fault and the tests that must notice it.

    Attributes:
        name: unique; `GROUP.WORDS`, where GROUP is the name of its TOML file.
        file: the source file, relative to the root of the repository.
        old: text that occurs exactly once in that file.
        new: the text that replaces it.
        why: the damage that the fault would do.
        tests: pytest node ids, the cheapest first.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]

    def apply(self, source: str) -> str:
        """Return the source with the fault in it.

        Raises:
            StaleMutantError: the old text does not occur exactly once, or nothing would change.
        """
        count = source.count(self.old)
        if count != 1:
            raise StaleMutantError(
                f"{self.name}: its old text occurs {count} times in {self.file}, and must occur "
                f"exactly once; adjust the entry to the source: {self.old!r}"
            )
        if self.old == self.new:
            raise StaleMutantError(f"{self.name}: its old and its new text are the same")
        return source.replace(self.old, self.new)

    def check(self, root: Path) -> None:
        """Check that the mutant applies below `root` and that its tests exist there.

        Raises:
            StaleMutantError: it does not, or one of them does not.
        """
        source = root / self.file
        if not source.is_file():
            raise StaleMutantError(f"{self.name}: there is no file {self.file}")
        self.apply(source.read_text(encoding="utf-8"))
        if not self.tests:
            raise StaleMutantError(f"{self.name}: it names no test")
        for test in self.tests:
            path, *parts = test.split("::")
            text = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
            for part in parts or [""]:
                if not text or not re.search(
                    rf"^\s*(def|class) {part.split('[')[0]}\b", text, re.M
                ):
                    raise StaleMutantError(f"{self.name}: there is no test {test}")


def read_mutants(directory: Path = MUTANTS) -> list[Mutant]:
    """Read all mutants of a directory of TOML files.

    A file holds tables named by mutant, each with the keys `file` (or the file's own `file`), `old`,
    `new`, `why` and `tests` (or the file's own `tests`).

    Raises:
        StaleMutantError: a key is missing or unknown.
    """
    return [mutant for path in sorted(directory.glob("*.toml")) for mutant in _read_group(path)]


def _read_group(path: Path) -> Iterable[Mutant]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for section in content["source"]:
        shared = {"file": section["file"], "tests": section.get("tests", [])}
        for name, entry in section["mutants"].items():
            fields = shared | entry
            if fields.keys() != {"file", "tests", "old", "new", "why"}:
                raise StaleMutantError(
                    f"{path.name}: {name} has the keys {', '.join(sorted(fields))}; it needs old, "
                    "new and why, and may have file and tests"
                )
            tests = tuple(fields.pop("tests"))
            yield Mutant(name=f"{path.stem}.{name}", tests=tests, **fields)


def select(mutants: Iterable[Mutant], pattern: str) -> list[Mutant]:
    """The mutants whose name or file matches a shell pattern."""
    return [m for m in mutants if fnmatch(m.name, pattern) or fnmatch(m.file, pattern)]
