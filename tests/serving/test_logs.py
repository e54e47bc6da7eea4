from __future__ import annotations

import io
import json
import os
import sys

import pytest

from newsie.printable import CONTROL
from newsie.serving.logs import plain_line, write_line

REQUEST = {"request_id": "r1", "method": "POST", "route": "/v1/classify", "code": 200}
REQUEST |= {"seconds": 0.0123, "articles": 3}


def test_programs_get_json(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stderr", stream)
    write_line(REQUEST)
    line = json.loads(stream.buffer.getvalue())
    assert {name: line[name] for name in REQUEST} == REQUEST
    assert line["time"].endswith("+00:00")


HOSTILE = "a\x00\x07\x1b]0;b\x7f\x85\x9b31m\u061c\u200f\u2028\u2029\u202e\u2066\ufdd1\n\tz"


def test_no_control_character_is_in_a_line_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stderr", stream)
    write_line({"event": HOSTILE, HOSTILE: 1})
    write_line({"event": f"{HOSTILE}\ud800"})
    raw = stream.buffer.getvalue().decode()
    assert CONTROL.search(raw) is None
    first, second = map(json.loads, raw.splitlines())
    assert (first["event"], first[HOSTILE]) == (HOSTILE, 1)
    assert second["event"] == f"{HOSTILE}?"


def test_a_terminal_gets_no_control_character() -> None:
    assert plain_line({"event": HOSTILE, "why": f"{HOSTILE}\udc80"}).isprintable()


def test_a_terminal_gets_words(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream, os.fdopen(leader, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", stream)
        write_line(REQUEST)
        line = screen.read(1000).decode()
    assert line.split("  ", 1)[1] == "200  POST /v1/classify  12.3 ms  articles 3\r\n"


def test_events_for_people() -> None:
    event = {"level": "error", "event": "model not loaded", "why": "no\x1b[31m such\nfile"}
    assert plain_line(event) == "error  model not loaded  why no\ufffd[31m such\ufffdfile"
    assert plain_line({"level": "info", "event": "started"}) == "started"


def test_times_for_people() -> None:
    line = plain_line(REQUEST | {"queue_seconds": 0.001, "inference_seconds": 0.01})
    assert line.endswith("  12.3 ms  articles 3  queue 1.0 ms  inference 10.0 ms")
