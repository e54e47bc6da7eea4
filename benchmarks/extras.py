"""What each extra of Newsie takes: megabytes on the disk, and with --install seconds to install.

    python -m benchmarks.extras
    python -m benchmarks.extras --install serve analysis

The sizes are those of the packages in this environment, which must hold all extras (`.[dev]` and openvino).
With --install, each extra is also installed from this checkout into a fresh environment, with the versions of
constraints.txt; what pip has in its cache is not downloaded again. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def collect(requirements: Iterable[str], found: dict[str, Distribution], extras: set[str]) -> None:
    """Add the distributions that requirements bring, and all that those require."""
    for text in requirements:
        requirement = Requirement(text)
        name, marker = canonicalize_name(requirement.name), requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if name == PROJECT["name"]:
            for extra in requirement.extras:
                collect(EXTRAS[extra], found, {""})
        elif name not in found or requirement.extras:
            known = name in found
            found[name] = distribution(name)
            asked = set(requirement.extras)
            if not known or asked - extras:
                collect(found[name].requires or (), found, {"", *asked})


def megabytes(extra: str) -> float:
    """The core with an extra, and the files of Newsie itself."""
    found: dict[str, Distribution] = {}
    collect(PROJECT["dependencies"] + EXTRAS.get(extra, []), found, {""})
    files = [Path(str(f.locate())) for d in found.values() for f in d.files or ()]
    files += (ROOT / "newsie").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def seconds(extra: str) -> float:
    """Install an extra into a fresh environment."""
    what = f"{ROOT}[{extra}]" if extra else str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        started = time.perf_counter()
        constraints = ROOT / "constraints.txt"
        command = [f"{folder}/bin/pip", "install", "-q", "-c", str(constraints), what]
        subprocess.run(command, check=True)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("extras", nargs="*", help="names; none means all but dev and bench")
    parser.add_argument("--install", action="store_true", help="also measure the time")
    options = parser.parse_args()
    names = options.extras or ["", *(name for name in EXTRAS if name not in ("dev", "bench"))]
    print("| extra | MB, with the core |" + (" seconds |" if options.install else ""))
    print("|---|---|" + ("---|" if options.install else ""))
    for name in names:
        time_ = f" {seconds(name):.0f} |" if options.install else ""
        print(f"| {name or '(none)'} | {megabytes(name):,.0f} |{time_}", flush=True)


if __name__ == "__main__":
    main()
