from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from newsie.doctor.dates import check_dates, check_drift, drift
from newsie.doctor.findings import Finding
from tests.doctor.files import Row, news_file, tiny_rows, write_csv


def check(tmp_path: Path, rows: list[Row]) -> dict[str, Finding]:
    file = news_file(write_csv(tmp_path / "a.csv", rows))
    return {f.code: f for f in (*check_dates(file), *check_drift(file, "section"))}


def dated(labels: list[str]) -> list[Row]:
    """A row for each label, one a day."""
    days = np.datetime64("2024-01-01") + np.arange(len(labels))
    rows = tiny_rows(len(labels))
    return [
        row | {"published": str(day), "section": label}
        for row, day, label in zip(rows, days, labels, strict=True)
    ]


def test_range_and_dates_that_cannot_be_read(tmp_path: Path) -> None:
    rows = dated(["sports"] * 5)
    rows[1]["published"], rows[2]["published"] = "yesterday", ""
    rows[4]["published"] = "2024-01-05T10:00:00+05:30"
    found = check(tmp_path, rows)
    assert found["dates-unreadable"].rows == (2,)
    assert "from 2024-01-01 to 2024-01-05, 2 without a date" in found["dates"].title


def test_a_file_without_dates(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "published"} for row in tiny_rows(5)]
    assert not check(tmp_path, rows)


def test_labels_that_shift_are_named(tmp_path: Path) -> None:
    labels = ["sports", "science"] * 50 + ["sports", "business"] * 50
    found = check(tmp_path, dated(labels))["label-drift"]
    assert found.details["distance"] == 0.5
    assert {example.text for example in found.examples[:2]} == {"science", "business"}
    assert (
        "0.0% of the articles before 2024-04-10, 50.0% since"
        in {e.text: e.note for e in found.examples}["business"]
    )


def test_labels_that_do_not_shift(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).choice(["sports", "science", "business"], 200).tolist()
    assert "label-drift" not in check(tmp_path, dated(labels))


def test_articles_of_one_day_have_no_drift(tmp_path: Path) -> None:
    rows = dated(["sports"] * 100 + ["science"] * 100)
    assert "label-drift" in check(tmp_path, rows)
    assert "label-drift" not in check(tmp_path, [r | {"published": "2024-01-01"} for r in rows])


def test_articles_of_one_date_stay_together(tmp_path: Path) -> None:
    labels = ["business", "science", "sports"] * 50  # the same mixture each year
    years = np.repeat(["2021-01-01", "2022-01-01", "2023-01-01"], 50)
    rows = [r | {"published": str(y)} for r, y in zip(dated(labels), years, strict=True)]
    assert "label-drift" not in check(tmp_path, rows)


def test_distance_by_hand() -> None:
    # Before: 3/4 and 1/4; after: 1/4 and 3/4.
    distance, by_chance = drift(np.array([0, 0, 0, 1, 0, 1, 1, 1]), 4, 2)
    assert distance == pytest.approx(0.5)
    assert by_chance >= 0.5  # of 8 articles that is not out of the ordinary
