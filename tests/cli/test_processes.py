"""`newsie classify --processes`: real processes, which share the files of a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from newsie.cli.bulk import Bulk, Job, into_folder
from newsie.cli.processes import many_in_processes
from newsie.inference.classifier import Classifier
from tests.cli.test_bulk import ROOT, write_articles


@pytest.fixture
def big(tmp_path: Path) -> Path:
    for number in range(6):
        write_articles(tmp_path / "big" / f"{number}.parquet", 300 + number)
    return tmp_path / "big"


def command(big: Path, out: Path, bundle: Path, *options: str) -> list[str]:
    files = f"{big}/*"
    return [
        *(sys.executable, "-m", "newsie", "classify", "--file", files, "-o", f"{out}/"),
        *("--model", str(bundle), "--json", *options),
    ]


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)


def answers(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}


@pytest.mark.slow
def test_several_processes_answer_as_one(big: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    (big / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    alone = run(big, tmp_path / "alone", tiny_bundle)
    shared = run(big, tmp_path / "shared", tiny_bundle, "--processes", "3")
    for done, folder in ((alone, "alone"), (shared, "shared")):
        assert done.returncode == 1
        assert f"6 of 7 files are answered in {tmp_path / folder}" in done.stderr
        assert done.stderr.count("broken.parquet") == 1
        assert "Traceback" not in done.stderr
    assert answers(tmp_path / "shared") == answers(tmp_path / "alone")
    assert len(answers(tmp_path / "alone")) == 6


@pytest.mark.slow
def test_the_others_answer_what_the_first_does_not(
    big: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    class Idle(Bulk):
        def many(self, jobs: Sequence[Job]) -> None:
            """Only wait for what the other process does."""
            end = time.monotonic() + 120
            while not all(job.target.exists() for job in jobs):
                assert time.monotonic() < end, "nobody answers"
                time.sleep(0.1)

    jobs = into_folder([str(path) for path in big.glob("*.parquet")], tmp_path / "out", json_=True)
    classifier = Classifier.from_pretrained(tiny_bundle, threads=1)
    many_in_processes(Idle(classifier, None, None, {}, strict=False), jobs, str(tiny_bundle), 2)
    assert len(answers(tmp_path / "out")) == 6


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_all_end_with_the_first_and_the_next_run_goes_on(
    big: Path, tmp_path: Path, tiny_bundle: Path, how: signal.Signals
) -> None:
    for number in range(6, 60):
        write_articles(big / f"{number}.parquet", 300)
    out = tmp_path / "out"
    options = ("--processes", "2")
    first = subprocess.Popen(
        command(big, out, tiny_bundle, *options), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while not answers(out):
        assert time.monotonic() < end, "nothing is answered"
        time.sleep(0.02)
    others = psutil.Process(first.pid).children(recursive=True)
    os.kill(first.pid, how)
    _, err = first.communicate(timeout=60)
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive
    assert others
    assert run(big, out, tiny_bundle, *options).returncode == 0
    assert answers(out) == answers_of(big, tmp_path / "alone", tiny_bundle)


def answers_of(big: Path, out: Path, bundle: Path) -> dict[str, bytes]:
    assert run(big, out, bundle).returncode == 0
    return answers(out)


@pytest.mark.parametrize(
    "options", [["-o", "out.jsonl"], [], ["-o", "out/", "--engine", "ray"]], ids=str
)
def test_processes_are_for_folders_on_this_machine(
    newsie: Any, big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = newsie("classify", "-f", big / "0.parquet", *options, "--processes", "2")
    assert code == 2
    assert "several processes answer files into a folder, on this machine" in err
    assert newsie("classify", "-f", big / "0.parquet", "--processes", "0").code == 2
