from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from newsie.doctor.examination import Examination, examine
from newsie.doctor.fixing import Fixed, fix
from newsie.errors import InputError
from tests.doctor.files import Row, tiny_rows, write_csv, write_lines


def messy_rows() -> list[Row]:
    """Ten good rows and five that are not: see the numbers in the tests."""
    rows = tiny_rows(10)
    for row, label in zip(rows, ["sports"] * 6 + ["science"] * 4, strict=True):
        row["section"] = label
    rows[2]["section"] = "SPORTS"
    rows.append(rows[0] | {"id": "again"})  # 11: the same, same label
    rows.append(rows[1] | {"id": "other", "section": "science"})  # 12: the same, another label
    rows[9]["section"] = ""
    rows.append(rows[9] | {"id": "labelled", "section": "science"})  # 13: has the label of row 10
    rows.append(rows[3] | {"id": "empty", "headline": "", "body": ""})  # 14: no text
    return rows


def put_right(path: Path, output: Path) -> tuple[Fixed, list[dict[str, Any]]]:
    done = fix(examine(path, tasks=["section"]), output)
    return done, [json.loads(line) for line in done.log.read_text("utf-8").splitlines()]


def check_log(done: Fixed, log: list[dict[str, Any]]) -> None:
    assert (done.rows, done.left_out, done.relabelled) == (10, 4, 3)
    assert {entry["row"]: entry["action"] for entry in log} == {
        2: "label taken away",
        3: "label changed",
        10: "label changed",
        11: "left out",
        12: "left out",
        13: "left out",
        14: "left out",
    }
    by_row = {entry["row"]: entry for entry in log}
    assert (by_row[3]["before"], by_row[3]["after"]) == ("SPORTS", "sports")
    assert "row 2: 'sports', row 12: 'science'" in by_row[2]["reason"]
    assert by_row[11]["content"]["id"] == "again"
    assert by_row[14]["reason"] == "no text, or a field that is too long"


WANTED = ["sports", "", "sports", "sports", "sports", "sports", *["science"] * 4]


def test_csv(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", messy_rows())
    with path.open("a") as stream:
        stream.write("far,too,many,cells,in,it\n")
    before = path.read_bytes()
    done, log = put_right(path, tmp_path / "clean.csv")
    assert log[-1] == {
        "row": 15,
        "action": "left out",
        "reason": "too many fields (line 16: 6 instead of 5)",
        "content": None,
    }
    done.left_out -= 1
    check_log(done, log[:-1])
    assert path.read_bytes() == before
    with (tmp_path / "clean.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["section"] for row in rows] == WANTED
    kept = [row | {"section": label} for row, label in zip(messy_rows(), WANTED, strict=False)]
    assert rows == kept


def test_semicolons_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = 'headline;section\n"one; two";sports\n"a ""quoted"" word";Sports\nthird story;sports\n'
    path.write_text(text, encoding="utf-8")
    put_right(path, tmp_path / "clean.csv")
    assert (tmp_path / "clean.csv").read_text() == text.replace("Sports", "sports")


def test_json_lines_keep_what_does_not_change(tmp_path: Path) -> None:
    rows = [row | {"tags": ["a", 1], "n": 1.0} for row in messy_rows()]
    path = write_lines(tmp_path / "a.jsonl", rows)
    lines = path.read_text().splitlines()
    done, log = put_right(path, tmp_path / "clean.jsonl")
    check_log(done, log)
    written = (tmp_path / "clean.jsonl").read_text().splitlines()
    assert [written[i] for i in (0, 3, 4)] == [lines[i] for i in (0, 3, 4)]
    assert [json.loads(line)["section"] for line in written] == WANTED
    assert json.loads(written[2])["tags"] == ["a", 1]


def test_json_lines_that_are_broken_are_logged_as_they_are(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl.gz", tiny_rows(3))
    path.write_bytes(gzip.compress(path.read_bytes() + b'{"headline": "half\n'))
    done, log = put_right(path, tmp_path / "clean.jsonl.gz")
    assert (done.rows, log[0]["row"], log[0]["content"]) == (3, 4, '{"headline": "half')
    assert "broken JSON" in log[0]["reason"]
    assert len(gzip.decompress((tmp_path / "clean.jsonl.gz").read_bytes()).splitlines()) == 3


@pytest.mark.parametrize("wrapped", [False, True])
def test_json_array(tmp_path: Path, wrapped: bool) -> None:
    path, rows = tmp_path / "a.json", messy_rows()
    path.write_text(json.dumps({"data": rows, "of": "us"} if wrapped else rows))
    check_log(*put_right(path, tmp_path / "clean.json"))
    content = json.loads((tmp_path / "clean.json").read_text())
    assert [r["section"] for r in (content["data"] if wrapped else content)] == WANTED
    assert not wrapped or content["of"] == "us"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_what_is_windows_1252_is_written_in_utf8(tmp_path: Path, name: str) -> None:
    rows = [row | {"headline": f"caf\u00e9 {row['headline']}"} for row in messy_rows()]
    path = tmp_path / name
    if name == "a.csv":
        write_csv(path, rows)
        path.write_bytes(path.read_text("utf-8").replace(",", ";").encode("cp1252"))
    elif name == "a.jsonl":
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes("".join(lines).encode("cp1252"))
    else:
        path.write_bytes(json.dumps(rows, ensure_ascii=False).encode("cp1252"))
    put_right(path, tmp_path / f"better{path.suffix}")
    written = (tmp_path / f"better{path.suffix}").read_bytes().decode("utf-8")
    assert written.count("café") >= 9


def test_broken_json_array(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tiny_rows(5))[:-5])
    with pytest.raises(InputError, match=r"broken JSON array.*save what is whole as JSON Lines"):
        put_right(path, tmp_path / "clean.json")
    assert not (tmp_path / "clean.json").exists()
    assert not list(tmp_path.glob("*.log.jsonl"))


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    rows = [row | {"words": i, "tags": ["a"]} for i, row in enumerate(messy_rows())]
    rows[9]["section"] = None
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "a.parquet")
    check_log(*put_right(tmp_path / "a.parquet", tmp_path / "clean.parquet"))
    clean = parquet.read_table(tmp_path / "clean.parquet")
    assert clean.schema == table.schema
    assert clean["section"].to_pylist() == [label or None for label in WANTED]
    assert clean["words"].to_pylist() == list(range(10))


def test_what_is_clean_stays_as_it_is(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", tiny_rows(20))
    done, log = put_right(path, tmp_path / "clean.csv")
    assert (done.rows, log) == (20, [])
    assert (tmp_path / "clean.csv").read_bytes() == path.read_bytes()


@pytest.fixture
def found(tmp_path: Path) -> Examination:
    return examine(write_csv(tmp_path / "a.csv", tiny_rows(5)), tasks=["section"])


def test_the_file_itself_is_never_written(tmp_path: Path, found: Examination) -> None:
    before = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    for name in ("a.csv", "link.csv"):
        with pytest.raises(InputError, match="the file that is examined"):
            fix(found, tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clean.jsonl", "ends in .csv"),
        ("clean", "ends in .csv"),
        ("clean.csv.zst", "not written with .zst"),
    ],
)
def test_other_formats(tmp_path: Path, found: Examination, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fix(found, tmp_path / name)


def test_folders_are_not_written_again(tmp_path: Path) -> None:
    for label in ("sports", "science"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "a.txt").write_text(f"A story of {label}")
    with pytest.raises(InputError, match="cannot be written again"):
        fix(examine(tmp_path / "texts"), tmp_path / "clean.csv")


def test_nowhere_to_write(tmp_path: Path, found: Examination) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        fix(found, tmp_path / "none" / "clean.csv")
