"""`newsie compare` is killed, and goes on."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.laboratory.tiny_experiment import compare_alone, tiny_content

COMPARE = {"seeds": 2, "labelled": 64, "test": 60, "attacked": 8, "arms": ["gold", "soft"]}
MEASURED = ("cost", "minutes")
"""Of an arm: what a clock says, which is never the same twice."""


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    """Makes real processes, in each of which what takes long is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([compare_alone.__module__, "newsie.laboratory.comparison"])
    return context


def found(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "tiny" / "compare.json").read_text())
    del content["circumstances"]
    for arm in content["arms"]:
        for name in MEASURED:
            del arm[name]
    return content


@pytest.mark.slow
def test_killed_while_it_fits_it_ends_with_the_same_findings(
    forks: ForkServerContext, data: Path, tmp_path: Path
) -> None:
    content = tiny_content(data) | {"compare": COMPARE}
    for part in ("teacher", "student"):
        often = {"epochs": 10, "checkpoint_minutes": 1e-4}  # after nearly every step
        content[part] = content[part] | {"fit": content[part]["fit"] | often}
    recipe, unbroken, broken = (tmp_path / name for name in ("tiny.toml", "unbroken", "broken"))
    recipe.write_text(tomli_w.dumps(content))

    def start(output: Path) -> BaseProcess:
        process = forks.Process(target=compare_alone, args=(recipe, data, output))
        process.start()
        return process

    whole = start(unbroken)
    whole.join()
    assert whole.exitcode == 0
    for half_done in ("teacher-*/step-*", "student-*/step-*"):
        process = start(broken)
        while process.is_alive() and not list((broken / "trials").glob(half_done)):
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it could be killed"
        assert list((broken / "trials").glob(half_done))  # not between two models
        assert not (broken / "tiny").exists()
    last = start(broken)
    last.join()
    assert last.exitcode == 0
    assert found(broken) == found(unbroken)
