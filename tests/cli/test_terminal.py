from __future__ import annotations

import time

import pytest

from newsie.cli import terminal
from newsie.cli.terminal import counted


def test_a_log_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "LINE_SECONDS", 0.0)
    done = [0.5]  # what an earlier run has done does not count as this one's speed
    for _ in counted([1, 2, 3], "articles", lambda: done[-1]):
        time.sleep(0.01)
        done.append(done[-1] + 0.1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("1 articles, ")
    assert "/s, 60 %, " in lines[0]
    assert lines[-1].endswith("/s, 80 %, 0 s left")


def test_nothing_is_said_of_what_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted([1, 2], "articles")) == [1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (9_000, "2.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert terminal._duration(seconds) == text
