"""A Dockerfile read, and its build run without an engine, in a folder that stands for the image.

Only what ours uses: FROM ... AS, WORKDIR, COPY of the context, RUN by the shell, and the rest as values.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Instruction", "Stage", "build", "read_dockerfile"]


@dataclass(frozen=True)
class Instruction:
    """RUN, COPY, ... and what follows."""

    name: str
    value: str


@dataclass(frozen=True)
class Stage:
    """What stands between one FROM and the next."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def values(self, name: str) -> list[str]:
        """What follows each instruction of a name."""
        return [i.value for i in self.instructions if i.name == name]

    def environment(self) -> dict[str, str]:
        """The variables that ENV sets, as they are written."""
        words = [word for value in self.values("ENV") for word in shlex.split(value)]
        return dict(word.split("=", 1) for word in words)

    def command(self) -> list[str]:
        """ENTRYPOINT and CMD."""
        words = [json.loads(self.values(name)[-1]) for name in ("ENTRYPOINT", "CMD")]
        return [*words[0], *words[1]]

    def health_check(self) -> list[str]:
        """The command of HEALTHCHECK."""
        return list(json.loads(self.values("HEALTHCHECK")[-1].partition("CMD ")[2]))


def read_dockerfile(path: Path) -> list[Stage]:
    """The stages of a Dockerfile."""
    stages: list[Stage] = []
    for instruction in _instructions(path.read_text(encoding="utf-8")):
        if instruction.name == "FROM":
            base, _, name = instruction.value.partition(" AS ")
            stages.append(Stage(base, name, ()))
        elif stages:
            last = stages.pop()
            stages.append(Stage(last.base, last.name, (*last.instructions, instruction)))
    return stages


def build(stage: Stage, context: Path, image: Path) -> None:
    """Run COPY and RUN of a stage; the folder `image` stands for its "/".

    The stage's absolute paths are replaced in its commands, so that they end up in the folder.
    """
    work = image
    for instruction in stage.instructions:
        if instruction.name == "WORKDIR":
            work = image / instruction.value.strip("/")
            work.mkdir(parents=True, exist_ok=True)
        elif instruction.name == "COPY":
            *sources, target = instruction.value.split()
            _copy([context / source for source in sources], work / target)
        elif instruction.name == "RUN":
            command = re.sub(r"(?<![\w.])/(?=opt/|wheels|src)", f"{image}/", instruction.value)
            _shell(command, work)


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, value = line.partition(" ")
            yield Instruction(name, value.strip())


def _copy(sources: list[Path], target: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for source in sources:
        if source.is_dir():  # its content, as COPY does
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def _shell(command: str, folder: Path) -> None:
    # "python" and "pip" of the image's base are those of the Python that runs the tests.
    base = Path(sys.base_prefix) / "bin"
    path = f"{base}{os.pathsep}{os.environ['PATH']}"
    environment: Mapping[str, str] = os.environ | {"PATH": path}
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
