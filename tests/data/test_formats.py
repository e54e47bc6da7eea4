from __future__ import annotations

import os
from pathlib import Path

import pytest

from newsie.data.formats import SUFFIXES, open_records
from newsie.data.records import BadRow, Records
from newsie.errors import ReadError


def open_path(path: Path | str) -> Records:
    return open_records(path, max_field_chars=100)


@pytest.mark.parametrize(
    "name",
    ["news", "news.xml", "news.csv.bak", "news.parquet.gz", "news.gz", "news.csv.gz.zst", ".csv"],
)
def test_unknown_endings_tell_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(ReadError) as error:
        open_path(tmp_path / name)
    for suffix in [*SUFFIXES, ".gz", ".zst"]:
        assert suffix in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"news\.csv: there is no such file"):
        open_path(str(tmp_path / "news.csv"))


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "क" * 120 + ".csv"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(ReadError, match="cannot be opened: File name too long"):
        open_path(name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"news{suffix}"
    path.touch()
    with pytest.raises(ReadError, match="the file is empty"):
        open_path(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("headline\nRain\n")
    path.chmod(0)
    with pytest.raises(ReadError, match="cannot be opened: Permission denied"):
        open_path(path)


@pytest.mark.parametrize("name", ["news.CSV", "the.news.csv", "a b.csv"])
def test_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("headline\nRain\n")
    assert open_path(tmp_path / name).columns == ("headline",)


# --- a folder of texts by label -----------------------------------------------------------------


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for label, name, content in [
        ("sports", "b.txt", "\ufeffA late goal\r\n\r\nThe keeper slipped.\nTwice.\n"),
        ("sports", "a.txt", "Headline only"),
        ("weather", "c.txt", "\n\nRain\nFor days."),
        ("weather", "notes.md", "no article"),
    ]:
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / name).write_bytes(content.encode())
    records = open_path(tmp_path)
    assert records.columns == ("id", "headline", "body", "label")
    assert [tuple(r.content.values()) for r in records.read([]) if isinstance(r.content, dict)] == [
        ("sports/a.txt", "Headline only", "", "sports"),
        ("sports/b.txt", "A late goal", "The keeper slipped.\nTwice.", "sports"),
        ("weather/c.txt", "Rain", "For days.", "weather"),
    ]


def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "label").mkdir()
    for name, content in [("a", b"\x81"), ("b", b"x\x00"), ("c", b"x" * 101), ("d", b"x" * 100)]:
        (tmp_path / "label" / f"{name}.txt").write_bytes(content)
    (tmp_path / "label" / "e.txt").symlink_to("nowhere")
    found = [record.content for record in open_path(tmp_path).read([])]
    reasons = [content.reason if isinstance(content, BadRow) else "" for content in found]
    assert reasons == ["not UTF-8", "NUL character", "field too long", "", "cannot be opened"]
    assert "label/a.txt" in str(found[0])


def test_a_folder_without_labels(tmp_path: Path) -> None:
    (tmp_path / "news.csv").write_text("headline\nRain\n")
    with pytest.raises(ReadError, match="folder for each label"):
        open_path(tmp_path)
