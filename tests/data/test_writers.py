from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from newsie.data.spreadsheet import unprotect
from newsie.data.writers import GROUP_ROWS, open_writer
from newsie.errors import InputError

ROWS: list[dict[str, str | int | float | bool | None]] = [
    {"id": "1", "section": "sports", "score": 0.75, "rank": 1, "sure": True, "note": None},
    {
        "id": "2",
        "section": 'a "quoted", name\nof two lines',
        "score": 0.5,
        "rank": 2,
        "sure": False,
    },
    {"id": "3", "section": "été", "score": 0.25, "rank": 3, "sure": True, "note": None},
]


def write(path: Path | str, rows: list[dict[str, Any]]) -> None:
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)
        assert writer.rows == len(rows)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", ROWS)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == ROWS
    assert "été" in lines[2]


def test_csv(tmp_path: Path) -> None:
    write(tmp_path / "out.CSV", ROWS)
    with (tmp_path / "out.CSV").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[1]["section"] == ROWS[1]["section"]
    assert rows[2] == {
        "id": "3",
        "section": "été",
        "score": "0.25",
        "rank": "3",
        "sure": "True",
        "note": "",
    }


def test_parquet(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", ROWS)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == [{"note": None} | row for row in ROWS]
    assert {f.name: str(f.type) for f in table.schema} == {
        "id": "string",
        "section": "string",
        "score": "double",
        "rank": "int64",
        "sure": "bool",
        "note": "string",
    }


def test_parquet_is_written_in_groups(tmp_path: Path) -> None:
    rows = [{"id": str(i)} for i in range(GROUP_ROWS + 1)]
    write(tmp_path / "out.parquet", rows)
    file = parquet.ParquetFile(tmp_path / "out.parquet")
    assert file.num_row_groups == 2
    assert file.read().to_pylist() == rows
    file.close()


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_no_rows_are_a_complete_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [])
    assert files(tmp_path) == [name]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_a_file_appears_only_when_it_is_complete(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("before")
    with open_writer(tmp_path / name) as writer:
        for row in ROWS:
            writer.write(row)
        assert (tmp_path / name).read_text() == "before"
    assert files(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() != b"before"


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
@pytest.mark.parametrize("rows", [1, GROUP_ROWS])
def test_after_an_error_nothing_is_left(tmp_path: Path, name: str, rows: int) -> None:
    (tmp_path / name).write_text("before")

    def fail() -> None:
        with open_writer(tmp_path / name) as writer:
            for i in range(rows):
                writer.write({"id": str(i)})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert files(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "before"


def test_dash_is_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_writer("-") as writer:
        writer.write({"label": "été"})
        assert capfdbinary.readouterr().out == '{"label": "été"}\n'.encode()


def test_dash_where_stdout_takes_text_only(capsys: pytest.CaptureFixture[str]) -> None:
    write("-", [{"label": "été"}])
    assert capsys.readouterr().out == '{"label": "été"}\n'


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_half_a_surrogate_pair_is_escaped(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [{"id": "a\ud800b"}])
    if name.endswith(".parquet"):
        assert parquet.read_table(tmp_path / name).to_pylist() == [{"id": "a\\ud800b"}]
    else:
        assert "\\ud800" in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.gz", "out.json"])
def test_unknown_endings(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"allowed: \.jsonl, \.ndjson, \.csv, \.parquet"):
        write(tmp_path / name, ROWS)
    assert files(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: there is no folder"):
        write(tmp_path / "missing" / "out.csv", ROWS)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write(tmp_path / "folder.csv", ROWS)


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(InputError, match="column 'score' holds"):
        write(tmp_path / name, [{"score": value}])
    assert files(tmp_path) == []


def test_tables_have_the_same_columns_in_each_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has the column 'b', the rows before it have: a"):
        write(tmp_path / "out.csv", [{"a": 1}, {"b": 1}])
    rows = [{"a": 1}] * GROUP_ROWS + [{"b": 1}]
    with pytest.raises(InputError, match="has the column 'b', the rows before it have: a"):
        write(tmp_path / "out.parquet", rows)


def test_values_of_different_types_in_one_column(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not of the same types"):
        write(tmp_path / "out.parquet", [{"a": 1}, {"a": "one"}])
    with pytest.raises(InputError, match="row 1 cannot be written as JSON"):
        write(tmp_path / "out.jsonl", [{"a": b"bytes"}])


@settings(deadline=None, max_examples=50)
@example([{"a": "a carriage\rreturn", "b": 0.5}])
@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.floats(-1, 1)})))
def test_csv_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "out.csv"
    write(path, rows)
    for raw in (True, False):
        with open_writer(path, raw=raw) as writer:
            for row in rows:
                writer.write(row)
        with path.open(encoding="utf-8" if raw else "utf-8-sig", newline="") as stream:
            found = [
                {"a": row["a"] if raw else unprotect(row["a"]), "b": float(row["b"])}
                for row in csv.DictReader(stream)
            ]
        assert found == rows
