from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path

import pytest

from newsie.data.binary import FileSource
from newsie.data.documents import open_json
from newsie.data.formats import open_records
from newsie.data.lines import open_headlines, open_json_lines
from newsie.data.records import PEEK_ROWS, BadRow, RecodedRow, Record, Records
from newsie.errors import ReadError

LIMIT = 1000


def rows(records: Records) -> list[Record]:
    return list(records.read(records.columns))


def save(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "news"


# --- JSON Lines ---------------------------------------------------------------------------------


def test_json_lines(path: Path) -> None:
    records = open_json_lines(
        FileSource(save(path, '{"a": "x"}\n\n{"b": 1, "a": null}\r\n')), LIMIT
    )
    assert records.columns == ("a", "b")
    assert rows(records) == [Record(1, {"a": "x"}), Record(3, {"b": "1", "a": ""})]
    assert rows(records) == rows(records)


def test_cells_become_text(path: Path) -> None:
    cells = '{"a": true, "b": 1.5, "c": NaN, "d": ["é", 1], "e": {"f": null}, "g": "\\u0000"}'
    [row] = rows(open_json_lines(FileSource(save(path, cells)), LIMIT))
    assert row.content == {
        "a": "true",
        "b": "1.5",
        "c": "",
        "d": '["é", 1]',
        "e": '{"f": null}',
        "g": "\x00",
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "half', "broken JSON"),
        (b'{"a": "x"} {"a": "y"}', "broken JSON"),
        (b"Rain", "broken JSON"),
        (b'{"a": "nul \x00"}', "broken JSON"),
        (b"[" * 900, "broken JSON"),
        (b"9" * 900, "not a JSON object"),
        (b'["a"]', "not a JSON object"),
        (b'"a"', "not a JSON object"),
        (b'{"a": "caf\x81"}', "not UTF-8"),
        (b'{"a": "' + b"x" * LIMIT + b'"}', "line too long"),
        (b'{"a": "' + b"x" * 5 * LIMIT + b'"}', "line too long"),
    ],
)
def test_bad_lines_are_told_and_the_next_is_read(path: Path, line: bytes, reason: str) -> None:
    records = open_json_lines(
        FileSource(save(path, b'{"a": "x"}\n' + line + b'\n{"a": "y"}\n')), LIMIT
    )
    first, bad, last = rows(records)
    assert isinstance(bad.content, BadRow)
    assert (bad.number, bad.content.reason) == (2, reason)
    assert (first.content, last.content) == ({"a": "x"}, {"a": "y"})


def test_very_deep_json_is_a_bad_row(path: Path) -> None:
    content = '{"a": ' + "[" * 100_000 + "\n" + '{"a": "x"}\n'
    bad, good = rows(open_json_lines(FileSource(save(path, content)), 1_000_000))
    assert isinstance(bad.content, BadRow)
    assert bad.content.reason == "broken JSON"
    assert good.content == {"a": "x"}


def test_a_byte_order_mark_is_no_text(path: Path) -> None:
    assert rows(open_json_lines(FileSource(save(path, '\ufeff{"a": "x"}')), LIMIT)) == [
        Record(1, {"a": "x"})
    ]


def test_columns_after_many_bad_rows(path: Path) -> None:
    content = "broken\n" * (2 * PEEK_ROWS) + '{"a": "x"}\n'
    assert open_json_lines(FileSource(save(path, content)), LIMIT).columns == ("a",)


def test_a_compressed_file_that_ends_early(tmp_path: Path) -> None:
    content = "".join(json.dumps({"a": random.Random(i).random()}) + "\n" for i in range(10_000))
    packed = gzip.compress(content.encode())
    path = save(tmp_path / "news.jsonl.gz", packed[: len(packed) // 2])
    *good, bad = rows(open_json_lines(FileSource(path), LIMIT))
    assert len(good) > 1000
    assert all(isinstance(row.content, dict) for row in good)
    assert isinstance(bad.content, BadRow)
    assert "ends early" in bad.content.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("broken\n" * 3, "row 1: none of the 3 rows can be read; the first: broken JSON"),
    ],
)
def test_files_without_a_row(path: Path, content: str, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        open_json_lines(FileSource(save(path, content)), LIMIT)


# --- headlines ----------------------------------------------------------------------------------


def test_headlines(path: Path) -> None:
    content = b'\xef\xbb\xbfRain, "again"\r\n\n  {not JSON}\nbad \x81\nnul \x00\nSun\nR\xe9'
    assert rows(open_headlines(FileSource(save(path, content)), LIMIT)) == [
        Record(1, {"headline": 'Rain, "again"'}),
        Record(3, {"headline": "{not JSON}"}),
        Record(4, BadRow("not UTF-8", "byte 5 of the line")),
        Record(5, BadRow("NUL character")),
        Record(6, {"headline": "Sun"}),
        Record(7, RecodedRow(headline="Ré")),
    ]


# --- streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_streams_hold_headlines_or_json(mark: str) -> None:
    for kind in (io.StringIO, lambda text: io.BytesIO(text.encode())):
        headlines = open_records(kind(f"{mark}Rain\nSun\n"), max_field_chars=1000)
        assert rows(headlines) == [Record(1, {"headline": "Rain"}), Record(2, {"headline": "Sun"})]
        json_lines = open_records(kind(f'{mark}\n {{"a": "x"}}\nbroken\n'), max_field_chars=1000)
        first, second = rows(json_lines)
        assert first == Record(2, {"a": "x"})
        assert isinstance(second.content, BadRow)


def test_a_stream_is_read_line_by_line() -> None:
    taken = []

    class Lines(io.StringIO):
        def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
            taken.append(line := super().readline(size))
            return line

    content = open_records(Lines("Rain\nSun\nWind\n"), max_field_chars=1000)
    assert taken == ["Rain\n"]
    articles = content.read(content.columns)
    assert next(articles).content == {"headline": "Rain"}
    assert taken == ["Rain\n"]
    assert next(articles).content == {"headline": "Sun"}
    assert taken == ["Rain\n", "Sun\n"]


def test_the_first_line_of_a_stream_may_be_bad() -> None:
    first, second = rows(open_records(io.BytesIO(b'{"a": \n{"a": "x"}\n'), max_field_chars=1000))
    assert isinstance(first.content, BadRow)
    assert second.content == {"a": "x"}


def test_lines_of_two_kinds_are_told() -> None:
    first, second = rows(open_records(io.BytesIO(b'{"a": "x"}\nRain\n'), max_field_chars=1000))
    assert first.content == {"a": "x"}
    assert isinstance(second.content, BadRow)
    assert second.content.reason == "a plain line among JSON objects"
    assert "the first line decides, and it is a JSON object" in second.content.detail
    first, second, third = rows(
        open_records(io.BytesIO(b'Rain\n{"a": "x"}\n{Sun}\n'), max_field_chars=1000)
    )
    assert (first.content, third.content) == ({"headline": "Rain"}, {"headline": "{Sun}"})
    assert isinstance(second.content, BadRow)
    assert second.content.reason == "a JSON object among plain headlines"
    assert "the first line decides, and it is a headline" in second.content.detail


def test_an_open_text_stream_that_is_not_utf8() -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"Rain\n" + b"x" * 10_000 + b"\xff\nSun\n"), "utf-8")
    *_, last = rows(open_records(stream, max_field_chars=1000))
    assert isinstance(last.content, BadRow)
    assert last.content.reason == "not UTF-8"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x81\n"])
def test_streams_without_text(content: bytes) -> None:
    with pytest.raises(ReadError, match="stdin"):
        open_records(io.BytesIO(content), max_field_chars=1000)


# --- JSON arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        '[{"a": "x"}, {"a": 2}]',
        '\ufeff\n[\n{"a": "x"},\n{"a": 2}\n]\n',
        '{"data": [{"a": "x"}, {"a": 2}]}',
        '{"version": 1,\n "data": [{"a": "x"}, {"a": 2}]}',
        '{"a": "x"}\n{"a": 2}\n',
    ],
)
def test_json_arrays(path: Path, content: str) -> None:
    assert rows(open_json(FileSource(save(path, content)), LIMIT)) == [
        Record(1, {"a": "x"}),
        Record(2, {"a": "2"}),
    ]


def test_an_array_with_other_things_than_objects(path: Path) -> None:
    found = rows(open_json(FileSource(save(path, '[{"a": "x"}, 1, {"a": "y"}]')), LIMIT))
    assert found[1] == Record(2, BadRow("not a JSON object", "but a int"))
    assert found[2] == Record(3, {"a": "y"})


@pytest.mark.parametrize("end", ["", ', {"a": "hal', ', {"a": ]', "}"])
def test_an_array_that_is_broken_gives_what_comes_before(path: Path, end: str) -> None:
    *good, bad = rows(open_json(FileSource(save(path, '[{"a": "x"}, {"a": "y"}' + end)), LIMIT))
    assert [row.content for row in good] == [{"a": "x"}, {"a": "y"}]
    assert isinstance(bad.content, BadRow)
    assert bad.content.last


NOT_ARRAYS: list[tuple[str | bytes, str]] = [
    ('{"headline": {"0": "x", "1": "y"}', "broken JSON"),
    ('"x"', "must hold an array of objects"),
    ("3", "must hold an array of objects"),
    ("[]", "the file is empty"),
    (" ", "the file is empty"),
    ("[1, 2]", "none of the 2 rows can be read; the first: not a JSON object"),
    (b'[{"a": "\x81"}]', "not UTF-8 at byte 9"),
    ("[" * 100_000, "none of the 1 rows"),
]


@pytest.mark.parametrize(("content", "message"), NOT_ARRAYS, ids=range(len(NOT_ARRAYS)))
def test_json_files_without_a_row(path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        open_json(FileSource(save(path, content)), LIMIT)


def test_a_compressed_array_that_ends_early(tmp_path: Path) -> None:
    packed = gzip.compress(b'[{"a": "x"}, {"a": "y"}]' * 100)
    path = save(tmp_path / "news.json.gz", packed[:-9])
    with pytest.raises(ReadError, match="ends early"):
        open_json(FileSource(path), LIMIT)


@pytest.mark.parametrize("name", ["news.json", "news.json.gz"])
def test_an_array_that_is_too_large_to_hold(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(count: int, opening: str, between: str, closing: str) -> Path:
        text = opening + between.join(['{"a": "xxxxx"}'] * count) + closing
        return save(tmp_path / name, gzip.compress(text.encode()) if ".gz" in name else text)

    monkeypatch.setattr("newsie.data.documents.MAX_DOCUMENT_BYTES", 2**20)
    assert len(rows(open_json(FileSource(write(60_000, "[", ", ", "]")), LIMIT))) == 60_000
    for opening in ("[", "[\n"):
        with pytest.raises(ReadError, match=r"more than 1 MiB.*JSON Lines"):
            open_json(FileSource(write(80_000, opening, ",\n", "]")), LIMIT)
    assert len(rows(open_json(FileSource(write(80_000, "", "\n", "\n")), LIMIT))) == 80_000
