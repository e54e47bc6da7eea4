from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from newsie.data.formats import open_records
from newsie.data.records import BadRow
from newsie.data.spreadsheet import BYTE_ORDER_MARK, protect, unprotect
from newsie.data.writers import open_writer

LIMIT = 100_000
FORMULAS = [
    "=HYPERLINK(1)",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\rtext",
    "\ntext",
    "  =1",
    '"=1"',
    "'=1",
    "''-x",
    "\u00a0=1",
    "＝1",
    "-",
    "--5",
    "=5",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_formula_is_run(text: str) -> None:
    assert protect(text) == f"'{text}"
    assert unprotect(protect(text)) == text


@pytest.mark.parametrize(
    "text", ["", "a", "a=b", "-5", "+3.25", "-1e-05", "-12 %", "1,000", "'tis", "Café", "–5 °C"]
)
def test_numbers_and_other_texts_stay(text: str) -> None:
    assert protect(text) == unprotect(text) == text


@given(st.text("='+-@5. \t\r\n\"a"))
@example("'-5")
def test_every_text_comes_back(text: str) -> None:
    cell = protect(text)
    assert unprotect(cell) == text
    assert protect(cell) == f"'{cell}" or cell == text


def test_a_file_is_safe_for_excel_and_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows: list[dict[str, str | float]] = [
        {"id": "-7", "=headline": text, "score": -0.5} for text in (*FORMULAS, "Café 'n' bar")
    ]
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)
    assert path.read_bytes().startswith(BYTE_ORDER_MARK)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        header, *cells = csv.reader(stream)
    assert header == ["id", "'=headline", "score"]
    assert [row[1] for row in cells] == [f"'{text}" for text in FORMULAS] + ["Café 'n' bar"]
    assert {(row[0], row[2]) for row in cells} == {("-7", "-0.5")}
    records = open_records(path, max_field_chars=LIMIT)
    assert records.columns == ("id", "=headline", "score")
    found = [row for _, row in records.read(records.columns)]
    assert found == [{**row, "score": "-0.5"} for row in rows]


def test_files_of_others_keep_their_apostrophes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("headline\n'-30 degrees' is cold\n", "utf-8")
    [(_, row)] = open_records(path, max_field_chars=LIMIT).read(("headline",))
    assert not isinstance(row, BadRow)
    assert row["headline"] == "'-30 degrees' is cold"


def test_raw_files_are_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with open_writer(path, raw=True) as writer:
        writer.write({"a": "=1"})
    assert path.read_bytes() == b"a\n=1\n"
