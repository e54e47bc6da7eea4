from __future__ import annotations

import json
from pathlib import Path

import pytest

from newsie.errors import InputError
from newsie.training.metrics_report import read_figures, write_figures
from tests.training.tiny_metrics import tiny_figures


def test_differences_are_paired_and_signed() -> None:
    found = {(d.corpus, d.system, d.other): d for d in tiny_figures().differences}
    behind = found["wire", "student", "teacher"]
    assert behind.accuracy == pytest.approx(-2 / 400)
    assert behind.agreement == pytest.approx(398 / 400)
    # Two of 400 articles differ, which may be chance.
    assert behind.accuracy_interval.low < behind.accuracy < 0 < behind.accuracy_interval.high
    assert found["wire", "student int8", "TF-IDF"].macro_f1_interval.low > 0
    tie = found["essays", "student", "teacher"]
    assert (tie.macro_f1, tie.agreement) == (0, 1)
    assert tie.macro_f1_interval.low == -tie.macro_f1_interval.high != 0


def test_claims_hold() -> None:
    claims = tiny_figures().claims()
    assert len(claims) == 7
    # Whole articles, where all are equally bad, count for no claim.
    assert all(claim.holds and not claim.exceptions for claim in claims)


def test_claims_that_fail_name_where() -> None:
    broken = {claim.text: claim for claim in tiny_figures(student=40, tfidf=30).claims()}
    assert not broken["student above TF-IDF in macro-F1"].holds
    within = broken["student at most 1.5 points of macro-F1 below teacher"]
    assert not within.holds
    assert within.exceptions == ("section (headline + body): -5.00",)
    assert broken["teacher above TF-IDF in macro-F1"].holds
    assert broken["student int8 at most 1.5 points of macro-F1 below teacher"].holds


def test_a_tie_with_the_baseline_is_not_above_it() -> None:
    claims = {claim.text: claim.holds for claim in tiny_figures(student=30, tfidf=30).claims()}
    assert not claims["student above TF-IDF in macro-F1"]


def test_files_hold_everything(tmp_path: Path) -> None:
    figures = tiny_figures()
    raw, table = write_figures(figures, tmp_path / "experiments")
    assert (raw.name, table.name) == ("tiny.json", "tiny.md")
    assert read_figures(raw) == figures
    content = json.loads(raw.read_text(encoding="utf-8"))
    assert content["claims"][0] == {
        "text": "teacher above TF-IDF in macro-F1",
        "holds": True,
        "exceptions": [],
    }


def test_tables_are_readable() -> None:
    text = tiny_figures(student=40).to_markdown()
    for expected in (
        "# Figures of `tiny`",
        "`newsie train tiny.toml --data DIR`, 2026-01-31, on 2 cores of A Processor. Code: abc1234.",
        "| corpus | task | view | articles | teacher | student | student int8 | TF-IDF |",
        "| wire | section | headline + body | 400 | 95.0 [",
        "| wire | section | headline + body | student − teacher | -5.0 [",
        "student at most 1.5 points of macro-F1 below teacher: **no**: not section (headline + body): -5.00",
        "## Whole articles (essays)",
        "| section | 300 | 0.012 | 0.020 | 10.0% | sports | 31.0% → 33.0% |",
        "| teacher | 22.0 M |  | 120 min |",
        "| student int8 |  | 18.0 MB |  |",
        "- Essays are labelled by us.",
    ):
        assert expected in text
    # All cells of a table are there: each of its lines has as many as its header.
    for table in (block for block in text.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_calibration_is_in_points_and_nats() -> None:
    # 95 % right and always 0.9 sure: off by 5 points on average, less what cancels within a bin.
    row = next(
        line
        for line in tiny_figures().to_markdown().split("## Calibration")[1].splitlines()
        if line.startswith("| wire")
    )
    # 380 right at -ln 0.9, 20 wrong at -ln 0.05.
    assert f"/ {(380 * 0.1053605 + 20 * 2.9957323) / 400:.3f}" in row


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"claims": [], "scores": []}')
    with pytest.raises(InputError, match=r"other\.json holds no figures"):
        read_figures(path)
    with pytest.raises(InputError, match=r"missing\.json holds no figures"):
        read_figures(tmp_path / "missing.json")
