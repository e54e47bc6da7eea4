from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.data.dates import read_date


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2017-01-11", "2017-01-11T00:00:00+00:00"),
        ("2017-01-11T08:00:00Z", "2017-01-11T08:00:00+00:00"),
        ("2017-01-11 08:00:00+05:30", "2017-01-11T02:30:00+00:00"),
        ("20170111", "2017-01-11T00:00:00+00:00"),
        ("201701110830", "2017-01-11T08:30:00+00:00"),
        ("20170111083059", "2017-01-11T08:30:59+00:00"),
        ("20170111T083059Z", "2017-01-11T08:30:59+00:00"),
        ("1484092800", "2017-01-11T00:00:00+00:00"),
        ("1484092800000", "2017-01-11T00:00:00+00:00"),
        ("1484092800000.0", "2017-01-11T00:00:00+00:00"),
        ("1484092800000000", "2017-01-11T00:00:00+00:00"),
        ("1484092800000000000", "2017-01-11T00:00:00+00:00"),
        ("-315619200000", "1960-01-01T00:00:00+00:00"),
        ("204076800000", "1976-06-20T00:00:00+00:00"),
        ("Wed, 11 Jan 2017 08:00:00 GMT", "2017-01-11T08:00:00+00:00"),
        ("Wed, 11 Jan 2017 08:00:00 +0100", "2017-01-11T07:00:00+00:00"),
        ("11 Jan 2017 08:00:00 EST", "2017-01-11T13:00:00+00:00"),
        (" 2017-01-11 ", "2017-01-11T00:00:00+00:00"),
    ],
)
def test_dates_that_files_and_feeds_write(text: str, expected: str) -> None:
    moment = read_date(text)
    assert moment is not None
    assert moment.astimezone(UTC).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "yesterday",
        "2017",
        "1 May",
        "2017-13-01",
        "99999999",
        "1234567",
        "1" * 17,
        "Wed, 99 Jan 2017 08:00:00 GMT",
        "2017-01-11" + " " * 20 + "x" * 60,
        "20171301",
        "0" * 64,
    ],
)
def test_what_is_no_date(text: str | None) -> None:
    assert read_date(text) is None


@given(st.datetimes(datetime(1975, 1, 1), datetime(2099, 1, 1)))
def test_a_moment_is_the_same_in_every_notation(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    seconds = int(moment.timestamp())
    for text in (
        moment.isoformat(),
        format_datetime(moment),
        f"{moment:%Y%m%d%H%M%S}",
        str(seconds),
        f"{seconds}000000",
        f"{seconds}000000000",
    ):
        assert read_date(text) == moment
    # 12 digits, up to 2001, may be a date of the form YYYYMMDDHHMM instead.
    if seconds * 1000 >= 10**12:
        assert read_date(f"{seconds}000") == moment


@given(st.text(max_size=80))
def test_any_text_is_a_moment_with_a_zone_or_none(text: str) -> None:
    moment = read_date(text)
    assert moment is None or moment.utcoffset() is not None


def test_a_long_text_is_no_date_at_once() -> None:
    start = time.process_time()
    assert read_date("Wed, " * 2_000_000) is None
    assert read_date("1" * 10_000_000) is None
    assert time.process_time() - start < 1


def test_a_date_without_a_zone_is_utc_wherever_the_machine_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        moment = read_date("2017-01-11")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert moment == datetime(2017, 1, 11, tzinfo=UTC)


def test_twelve_digits_are_a_date_only_in_this_century_and_the_last() -> None:
    assert read_date("980101010101") == datetime(2001, 1, 21, 18, 16, 50, 101_000, tzinfo=UTC)
