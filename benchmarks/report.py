"""Results as JSON, with every single measurement, and as a table for people."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT
from newsie.cores import count_cores

__all__ = [
    "RESULTS",
    "Spread",
    "circumstances",
    "ratios",
    "table",
    "without_folders",
    "write_report",
    "write_rows",
]

RESULTS = Path(__file__).parent / "results"
BUSY_LOAD = 0.3
"""Load before measuring, for each core, above which the figures are not to be quoted."""

VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "NEWSIE_RUNTIME",
)


@dataclass(frozen=True)
class Spread:
    """The median of some measurements with the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def text(self, decimals: int, unit: float = 1) -> str:
        """In that unit, such as "4.18 (4.02–4.91)"."""
        values = (self.median, self.least, self.greatest)
        median, least, greatest = (f"{value / unit:,.{decimals}f}" for value in values)
        return f"{median} ({least}–{greatest})"


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Ratios of pairs that were measured one after the other, which share the machine's state."""
    return Spread.of([a / b for a, b in zip(numerators, denominators, strict=True)])


def circumstances(module: str, arguments: Sequence[str], *, timed: bool = True) -> dict[str, Any]:
    """How, when and on what was measured. Call it before measuring: it notes the load,
    and sees to it that the runtime is the one that is noted.

    Args:
        module: of this package.
        arguments: of its command.
        timed: whether the figures hold times, so that other work on the machine changes them.
    """
    # Students run in one runtime, whatever is installed, unless another is asked for.
    os.environ.setdefault("NEWSIE_RUNTIME", "onnxruntime")
    cores = count_cores()
    load = round(os.getloadavg()[0], 2)
    busy = timed and load > BUSY_LOAD * cores
    if busy:
        print(f"warning: load {load} on {cores} cores; figures will mislead", file=sys.stderr)
    return {
        "benchmark": module,
        "command": shlex.join(
            ["python", "-m", f"benchmarks.{module}", *map(without_folders, arguments)]
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "cores": cores,
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.platform(),
            "load_before": load,
            "busy": busy,
        },
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def without_folders(argument: str) -> str:
    """An argument whose absolute paths have lost their folders, which mean nothing elsewhere."""
    return re.sub(r"(^|=)/.*/", r"\1.../", argument)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def _processor() -> str:
    """Model of the CPU, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_report(directory: Path, content: Mapping[str, Any], text: str) -> None:
    """Write NAME.json and NAME.md, and print the latter.

    Args:
        directory: where they go.
        content: the circumstances with "sides", "summary" and "measurements".
        text: title, table and remarks.
    """
    name = str(content["benchmark"])
    directory.mkdir(parents=True, exist_ok=True)
    raw = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (directory / f"{name}.json").write_text(raw, encoding="utf-8")
    text = f"{text}\n{_footer(content)}"
    (directory / f"{name}.md").write_text(text, encoding="utf-8")
    print(text, end="")


def write_rows(
    directory: Path,
    found: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    text: str,
    *,
    packages: Sequence[str],
    summary: Mapping[str, Any] | None = None,
) -> None:
    """`write_report` for rows that were all measured in this process.

    Args:
        directory: where NAME.json and NAME.md go.
        found: the circumstances.
        rows: the measurements.
        text: title, table and remarks.
        packages: whose versions matter.
        summary: figures besides the rows.
    """
    sides = {"newsie": {"packages": {name: version(name) for name in packages}}}
    content = {**found, "sides": sides, "summary": summary or {}, "measurements": rows}
    write_report(directory, content, text)


def _footer(content: Mapping[str, Any]) -> str:
    machine = content["machine"]
    packages = [
        f"{side}: " + ", ".join(f"{name} {version}" for name, version in found["packages"].items())
        for side, found in content["sides"].items()
    ]
    threads = [f"{name}={value}" for name, value in content["environment"].items()]
    threads = threads or ["all cores for each side"]
    memory = machine["memory_bytes"] / 2**30
    busy = "**The machine was busy with something else: times are not to be quoted.**\n\n"
    return (
        f"{busy if machine['busy'] else ''}"
        f"`{content['command']}` · {content['date'][:10]} · commit {content['commit']}  \n"
        f"{machine['processor']}, {machine['cores']} cores, {memory:.0f} GiB, {machine['system']}, "
        f"load before {machine['load_before']}, {', '.join(threads)}  \n"
        f"{'; '.join(packages)}  \n"
        f"Every measurement: [{content['benchmark']}.json]({content['benchmark']}.json)\n"
    )
