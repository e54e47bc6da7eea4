"""ONNX Runtime sends nothing, and writes nothing below the home folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

VARIABLE = "ORT_DISABLE_TELEMETRY"
PROGRAM = """
import os, sys, time
from newsie import Classifier
Classifier.from_pretrained(sys.argv[1], threads=1).classify(["goal"])
print(os.environ["ORT_DISABLE_TELEMETRY"])
time.sleep(2)
"""
COMMAND = "import sys\nfrom newsie.cli import main\nsys.argv[1:1] = ['classify', 'goal', '--model']\nmain()"
EXPORT = """
import sys, time
from newsie.training.export import import_onnxruntime
session = import_onnxruntime().InferenceSession(sys.argv[1] + "/model.onnx")
time.sleep(2)
"""


def environment(home: Path) -> dict[str, str]:
    """A user's environment with an empty home folder; CI and the variable itself turn telemetry off too."""
    home.mkdir()
    dropped = {VARIABLE, "CI", "GITHUB_ACTIONS", "TF_BUILD", "XDG_CACHE_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"HOME": str(home), "OMP_NUM_THREADS": "1"}


def run(program: str, bundle: Path, home: Path, *before: str) -> str:
    command = [*before, sys.executable, "-c", program, str(bundle)]
    done = subprocess.run(
        command, env=environment(home), capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@pytest.mark.parametrize("program", [PROGRAM, COMMAND, EXPORT], ids=["python", "command", "export"])
def test_nothing_is_written_below_the_home_folder(
    program: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    run(program, tiny_bundle, tmp_path / "home")
    assert not list((tmp_path / "home").rglob("*"))


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to see system calls")
def test_no_socket_is_opened(tiny_bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    tracer = ("strace", "-f", "-o", str(log), "-e", "trace=socket,connect,sendto")
    run(PROGRAM, tiny_bundle, tmp_path / "home", *tracer)
    assert "exited with 0" in log.read_text()
    assert "AF_INET" not in log.read_text()


def test_a_value_that_the_user_has_set_is_kept(tiny_bundle: Path, tmp_path: Path) -> None:
    program = "import os; os.environ['ORT_DISABLE_TELEMETRY'] = 'true'\n" + PROGRAM
    assert run(program, tiny_bundle, tmp_path / "home").split() == ["true"]
