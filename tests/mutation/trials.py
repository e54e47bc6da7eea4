"""Run tests against mutants, one at a time, in a copy of the tree."""

from __future__ import annotations

import compileall
import gc
import hashlib
import importlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import pytest

from tests.mutation.catalogue import Mutant

__all__ = ["Outcome", "Tree", "Trial", "copy_tree", "fingerprint", "preload", "try_mutant"]

PRELOADED = (
    "numpy",
    "hypothesis",
    "torch",
    "transformers.models.bert.modeling_bert",
    "transformers.models.distilbert.modeling_distilbert",
    "accelerate",
    "safetensors.torch",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "scipy.stats",
    "fastapi",
    "httpx",
    "rich.console",
    "typer",
)
"""Slow imports of the tests. They are imported once, before each trial is forked off."""

PASSED, FAILED = int(pytest.ExitCode.OK), int(pytest.ExitCode.TESTS_FAILED)
BROKEN, TIMED_OUT = 99, -1


Outcome = Literal["killed", "survived", "timed out", "tests fail anyway", "does not run"]


@dataclass(frozen=True)
class Trial:
    """The result of the tests of one mutant.

    Attributes:
        outcome: "killed" when a test failed that passes without the fault; "does not run" when pytest
            could not run the tests.
        seconds: how long its tests took.
        output: the end of what pytest printed.
    """

    outcome: Outcome
    seconds: float
    output: str = ""


@dataclass(frozen=True)
class Tree:
    """A copy of the repository, in which mutants are tried.

    Attributes:
        root: the copy.
        scratch: for logs and the tests' own files, outside of the copy.
        passing: tests that were seen to pass without a fault.
    """

    root: Path
    scratch: Path
    passing: set[Sequence[str]] = field(default_factory=set)

    def passes(self, tests: Sequence[str], timeout: float) -> bool:
        """Check that tests pass without a fault; they are run once."""
        if tests not in self.passing and self.run(tests, timeout)[0] == PASSED:
            self.passing.add(tests)
        return tests in self.passing

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """Put a mutant into the copy and take it out again."""
        path = self.root / mutant.file
        before, stat = path.read_text(encoding="utf-8"), path.stat()
        path.write_text(mutant.apply(before), encoding="utf-8")
        # Python compares times in whole seconds: the compiled file of the original must not be taken.
        os.utime(path, (stat.st_atime, stat.st_mtime + 100))
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")
            os.utime(path, (stat.st_atime, stat.st_mtime))

    def run(self, tests: Sequence[str], timeout: float) -> tuple[int, str]:
        """Run tests in a forked process: (pytest's exit status or TIMED_OUT, end of the output)."""
        log = self.scratch / "log"
        process = multiprocessing.get_context("fork").Process(
            target=_run_pytest, args=(self.root, self.scratch / "pytest", log, list(tests))
        )
        process.start()
        assert process.pid is not None
        process.join(timeout)
        status = process.exitcode
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also the servers that tests left running
        process.join()
        output = log.read_text(encoding="utf-8", errors="replace")[-4_000:]
        return (TIMED_OUT if status is None else status), output


def _run_pytest(root: Path, temporary: Path, log: Path, tests: list[str]) -> None:
    """The whole of a forked process."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "newsie")]:
        del sys.modules[name]
    sys.path[:] = [
        str(root),
        *(place for place in sys.path if Path(place or ".").resolve() != root),
    ]
    options = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are preloaded, too
    status = BROKEN
    try:
        status = int(pytest.main([*options, f"--basetemp={temporary}", *tests]))
    finally:
        sys.stdout.flush()
        os._exit(status)  # the memory is that of the parent, whose exit handlers must not run here


def copy_tree(source: Path, target: Path) -> Path:
    """Copy the files that git knows or would add, and compile them."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=source, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    compileall.compile_dir(target / "newsie", quiet=2)
    return target


def preload() -> None:
    """Import slow libraries and pytest's plugins, so that forked trials need not."""
    for name in PRELOADED:
        with suppress(ImportError):  # then the tests that need it say so
            importlib.import_module(name)
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    gc.collect()
    gc.freeze()  # pytest collects garbage at its end, and would go through all of this


def try_mutant(tree: Tree, mutant: Mutant, timeout: float) -> Trial:
    """Run a mutant's tests, with the fault and, where they fail, without it.

    The tests run until the first one fails. One that fails without the fault, too, shows nothing.
    """
    started = time.monotonic()
    with tree.mutated(mutant):
        status, output = tree.run(mutant.tests, timeout)
    seconds = round(time.monotonic() - started, 1)
    if status == PASSED:
        return Trial("survived", seconds)
    if status not in (FAILED, TIMED_OUT):
        return Trial("does not run", seconds, output)
    if not tree.passes(mutant.tests, timeout):
        return Trial("tests fail anyway", seconds, output)
    return Trial("killed" if status == FAILED else "timed out", seconds)


def fingerprint(root: Path, mutant: Mutant) -> str:
    """Digest of a mutant, of its source file and of the files of its tests."""
    digest = hashlib.sha256(repr(mutant).encode())
    for name in sorted({mutant.file, *(test.split("::")[0] for test in mutant.tests)}):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()[:16]
