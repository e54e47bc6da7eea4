from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsie.data import delimited
from newsie.data.binary import FileSource
from newsie.data.delimited import (
    BLANK_LINES,
    ESCAPED_ROW,
    LONG_ROW,
    SAME_NAME,
    SHORT_ROW,
    open_delimited,
)
from newsie.data.records import BadRow, RecodedRow, Row
from newsie.errors import ReadError

LIMIT = 100_000


def read(path: Path, content: str | bytes, delimiter: str = ",") -> list[Row | BadRow]:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    records = open_delimited(FileSource(path), delimiter, LIMIT)
    rows = list(records.read(records.columns))
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [row.content for row in rows]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "news.csv"


def test_rows_by_column(path: Path) -> None:
    content = 'headline,body\nRain,"Three days,\nat least"\n\n"Say ""yes""",\n'
    assert read(path, content) == [
        {"headline": "Rain", "body": "Three days,\nat least"},
        {"headline": 'Say "yes"', "body": ""},
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(path: Path, newline: str, mark: str) -> None:
    assert read(path, f"{mark}headline{newline}Rain{newline}Sun") == [
        {"headline": "Rain"},
        {"headline": "Sun"},
    ]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_other_delimiters_are_found(path: Path, delimiter: str) -> None:
    assert read(path, f"headline{delimiter}label\nRain{delimiter}weather\n") == [
        {"headline": "Rain", "label": "weather"}
    ]


def test_a_row_with_too_many_fields(path: Path) -> None:
    assert read(path, "a,b\n1,2\n1,2,3\n1,2\n") == [
        {"a": "1", "b": "2"},
        BadRow("too many fields", "line 3: 3 instead of 2"),
        {"a": "1", "b": "2"},
    ]


def test_a_file_that_ends_in_the_middle_of_a_row(path: Path) -> None:
    assert read(path, 'a,b\n1,2\n3,"half of') == [
        {"a": "1", "b": "2"},
        BadRow("broken CSV row", "line 3: unexpected end of data"),
    ]


def test_a_quotation_mark_that_never_ends_costs_one_row(path: Path) -> None:
    good = [{"a": str(i), "b": "x"} for i in range(1000)]
    content = "".join(f"{row['a']},{row['b']}\n" for row in good)
    assert read(path, f'a,b\n1,"no end\n{content}') == [
        BadRow("broken CSV row", "line 2: unexpected end of data"),
        *good,
    ]


def test_a_quotation_mark_that_swallows_rows_up_to_the_next_one(path: Path) -> None:
    rows = read(path, 'a,b\n1,"no end\n2,x\n3,"y"\n4,z\n')
    assert isinstance(rows[0], BadRow)
    assert rows[1:] == [{"a": "2", "b": "x"}, {"a": "3", "b": "y"}, {"a": "4", "b": "z"}]


def test_the_lines_read_twice_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsie.data.delimited.MAX_RETRIED_LINES", 2)
    content = 'a,b\n1,"no end\n2,x\n3,"y"\n4,"no end\n5,x\n6,x\n7,x\n'
    found = read(path, content)
    assert found[1:3] == [{"a": "2", "b": "x"}, {"a": "3", "b": "y"}]
    bad = "lines 5 to 8, all of them skipped: unexpected end of data"
    assert found[3:] == [BadRow("broken CSV row", bad)]


def test_a_hostile_file_takes_time_in_proportion(path: Path) -> None:
    rows = read(path, "a,b\n" + '1,"x\n' * 20_001)
    assert len(rows) >= 10_000


@pytest.mark.parametrize("line", ['a","' + "z" * 200 + "\n", '1,"' + "x" * 200 + "\n"])
def test_the_characters_read_twice_are_bounded(
    path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newsie.data.delimited.MAX_RETRIED_CHARS", 1000)
    given = 0
    following = delimited._Lines.__next__

    def counted(lines: Any) -> str:
        nonlocal given
        given += len(text := following(lines))
        return text

    monkeypatch.setattr(delimited._Lines, "__next__", counted)
    content = "headline,body\n" + line * 2_001
    read(path, content)
    assert given <= (1 + delimited.RETRIED_CHARS_A_CHAR) * len(content) + 1000


def test_bytes_that_are_not_utf8(path: Path) -> None:
    assert read(path, b"a,b\n1,caf\x81\n2,caf\xc3\xa9\n") == [
        BadRow("not UTF-8", column="b"),
        {"a": "2", "b": "café"},
    ]


def test_what_is_not_utf8_is_read_as_windows_1252(path: Path) -> None:
    found = read(path, "Titel,pâge\n1,caf\u00e9 \u201cbar\u201d\n2,plain\n".encode("cp1252"))
    assert found == [{"Titel": "1", "pâge": "café “bar”"}, {"Titel": "2", "pâge": "plain"}]
    assert [isinstance(row, RecodedRow) for row in found] == [True, False]


def test_nul_characters(path: Path) -> None:
    assert read(path, b"a,b\n1\x00,x\n2,x\n") == [
        BadRow("NUL character", column="a"),
        {"a": "2", "b": "x"},
    ]


def test_large_fields(path: Path) -> None:
    large = "x" * (LIMIT - 10)
    assert read(path, f"a\n{large}\n") == [{"a": large}]


def test_a_line_beyond_the_limit(path: Path) -> None:
    long = "x" * (3 * LIMIT)
    assert read(path, f"a,b\n1,{long}\n2,y\n") == [
        BadRow("broken CSV row", "line 2: line longer than 100,000 characters"),
        {"a": "2", "b": "y"},
    ]
    found = read(path, f'a,b\n1,"open\n2,{long}\n3,y\n')
    assert [row for row in found if isinstance(row, dict)] == [{"a": "3", "b": "y"}]
    assert len(found) == 3


def test_the_limit_of_the_csv_module_is_never_lowered(path: Path) -> None:
    read(path, "a\n1\n")
    assert csv.field_size_limit() >= 131_072


def test_tabs_without_quoting(path: Path) -> None:
    content = 'a\tb\n"Yes" vote\tx\n"No\ty\n"a ""quoted"" one"\tz\n'
    assert read(path, content, "\t") == [
        {"a": '"Yes" vote', "b": "x"},
        {"a": '"No', "b": "y"},
        {"a": 'a "quoted" one', "b": "z"},
    ]


def test_compressed(tmp_path: Path) -> None:
    packed = gzip.compress(b"a\n1\n2\n")
    assert read(tmp_path / "a.csv.gz", packed) == [{"a": "1"}, {"a": "2"}]


def test_a_compressed_file_that_ends_early(tmp_path: Path) -> None:
    content = "a\n" + "".join(f"{random.Random(i).random()}\n" for i in range(10_000))
    packed = gzip.compress(content.encode())
    *rows, last = read(tmp_path / "a.csv.gz", packed[: len(packed) // 2])
    assert len(rows) > 1000
    assert all(isinstance(row, dict) for row in rows)
    assert isinstance(last, BadRow)
    assert last.last
    assert "ends early" in str(last)


def test_a_compressed_file_with_a_bad_check_sum(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"a\n1\n2\n"))
    packed[-8] ^= 1
    *rows, last = read(tmp_path / "a.csv.gz", bytes(packed))
    assert rows == [{"a": "1"}, {"a": "2"}]
    assert isinstance(last, BadRow)
    assert "CRC" in last.detail


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", "no line of it has text"),
        (b" , \n,,\n", "no line of it has text"),
        (b"caf\x81\n1\n", "the first line is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "the first line is not UTF-8"),
        (b'"a,b\n1,2\n', "the first line cannot be read: unexpected end"),
    ],
)
def test_a_first_line_that_names_no_columns(path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        read(path, content)


def test_a_file_that_is_not_compressed(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be read: Not a gzipped file"):
        read(tmp_path / "a.csv.gz", "a\n1\n")


def test_the_rows_can_be_read_again(path: Path) -> None:
    read(path, "a\n1\n")
    records = open_delimited(FileSource(path), ",", LIMIT)
    assert list(records.read(["a"])) == list(records.read(["a"]))


# --- as a spreadsheet reads it -------------------------------------------------------------------


def notes(path: Path, content: str) -> dict[str, int]:
    path.write_text(content, encoding="utf-8")
    records = open_delimited(FileSource(path), ",", LIMIT)
    list(records.read(records.columns))
    return dict(records.notes or {})


def test_missing_cells_at_the_end_are_empty_and_counted(path: Path) -> None:
    content = "a,b,c\n1\n1,2\n1,2,3\n"
    assert read(path, content) == [
        {"a": "1", "b": "", "c": ""},
        {"a": "1", "b": "2", "c": ""},
        {"a": "1", "b": "2", "c": "3"},
    ]
    assert notes(path, content) == {SHORT_ROW: 2}


def test_empty_cells_beyond_the_header_are_dropped_and_counted(path: Path) -> None:
    content = "a,b\n1,2,\n1,2, ,\n1,2\n1,2,3\n"
    assert read(path, content)[:3] == [{"a": "1", "b": "2"}] * 3
    assert isinstance(read(path, content)[3], BadRow)
    assert notes(path, content) == {LONG_ROW: 2}


def test_a_short_row_that_has_swallowed_others_is_told(path: Path) -> None:
    rows = read(path, 'a,b,c\n1,"no end\n2,x,y\n3,"\n4,x,y\n')
    assert isinstance(rows[0], BadRow)
    assert rows[0].reason == "too few fields"
    assert rows[1] == {"a": "2", "b": "x", "c": "y"}
    assert rows[-1] == {"a": "4", "b": "x", "c": "y"}


def test_backslashes_before_quotation_marks(path: Path) -> None:
    content = (
        'a,b\n"She said \\"no\\", then left",x\n"\\"Yes\\" vote","y"\n"path C:\\",z\n'
        '"over\ntwo \\"lines\\"",x\n"ends in \\"",x\nplain,"ends in \\"mark\\""\n'
    )
    assert read(path, content) == [
        {"a": 'She said "no", then left', "b": "x"},
        {"a": '"Yes" vote', "b": "y"},
        {"a": "path C:\\", "b": "z"},
        {"a": 'over\ntwo "lines"', "b": "x"},
        {"a": 'ends in "', "b": "x"},
        {"a": "plain", "b": 'ends in "mark"'},
    ]
    assert notes(path, content) == {ESCAPED_ROW: 5}


def test_many_rows_with_backslashes_stay_readable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newsie.data.delimited.MAX_RETRIED_LINES", 10)
    rows = read(path, "a,b\n" + '"x \\"y\\"",z\n' * 200)
    assert rows == [{"a": 'x "y"', "b": "z"}] * 200


def test_a_failed_retry_loses_no_row(path: Path) -> None:
    rows = read(path, 'a,b,c\n"x\\" y,1\n2,x,y\n"3",x,y\n')
    assert {"a": "2", "b": "x", "c": "y"} in rows
    assert {"a": "3", "b": "x", "c": "y"} in rows


def test_single_quotation_marks_where_the_file_uses_them(path: Path) -> None:
    rows = read(path, "'a';'b'\n'x; y';'it''s'\n'z';'\"w\"'\n")
    assert rows == [{"a": "x; y", "b": "it's"}, {"a": "z", "b": '"w"'}]
    rows = read(path, "a,b\n'Tis the season,x\n'quoted',y\nplain,z\nplain,z\n")
    assert rows[:2] == [{"a": "'Tis the season", "b": "x"}, {"a": "'quoted'", "b": "y"}]


def test_lines_above_the_header(path: Path) -> None:
    for above in ("\n", "\n\r\n", "sep=,\n", '"sep=,"\r\n', "\nsep=,\n", ",,,\n"):
        assert read(path, f"{above}a,b\n1,2\n") == [{"a": "1", "b": "2"}]
    assert notes(path, "\n\na,b\n1,2\n") == {BLANK_LINES: 2}
    assert read(path, "sep=_\na_b,c\n1_2,3\n") == [{"a": "1", "b,c": "2,3"}]


def test_of_columns_of_one_name_the_first_that_is_not_empty(path: Path) -> None:
    content = "a,b,a\n1,2,3\n,2,3\n1,2,\n"
    assert read(path, content) == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "2"},
        {"a": "1", "b": "2"},
    ]
    assert notes(path, content) == {SAME_NAME: 1}
    rows = read(path, "a,b,a\ncafé,2,\n".encode("cp1252"))
    assert rows == [RecodedRow(a="café", b="2")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_encodings_with_a_mark(path: Path, encoding: str) -> None:
    assert read(path, "a,b\ncafé,“x”\n".encode(encoding)) == [{"a": "café", "b": "“x”"}]


def test_utf16_that_ends_within_a_character(path: Path) -> None:
    *rows, last = read(path, ("a,b\n" + "1,2\n" * 50_000).encode("utf-16")[:-1])
    assert rows[:2] == [{"a": "1", "b": "2"}] * 2
    assert isinstance(last, BadRow)
    assert last.last


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(st.tuples(*[st.text("ab ,;|\t\"'\n", max_size=12)] * 3), min_size=1, max_size=8),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_whatever_the_cells_hold_the_delimiter_is_found(
    delimiter: str,
    rows: list[tuple[str, str, str]],
    quoting: Literal[0, 1],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("news") / "news.csv"
    names = ("id", f"headline{'' if delimiter == ',' else ', in print'}", "body")
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)
        writer.writerows([names, *rows])
    records = open_delimited(FileSource(path), ",", LIMIT)
    assert records.columns == names
    assert [r.content for r in records.read(names)] == [
        dict(zip(names, row, strict=True)) for row in rows
    ]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Titel;headline;Kopf, lang;body", "x;y, z;u;v"),
        ("id|headline|body|tags (a,b)", "1|x, y; z|u|v"),
        ("id\theadline, body\tbody", "1\tx, y\tz"),
        ("a;b;c", "1,5;2,5;3"),
    ],
)
def test_the_delimiter_makes_the_rows_even(path: Path, header: str, row: str) -> None:
    delimiter = next(d for d in "|\t;" if d in header)
    assert (
        read(path, f"{header}\n" + f"{row}\n" * 3)
        == [dict(zip(header.split(delimiter), row.split(delimiter), strict=True))] * 3
    )


def test_one_column_may_hold_all_delimiters(path: Path) -> None:
    assert read(path, "headline\nRain, again\nSun; wind\n") == [
        {"headline": "Rain, again"},
        {"headline": "Sun; wind"},
    ]
