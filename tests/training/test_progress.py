from __future__ import annotations

import pytest

from newsie.training.progress import Progress


def test_lines_in_a_log_tell_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("newsie.training.progress.time.monotonic", lambda: now)
    with Progress("teacher 0", 10_000) as bar:
        bar.resume(4_000)
        now = 100.0
        bar.advance(1_000, loss=0.5)
        assert bar.rate == 10  # what a checkpoint brought does not count
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "teacher 0: 5,000 of 10,000 articles, 10/s, 8 min left loss 0.500"


def test_other_processes_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("teacher 0", 10, enabled=False) as bar:
        bar.advance(10)
        bar.note("done")
    assert capsys.readouterr().err == ""


def test_the_last_line_tells_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("duplicates", 1_200) as bar:
        bar.advance(1_200)
    assert capsys.readouterr().err == "duplicates: 1,200 articles done\n"
