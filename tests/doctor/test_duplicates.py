from __future__ import annotations

from pathlib import Path

from newsie.doctor.duplicates import check_copies, check_leak, find_copies
from newsie.doctor.findings import Finding, Severity
from tests.doctor.files import Row, news_file, tiny_rows, write_csv


def check(tmp_path: Path, rows: list[Row], test: list[Row] | None = None) -> dict[str, Finding]:
    file = news_file(write_csv(tmp_path / "a.csv", rows))
    if test is None:
        return {f.code: f for f in check_copies(file, find_copies(file))}
    other = news_file(write_csv(tmp_path / "test.csv", test))
    return {f.code: f for f in check_leak(file, other, find_copies(file, other))}


def test_no_copies_no_finding(tmp_path: Path) -> None:
    assert not check(tmp_path, tiny_rows(40))


def test_copies_word_for_word(tmp_path: Path) -> None:
    rows = tiny_rows(20)
    found = check(tmp_path, [*rows, rows[3] | {"headline": rows[3]["headline"].upper()}, rows[3]])
    exact = found["exact-duplicates"]
    assert (exact.count, exact.rows) == (2, (21, 22))
    assert (exact.examples[0].row, exact.examples[0].note) == (4, "again in row 21, 22")
    assert "near-duplicates" not in found
    assert "conflicting-labels" not in found


def test_near_copies(tmp_path: Path) -> None:
    rows = tiny_rows(20)
    long = "the striker of the league met the coach in the city after the derby last week"
    rows[0]["body"], rows[1] = long, rows[0] | {"body": f"{long} again"}
    found = check(tmp_path, rows)
    assert found["near-duplicates"].rows == (2,)
    assert found["near-duplicates"].examples[0].note.startswith("like row 1: ")
    assert "exact-duplicates" not in found


def test_copies_with_different_labels_are_named(tmp_path: Path) -> None:
    rows = tiny_rows(20)
    other = "science" if rows[3]["section"] != "science" else "sports"
    found = check(tmp_path, [*rows, rows[3] | {"section": other}])["conflicting-labels"]
    assert (found.severity, found.rows) == (Severity.problem, (4, 21))
    note = f"row 4: {rows[3]['section']!r}, row 21: {other!r}"
    assert found.examples[0].note == note


def test_a_copy_with_its_label_in_capitals_is_no_conflict(tmp_path: Path) -> None:
    rows = tiny_rows(20)
    again = rows[3] | {"section": rows[3]["section"].upper()}
    assert "conflicting-labels" not in check(tmp_path, [*rows, again])


def test_test_articles_that_can_be_learnt_by_heart(tmp_path: Path) -> None:
    rows, test = tiny_rows(20), tiny_rows(20, seed=1)
    assert not check(tmp_path, rows, test)
    found = check(tmp_path, rows, [*test, rows[7]])["test-leak"]
    assert (found.count, found.rows, found.details["test_rows"]) == (1, (8,), [21])
    assert found.severity is Severity.problem  # 1 of 21 is much


def test_labels_of_one_file_only(tmp_path: Path) -> None:
    rows, test = tiny_rows(20), tiny_rows(20, seed=1)
    rows = [row for row in rows if row["section"] != "science"]
    test = [row for row in test if row["section"] != "sports"]
    found = check(tmp_path, rows, test)
    assert list(found["test-labels"].details["labels"]) == ["science"]
    assert [e.text for e in found["untested-labels"].examples] == ["sports"]
