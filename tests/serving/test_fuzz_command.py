from __future__ import annotations

import random
from pathlib import Path

import pytest

from serving.load.fuzz import fuzz, problems_of, text_of
from serving.load.grammar import KINDS, draw_request


def test_requests_are_drawn_from_a_seed() -> None:
    first, again = random.Random(5), random.Random(5)
    drawn = [draw_request(first) for _ in range(300)]
    assert drawn == [draw_request(again) for _ in range(300)]
    assert {kind for kind, _ in drawn} == set(KINDS)


@pytest.mark.slow
def test_no_body_holds_up_the_server(tiny_bundle: Path) -> None:
    """Times are not looked at here: other tests run beside this one."""
    result = fuzz(400, seed=3, connections=3, model=tiny_bundle)
    assert result["unanswered"] == []
    assert sum(result["codes"].values()) == 400
    assert set(result["codes"]) <= {"200", "400", "404", "413", "415", "422", "429", "504"}
    assert result["loop"]["callbacks"] > 400
    assert result["loop"]["longest_cpu"] < 0.05
    assert result["live"]["asked"] > 5
    assert "400 bodies" in text_of(result)


def test_problems() -> None:
    good = {
        "requests": 3,
        "codes": {"200": 2, "400": 1},
        "server_is_running": True,
        "loop": {"longest": 0.01},
        "live": {"p99": 0.02},
    }
    assert problems_of(good) == []
    for change, problem in (
        ({"codes": {"200": 2}}, "1 requests without an answer"),
        ({"codes": {"200": 2, "500": 1}}, "the code 500"),
        ({"server_is_running": False}, "has ended"),
        ({"loop": {"longest": 0.06}}, "held the loop for 60.0 ms"),
        ({"live": {"p99": 0.2}}, "liveness took 200.0 ms"),
    ):
        [found] = problems_of(good | change)
        assert problem in found
