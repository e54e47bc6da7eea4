from __future__ import annotations

import os
from pathlib import Path

import pytest

from newsie.data.label_columns import find_rules
from newsie.doctor.reading import read_file
from newsie.errors import LabelError, ReadError
from newsie.labels import LabelRule
from tests.doctor.files import tiny_rows, write_csv, write_lines


def test_rows_are_numbered_as_readers_number_them(tmp_path: Path) -> None:
    rows = tiny_rows(4)
    rows[1] |= {"headline": "", "body": " "}
    file = read_file(write_csv(tmp_path / "a.csv", rows), {"section": LabelRule("section")})
    assert (file.numbers, file.rows, len(file.problems)) == ([1, 3, 4], 4, 1)
    assert [a.headline for a in file.articles] == [rows[i]["headline"] for i in (0, 2, 3)]


def test_lines_are_numbered_with_the_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"headline": "a", "label": "x"}\n\n{"headline": "b", "label": "y"}\n')
    assert list(read_file(path, {}).numbers) == [1, 3]


def test_columns_of_labels_are_found_by_name(tmp_path: Path) -> None:
    rows = [{"title": "a b", "Category": "x", "mood": "calm", "other": "1"}]
    path = write_csv(tmp_path / "a.csv", rows)
    assert find_rules(path, None) == {"category": LabelRule("Category")}
    known = {"mood": LabelRule("mood"), "press": LabelRule("press")}
    assert list(find_rules(path, None, known)) == ["mood", "category"]
    # A column that a task of the student came from is that task again, and so is one called like it.
    assert list(find_rules(path, None, {"genre": LabelRule("Category")})) == ["genre"]
    assert "other" in find_rules(path, None, {"other": LabelRule("elsewhere")})


@pytest.mark.parametrize(
    ("asked", "task", "column"),
    [
        ("Section Name", "section_name", "Section Name"),
        ("ressort=section name", "ressort", "Section Name"),
        ("2024", "label_2024", "2024"),
    ],
)
def test_columns_of_labels_are_asked_for(
    tmp_path: Path, asked: str, task: str, column: str
) -> None:
    path = write_csv(tmp_path / "a.csv", [{"headline": "a", "Section Name": "x", "2024": "y"}])
    assert find_rules(path, [asked]) == {task: LabelRule(column)}


def test_no_column_of_labels_names_those_that_could_be(tmp_path: Path) -> None:
    rows = [{"headline": f"story {i}", "number": i, "rubric": "ab"[i % 2]} for i in range(30)]
    path = write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(ReadError, match=r"no column of labels .* 'rubric' \(2 different values\)"):
        find_rules(path, None)
    with pytest.raises(ReadError, match=r"--task 'rubric'"):
        find_rules(path, ["sektion"])


def test_what_cannot_be_examined(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(ReadError, match="the file is empty"):
        find_rules(empty, None)
    with pytest.raises(ReadError, match="no such file"):
        find_rules(tmp_path / "none.csv", None)
    with pytest.raises(ReadError, match="a pipe cannot be; save it"):
        read_file("-", {})
    blank = write_lines(tmp_path / "a.jsonl", [{"headline": " ", "label": "x"}])
    with pytest.raises(ReadError, match="no row of it can be used as an article"):
        read_file(blank, {})
    good = write_lines(tmp_path / "b.jsonl", [{"headline": "a", "label": "x"}])
    with pytest.raises(ReadError, match="there is no column 'section'"):
        read_file(good, {"section": LabelRule("section")})
    with pytest.raises(LabelError, match="twice"):
        find_rules(good, ["label", "label"])
    with pytest.raises(LabelError, match="cannot be called 'headline'"):
        find_rules(good, ["headline=label"])


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "news.csv")
    for path in (tmp_path / "news.csv", Path("/dev/stdin"), Path("-")):
        with pytest.raises(ReadError, match="a pipe cannot be; save it"):
            find_rules(path, ["section"])


def test_names_of_label_columns_in_feeds(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("webTitle,sectionName\nRain,weather\nSun,weather\n")
    assert find_rules(path, None) == {"sectionname": LabelRule("sectionName")}
