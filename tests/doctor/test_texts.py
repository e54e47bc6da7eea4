from __future__ import annotations

from pathlib import Path

import pytest

from newsie.doctor.findings import Finding, Severity
from newsie.doctor.texts import check_columns, check_texts, is_foreign, language_detector
from tests.doctor.files import Row, news_file, tiny_rows, write_csv

FOREIGN = (
    "Die Regierung hat am Montag beschlossen, die Steuern zu senken",
    "Le président a annoncé mardi une réforme des retraites en France",
    "El presidente anunció el martes una reforma de las pensiones",
    "महँगाई बढ़ी, सरकार चिंतित है और लोग परेशान हैं इस बात से",
    "中国政府宣布新的经济政策，市场反应积极",
)
ENGLISH = (
    "The minister said on Monday that taxes will be cut by two percent",
    "Bayern München beat Real Madrid in Champions League semi-final",
    "Five dead as storm hits Jharkhand, Chhattisgarh and Uttar Pradesh",
    "“Wow” – ‘OK’…",
    "ok",
)


def check(tmp_path: Path, rows: list[Row]) -> dict[str, Finding]:
    file = news_file(write_csv(tmp_path / "a.csv", rows))
    return {f.code: f for f in (*check_columns(file), *check_texts(file))}


def test_good_texts_give_no_finding(tmp_path: Path) -> None:
    assert not check(tmp_path, tiny_rows(60))


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    rows = tiny_rows(5)
    rows[2] |= {"headline": "", "body": "<p> </p>"}
    found = check(tmp_path, rows)["rows-skipped"]
    assert (found.count, found.details["reasons"]) == (1, {"no text": 1})
    assert found.examples[0].row == 3


def test_short_and_long_texts(tmp_path: Path) -> None:
    rows = tiny_rows(5)
    rows[1] |= {"headline": "goal", "body": "match"}
    rows[3] |= {"body": "shares " * 10_000}
    found = check(tmp_path, rows)
    assert (found["short"].rows, found["long"].rows) == ((2,), (4,))


@pytest.mark.parametrize("text", FOREIGN, ids=["de", "fr", "es", "hi", "zh"])
def test_foreign_texts(text: str) -> None:
    assert is_foreign(text, language_detector())


@pytest.mark.parametrize("text", ENGLISH)
def test_english_texts(text: str) -> None:
    assert not is_foreign(text, language_detector())


def test_foreign_articles_are_a_problem_where_most_are(tmp_path: Path) -> None:
    rows = tiny_rows(5)
    rows[0] |= {"headline": FOREIGN[0], "body": ""}
    found = check(tmp_path, rows)["not-english"]
    assert (found.rows, found.severity) == ((1,), Severity.warning)
    for row in rows[1:4]:
        row |= {"headline": FOREIGN[1], "body": ""}
    assert check(tmp_path, rows)["not-english"].severity is Severity.problem


def test_sentences_that_many_articles_have(tmp_path: Path) -> None:
    rows = tiny_rows(60)
    for row in rows:
        row["body"] = f"{row['headline']} today. More of it follows."
    for row in rows[:12]:
        row["body"] += " Sign up to our newsletter."
    found = check(tmp_path, rows)["boilerplate"]
    assert found.rows == tuple(range(1, 61))
    assert [example.text for example in found.examples] == [
        "more of it follows.",
        "sign up to our newsletter.",
    ]


def test_copies_of_one_article_are_no_boilerplate(tmp_path: Path) -> None:
    rows = tiny_rows(60)
    for row in rows[:20]:
        row |= {"headline": "new cup", "body": "The cup is new again. All of it was gone."}
    assert "boilerplate" not in check(tmp_path, rows)


def test_names_of_sites(tmp_path: Path) -> None:
    rows = tiny_rows(30)
    for row in rows:
        row["headline"] += " | Tiny Times"
    assert check(tmp_path, rows)["site-names"].examples[0].text == "Tiny Times"


@pytest.mark.parametrize("value", ["12345", "2024-05-31 10:00", "https://paper.example/story"])
def test_a_column_that_is_no_text(tmp_path: Path, value: str) -> None:
    found = check(tmp_path, [row | {"headline": value} for row in tiny_rows(5)])["wrong-column"]
    assert found.severity is Severity.problem
    assert "--columns headline=COLUMN" in found.advice


def test_headline_and_body_exchanged(tmp_path: Path) -> None:
    rows = [row | {"headline": "goal " * 60, "body": "goal match cup"} for row in tiny_rows(5)]
    found = check(tmp_path, rows)["columns-swapped"]
    assert "--columns headline=body --columns body=headline" in found.advice


def test_a_file_without_bodies(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "body"} for row in tiny_rows(5)]
    assert check(tmp_path, rows)["no-body"].severity is Severity.note


def test_what_the_reader_noted_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("headline,body,section\nLate goal wins,NaN,sports\nRates rise\n")
    found = {f.code: f for f in check_texts(news_file(path))}["read-with-notes"]
    assert (found.severity, found.count) == (Severity.note, 2)
    assert all(part in found.title for part in ("shorter than the header", "NaN, null or N/A"))
    path.write_bytes("headline,section\nCafé wins the cup,sports\n".encode("cp1252"))
    found = {f.code: f for f in check_texts(news_file(path))}["read-with-notes"]
    assert "Windows-1252" in found.title
