"""Several workers where little can be written, and what they know of each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from newsie.serving.sharing import Shared, forget_worker
from tests.serving.live import ROOT

READ_ONLY = "mount -o remount,bind,ro / && "
NO_MEMORY = "mount --bind -o ro / /dev/shm; mount -o remount,bind,ro /dev/shm && "


def can_unshare() -> bool:
    """Whether this process may mount file systems in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "sh", "-c", READ_ONLY + "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def serve(mounts: str) -> list[str]:
    command = f"exec {sys.executable} -m newsie serve --workers 2 --port 0"
    return ["unshare", "--mount", "sh", "-c", mounts + command]


read_only = pytest.mark.skipif(not can_unshare(), reason="needs the right to mount")


@pytest.mark.slow
@read_only
def test_workers_need_no_temporary_directory(tmp_path: Path) -> None:
    """As in a container with a read-only root and no /tmp."""
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(serve(READ_ONLY), cwd=ROOT, stderr=log)
    try:
        end = time.monotonic() + 120
        text = ""
        while text.count('"event":"model loaded"') < 2:
            assert started.poll() is None, text
            assert time.monotonic() < end, text
            time.sleep(0.1)
            text = (tmp_path / "log").read_text()
        url = text.split("newsie: ", 1)[1].split()[0]
        answer = httpx.post(url + "/", json={"inputs": "Late goal wins the cup"}, trust_env=False)
        assert answer.status_code == 200
    finally:
        started.terminate()
        assert started.wait(30) == 0


@read_only
def test_without_any_writable_directory_one_line_says_what_to_do() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    done = subprocess.run(
        serve(READ_ONLY + NO_MEMORY),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("newsie: http")]
    assert len(lines) == 1
    assert "set TMPDIR to a directory that can, or use --workers 1" in lines[0]


def test_workers_know_who_has_swapped(tmp_path: Path) -> None:
    """This process stands for one worker, and files for another."""
    here, there = Shared(tmp_path), tmp_path / "state-1"
    assert here.read_choice() is None
    choice = here.choose("/models/a\nb")
    assert here.read_choice() == choice
    assert choice.source == "/models/a\nb"
    assert here.count("new", choice) == (0, 0)
    here.note_model("new")
    there.write_text("old")
    assert here.count("new", choice) == (1, 0)
    there.write_text(f"failed {choice.number}")
    assert here.count("new", choice) == (1, 1)
    again = here.choose("/models/a\nb")
    assert here.count("new", again) == (1, 0)  # the failure was that of another choice
    forget_worker(tmp_path, os.getpid())
    assert here.count("new", again) == (0, 0)


def test_only_one_worker_chooses_at_a_time(tmp_path: Path) -> None:
    first, second = Shared(tmp_path), Shared(tmp_path)
    with first.choosing() as alone:
        assert alone
        with second.choosing() as also:
            assert not also
    with second.choosing() as alone:
        assert alone
