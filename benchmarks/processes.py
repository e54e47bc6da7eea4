"""Whole processes, measured: wall time, CPU time and peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Run", "environment", "run"]

ROOT = Path(__file__).parent.parent

_DROPPED = (
    *("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH", "NEWSIE_MODEL"),
    "OPENBLAS_THREAD_TIMEOUT",  # the command sets it for itself; its peers do not
)
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Run:
    """What a process took.

    Attributes:
        seconds: from before its start to after its end.
        cpu_seconds: of all its threads, in its own code and in the system's.
        peak_bytes: the most memory that was resident.
        output: what it wrote to stdout.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def run(command: Sequence[str]) -> Run:
    """Run a command to its end and measure it.

    Raises:
        RuntimeError: it failed; the message ends in what it wrote to stderr.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).parent / "launcher.py")]
        done = subprocess.run(
            [*launcher, str(report), *command],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr}")
        return Run(**json.loads(report.read_text(encoding="utf-8")), output=done.stdout)


def environment() -> dict[str, str]:
    """The variables that every measured process runs with: ours, but for a few.

    Python may keep compiled modules, as it does on users' machines, and transformers does not
    look for the hub, which it would wait for. Variables that limit threads are left as they are.
    """
    return {name: value for name, value in os.environ.items() if name not in _DROPPED} | _OFFLINE
