from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.files import Row, tiny_rows, write_csv


@pytest.fixture
def rows() -> list[Row]:
    rows = tiny_rows(130)
    for row in rows[:40]:
        row["section"] = {"sports": "Sports"}.get(row["section"], row["section"])
    return [*rows, rows[50]]


@pytest.fixture
def file(tmp_path: Path, rows: list[Row]) -> Path:
    return write_csv(tmp_path / "news.csv", rows)


def test_what_matters_comes_first(newsie: Any, file: Path) -> None:
    code, out, err = newsie("doctor", file)
    assert (code, err) == (3, "")
    lines = out.splitlines()
    assert lines[0].endswith("news.csv: 131 articles in 131 rows")
    assert "section: 4 labels" in lines[2]
    order = [out.index(title) for title in ("Put right first", "Worth a look", "Good to know")]
    assert order == sorted(order)
    first = out[order[0] : order[1]]
    assert "1 label is another one in other spelling" in first
    assert "'Sports'" in first
    assert "1 article is there before, word for word" in out[order[1] : order[2]]
    assert "row 51" in out
    assert lines[-1].startswith(f"Next: newsie doctor {file} --fix clean.csv")


def test_a_good_file(newsie: Any, tmp_path: Path) -> None:
    code, out, _ = newsie("doctor", write_csv(tmp_path / "a.csv", tiny_rows(70)))
    assert code == 0
    assert "Nothing stands in the way of training." in out
    assert "--fix" not in out


def test_json(newsie: Any, file: Path) -> None:
    code, out, _ = newsie("doctor", file, "--json")
    content = json.loads(out)
    assert code == 3
    assert content["findings"][0]["code"] == "label-spelling"
    assert "fixed" not in content


def test_fix_and_look_again(newsie: Any, file: Path, tmp_path: Path) -> None:
    code, out, _ = newsie("doctor", file, "--fix", tmp_path / "clean.csv")
    assert code == 3
    assert f"130 rows written to {tmp_path / 'clean.csv'}; 1 row left out" in out
    code, out, _ = newsie("doctor", tmp_path / "clean.csv", "--json", "--fix", tmp_path / "b.csv")
    content = json.loads(out)
    assert code == 0
    fixed = content["fixed"]
    assert (fixed["rows"], fixed["left_out"], fixed["relabelled"]) == (130, 0, 0)


def test_fix_refuses_before_the_work(newsie: Any, file: Path) -> None:
    code, out, err = newsie("doctor", file, "--fix", file)
    assert (code, out) == (1, "")
    assert "the file that is examined, which stays" in err


@pytest.mark.parametrize(
    ("option", "output", "why"),
    [
        ("--suspects", "a.csv", "is a file that is needed"),
        ("--suspects", "a.txt", "a.txt"),
        ("--suspects", "nowhere/a.csv", "there is no folder"),
        ("--fix", "nowhere/a.csv", "there is no folder"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(
    newsie: Any, tmp_path: Path, option: str, output: str, why: str
) -> None:
    path = write_csv(tmp_path / "a.csv", tiny_rows(120))
    before = path.read_bytes()
    code, out, err = newsie("doctor", path, option, tmp_path / output)
    assert (code, out) == (1, "")
    assert why in err
    assert path.read_bytes() == before


def test_suspects_as_a_table(newsie: Any, tmp_path: Path) -> None:
    rows = tiny_rows(200)
    for row in rows[:20]:
        row["section"] = "sports" if row["section"] == "science" else "science"
    path = write_csv(tmp_path / "a.csv", rows)
    _, out, err = newsie("doctor", path, "--suspects", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(encoding="utf-8-sig", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert f"{len(found)} labels that are likely wrong written to" in err
    assert list(found[0]) == ["task", "row", "given", "likely", "wrong", "headline"]
    assert found[0]["headline"] == rows[int(found[0]["row"]) - 1]["headline"]
    assert "likely wrong" in out


def test_test_file_columns_and_task(newsie: Any, tmp_path: Path) -> None:
    rows = [
        {"Titel": row["headline"], "Text": row["body"], "Ressort A": row["section"]}
        for row in tiny_rows(70)
    ]
    path, test = write_csv(tmp_path / "a.csv", rows), write_csv(tmp_path / "t.csv", rows[:5])
    columns = ("--columns", "headline=Titel", "--columns", "body=Text")
    code, out, _ = newsie("doctor", path, "--test", test, "--task", "section=Ressort A", *columns)
    assert code == 3
    assert "headline is column 'Titel'" in out
    assert "section (column 'Ressort A'): 3 labels" in out
    assert "5 test articles (100.0%) can be learnt by heart" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "there is no such file"),
        (["empty.csv"], "the file is empty"),
        (["bare.csv"], "no column of labels is found; its columns: headline, tone"),
        (["bare.csv", "--task", "section"], "there is no column 'section' for the task 'section'"),
        (["bare.csv", "--columns", "headline=Titel"], "no column 'Titel' for the headline"),
        (["-"], "save it and name it"),
    ],
)
def test_what_cannot_be_examined(
    newsie: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    Path("bare.csv").write_text("headline,tone\na story,calm\n")
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = newsie("doctor", *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_control_characters_do_not_reach_the_terminal(newsie: Any, tmp_path: Path) -> None:
    rows = [{"headline": "goal \x1b[31m", "label": f"a\x1b]0;b\x07{i % 2}"} for i in range(6)]
    _, out, _ = newsie("doctor", write_csv(tmp_path / "a.csv", rows))
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_file_system_that_cannot_be_written(newsie: Any, tmp_path: Path) -> None:
    """The detector of languages unpacks its model into a temporary folder; all else needs none."""
    rows = [{"headline": f"goal {i} cup", "label": f"l{i % 2}"} for i in range(12)]
    path = write_csv(tmp_path / "a.csv", rows)
    code = (
        "import tempfile, sys; tempfile._candidate_tempdir_list = list; "
        "from newsie.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", str(path)],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    assert "12 articles" in done.stdout
    assert "texts in other languages were not looked for" in done.stdout


def test_a_file_that_is_safe_for_a_spreadsheet_stays_so(newsie: Any, tmp_path: Path) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "clean.csv"
    rows = [f"'=goal cup {i},l{i % 2}" for i in range(12)]
    content = "\ufeffheadline,label\n" + "".join(f"{row}\n" for row in rows)
    path.write_text(content + rows[0] + "\n", "utf-8")
    assert newsie("doctor", path, "--fix", out).code in (0, 3)
    assert out.read_text("utf-8") == content  # without the copy
    path.write_text(content.lstrip("\ufeff") + rows[0] + "\n", "utf-8")
    assert newsie("doctor", path, "--fix", out).code in (0, 3)
    assert out.read_text("utf-8") == content.lstrip("\ufeff")
