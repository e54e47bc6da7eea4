from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newsie.data.articles import Article
from newsie.inference.classifier import Classifier
from tests.cli.conftest import Run
from tests.tiny import PANICS, tiny_articles, write_panicking_bundle

FIELDS = ["id", "headline", "body"]
ARTICLES = tiny_articles(30)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "articles.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(FIELDS)
        writer.writerows([article.id, article.headline, article.body] for article in ARTICLES)
    return path


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- texts ----------------------------------------------------------------------------------------


def test_a_table_for_people(newsie: Any, tiny_classifier: Classifier) -> None:
    code, out, err = newsie("classify", "goal cup !", "probe orbit")
    assert (code, err) == (0, "")
    first, second = (block.splitlines() for block in out.split("\n\n"))
    assert (first[0], second[0]) == ("goal cup !", "probe orbit")
    assert [line.split()[0] for line in first[1:] if not line.startswith("   ")] == [
        "section",
        "mood",
    ]
    (wanted,) = tiny_classifier.classify(["goal cup !"])
    shown = [row for task in wanted.tasks for row in wanted.top(task, 3) if row[1] >= 0.01]
    assert len(first) == 1 + len(shown)
    label, score = wanted.top("section", 1)[0]
    assert first[1].split()[:4] == ["section", label, f"{100 * score:.0f}", "%"]
    assert abs(first[1].count("█") - 40 * score) <= 1


def test_labels_of_a_table_may_be_fewer(newsie: Any) -> None:
    assert len(newsie("classify", "goal", "-k", "1").out.splitlines()) == 1 + 2
    assert len(newsie("classify", "goal", "--top-k", "9").out.splitlines()) == 1 + 3 + 2


def test_json_is_what_python_gives(newsie: Any, tiny_classifier: Classifier) -> None:
    code, out, err = newsie("classify", "goal cup", "probe\nthe orbit", "--json")
    assert (code, err) == (0, "")
    wanted = tiny_classifier.classify(["goal cup", "probe\nthe orbit"])
    assert rows_of(out) == [
        {"id": "", "headline": headline, "predictions": found.to_json(), "truncated": False}
        for headline, found in zip(["goal cup", "probe"], wanted, strict=True)
    ]


def test_only_some_tasks(newsie: Any) -> None:
    (row,) = rows_of(newsie("classify", "goal", "--task", "mood", "--json", "-k", "1").out)
    assert list(row["predictions"]) == ["mood"]
    assert len(row["predictions"]["mood"]) == 1
    (row,) = rows_of(
        newsie("classify", "goal", *("--task", "mood", "--task", "section") * 2, "--json").out
    )
    assert list(row["predictions"]) == ["mood", "section"]


def test_an_unknown_task_is_wrong_usage_and_names_the_closest(newsie: Any) -> None:
    code, out, err = newsie("classify", "goal", "--task", "sections")
    assert (code, out) == (2, "")
    assert "no task 'sections'; it has: section, mood. Did you mean section?" in err
    assert "Did you mean" not in newsie("classify", "goal", "--task", "xyz").err


def test_control_sequences_do_not_reach_the_terminal(newsie: Any) -> None:
    out = newsie("classify", "goal \x1b[31mred\x07 cup").out
    assert out.splitlines()[0] == "goal [31mred cup"
    assert "\x1b" not in newsie("classify", "goal \x1b]0;x\x07", "--json").out


def test_long_headlines_are_shortened_on_the_page(
    newsie: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    first = newsie("classify", "goal " * 20).out.splitlines()[0]
    assert len(first) <= 40
    assert first.endswith("…")
    wide = newsie("classify", "进" * 60).out.splitlines()[0]
    assert wide == "进" * 19 + "…"


def test_truncation_is_said_in_one_line(newsie: Any) -> None:
    code, out, err = newsie("classify", "goal " * 40, "cup", "--json")
    assert (code, [row["truncated"] for row in rows_of(out)]) == (0, [True, False])
    assert err == (
        "1 of 2 articles are longer than the model reads (32 tokens); the rest of each was not "
        "read\n"
    )


@pytest.mark.parametrize("text", ["", " ", "\0"])
def test_no_text_is_a_failure(newsie: Any, text: str) -> None:
    code, out, err = newsie("classify", text)
    assert (code, out) == (1, "")
    assert err.startswith("newsie: article number 1 has neither a headline nor a body")
    assert err.count("\n") == 1


# --- files and standard input ---------------------------------------------------------------------


def test_a_file(newsie: Any, file: Path, tiny_classifier: Classifier) -> None:
    code, out, err = newsie("classify", "--file", file, "--json")
    assert code == 0
    assert err.splitlines()[0] == "columns: headline <- 'headline', body <- 'body', id <- 'id'"
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [article.id for article in ARTICLES]
    wanted = tiny_classifier.classify([Article(a.headline, a.body) for a in ARTICLES])
    assert [row["predictions"]["mood"][0]["label"] for row in rows] == [
        found.label("mood") for found in wanted
    ]


def test_the_damage_of_a_file_is_told_once(newsie: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"headline": "goal cup"}, {"headline": ', encoding="utf-8")
    code, out, err = newsie("classify", "-f", tmp_path / "a.json", "--json")
    assert (code, len(rows_of(out))) == (1, 1)
    assert err.count("Expecting value") == 1
    assert err.endswith("a.json was not read to its end, only up to row 2\n")


def test_columns_that_may_hold_the_headline_are_named(newsie: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Kopf,text,a,b,c,d,e\ngoal,cup,,,,,\n", encoding="utf-8")
    code, _, err = newsie("classify", "-f", tmp_path / "a.csv", "--json")
    assert code == 0
    assert err == "columns: body <- 'text'; no headline among: 'Kopf', 'a', 'b', 'c', 'd', ...\n"
    code, _, err = newsie(
        "classify", "-f", tmp_path / "a.csv", "--json", "--columns", "headline=Kopf"
    )
    assert err == "columns: headline <- 'Kopf', body <- 'text'\n"


def test_columns_can_be_named(newsie: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Kopf,Inhalt=Text\ngoal,the cup\n", encoding="utf-8")
    options = ("--columns", "headline=Kopf", "--columns", "body=Inhalt=Text")
    code, out, err = newsie("classify", "-f", tmp_path / "a.csv", "--json", *options)
    assert (code, rows_of(out)[0]["headline"]) == (0, "goal")
    assert err == "columns: headline <- 'Kopf', body <- 'Inhalt=Text'\n"
    code, _, err = newsie("classify", "-f", tmp_path / "a.csv")
    assert code == 1
    assert "Kopf" in err
    code, _, err = newsie("classify", "-f", tmp_path / "a.csv", "--columns", "headline=Title")
    assert code == 1
    assert "Title" in err


@pytest.mark.parametrize("pair", ["headline", "=Kopf", "headline="])
def test_columns_are_pairs(newsie: Any, file: Path, pair: str) -> None:
    code, _, err = newsie("classify", "-f", file, "--columns", pair)
    assert code == 2
    assert f"{pair!r} is not FIELD=COLUMN" in err


def test_bad_rows_are_skipped_and_told(newsie: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,headline\n1,goal\n2,\n3,cup,more\n4,orbit\n")
    code, out, err = newsie("classify", "-f", tmp_path / "a.csv", "--json")
    assert (code, [row["id"] for row in rows_of(out)]) == (0, ["1", "4"])
    assert "2 rows skipped" in err
    assert "row 3" in err
    code, _, err = newsie("classify", "-f", tmp_path / "a.csv", "--json", "--strict")
    assert code == 1
    assert "row 2" in err.splitlines()[-1]


def test_no_row_can_be_used(newsie: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,headline\n1,\n2,\n")
    code, out, err = newsie("classify", "-f", tmp_path / "a.csv", "--json")
    assert (code, out) == (1, "")
    assert "no article could be classified" in err.splitlines()[-1]


def test_standard_input(newsie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"goal cup\nprobe orbit\n")
    assert len(rows_of(newsie("classify", "-", "--json").out)) == 2
    stdin(monkeypatch, b'{"id": "a", "title": "goal"}\n{"id": "b", "title": "cup"}\n')
    assert [row["id"] for row in rows_of(newsie("classify", "-", "--json").out)] == ["a", "b"]
    stdin(monkeypatch, b"")
    code, _, err = newsie("classify", "-")
    assert code == 1
    assert "stdin" in err


def test_no_such_file(newsie: Any, tmp_path: Path) -> None:
    code, out, err = newsie("classify", "-f", tmp_path / "nothing.csv")
    assert (code, out) == (1, "")
    assert err == f"newsie: {tmp_path / 'nothing.csv'}: there is no such file\n"


# --- usage ----------------------------------------------------------------------------------------


def test_texts_or_a_file(newsie: Any, file: Path) -> None:
    assert newsie("classify").code == newsie("classify", "goal", "-f", file).code == 2
    assert "neither was given" in newsie("classify").err
    assert "both was given" in newsie("classify", "goal", "-f", file).err
    assert newsie("classify", "goal", "-").code == 2
    assert newsie("classify", "goal", "-k", "0").code == 2
    assert newsie("classify", "goal", "--nonsense").code == 2


def test_the_name_of_a_file_is_not_a_headline(newsie: Any, file: Path) -> None:
    for text in (file, file.parent):
        code, _, err = newsie("classify", text)
        assert code == 2
        assert f"--file {text}" in " ".join(err.replace("│", " ").split())
    code, _, err = newsie("classify", "articels.csv")
    assert code == 2
    assert "there is no such file" in err
    assert newsie("classify", "goal at the cup.com").code == 0


@pytest.mark.parametrize("text", ["क" * 120 + ".क", "goal. " + "x" * 5_000, "goal\0.x"])
def test_a_text_may_be_longer_than_the_name_of_a_file(newsie: Any, text: str) -> None:
    assert newsie("classify", text).code == 0
    code, out, err = newsie("classify", "-f", text + ".csv")
    assert (code, out) == (1, "")
    assert err.startswith("newsie: ")
    assert newsie("classify", "goal", "--model", text).code == 1


# --- files that are written -----------------------------------------------------------------------


def test_output_as_json_lines(newsie: Any, file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    code, out, err = newsie("classify", "-f", file, "-o", target)
    assert (code, out) == (0, "")
    assert f"30 predictions written to {target}" in err.splitlines()
    assert target.read_text(encoding="utf-8") == newsie("classify", "-f", file, "--json").out


def test_output_as_csv(
    newsie: Any, file: Path, tmp_path: Path, tiny_classifier: Classifier
) -> None:
    assert newsie("classify", "-f", file, "-o", tmp_path / "out.csv").code == 0
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = ["id", "headline", "section", "section_score", "mood", "mood_score", "truncated"]
    assert list(rows[0]) == names
    wanted = tiny_classifier.classify([Article(a.headline, a.body) for a in ARTICLES])
    for row, article, found in zip(rows, ARTICLES, wanted, strict=True):
        assert (row["id"], row["section"]) == (article.id, found.label("section"))
        assert float(row["mood_score"]) == pytest.approx(found.confidence("mood"), abs=1e-5)


def test_output_as_parquet(newsie: Any, file: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    assert newsie("classify", "-f", file, "-k", "2", "-o", tmp_path / "out.parquet").code == 0
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 30
    assert table.column_names[2:6] == ["section", "section_score", "section_2", "section_2_score"]
    scores = table.to_pydict()
    assert all(a >= b for a, b in zip(scores["mood_score"], scores["mood_2_score"], strict=True))


def test_a_failure_leaves_no_file_and_the_one_before_as_it_was(newsie: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,headline\n1,goal\n2,\n")
    for before in (None, "old"):
        if before:
            (tmp_path / "out.jsonl").write_text(before)
        names = {path.name for path in tmp_path.iterdir()}
        code, _, _ = newsie(
            *("classify", "-f", tmp_path / "a.csv", "--strict", "--overwrite"),
            *("-o", tmp_path / "out.jsonl"),
        )
        assert code == 1
        assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "out.jsonl").read_text() == "old"


def test_an_output_that_cannot_be_written(newsie: Any, file: Path, tmp_path: Path) -> None:
    for target, reason in (
        (file / "out.jsonl", f"there is no folder {file}"),
        (tmp_path / "none" / "out.csv", f"there is no folder {tmp_path / 'none'}"),
        (tmp_path / ("x" * 300 + ".csv"), "File name too long"),
    ):
        code, out, err = newsie("classify", "goal", "-o", target)
        assert (code, out) == (1, "")
        assert err == f"newsie: {target} cannot be written: {reason}\n"


def test_an_output_to_the_terminal_is_json(newsie: Any, file: Path) -> None:
    wanted = newsie("classify", "-f", file, "--json")
    assert newsie("classify", "-f", file, "-o", "-") == wanted
    assert newsie("classify", "-f", file, "-o", "-", "--json") == wanted


def test_outputs_that_contradict(newsie: Any, file: Path, tmp_path: Path) -> None:
    code, _, err = newsie("classify", "goal", "--json", "-o", tmp_path / "out.csv")
    assert code == 2
    assert "--json asks for JSON Lines" in err
    assert newsie("classify", "goal", "--json", "-o", tmp_path / "out.jsonl").code == 0
    before = file.read_bytes()
    code, _, err = newsie("classify", "-f", file, "-o", file)
    assert code == 2
    assert "is the file that is read" in err
    assert file.read_bytes() == before


def test_an_output_of_an_unknown_kind(newsie: Any, tmp_path: Path) -> None:
    code, _, err = newsie("classify", "goal", "-o", tmp_path / "out.xls")
    assert code == 1
    assert ".xls" in err
    assert ".parquet" in err


# --- models ---------------------------------------------------------------------------------------


def test_the_option_comes_before_the_environment(newsie: Any, tiny_bundle: Path) -> None:
    assert newsie("classify", "goal", "--model", tiny_bundle).code == 0
    code, out, err = newsie("classify", "goal", "--model", tiny_bundle / "nothing")
    assert (code, out) == (1, "")
    assert "allowed are a directory" in err


def test_csv_is_safe_for_a_spreadsheet_unless_asked_otherwise(newsie: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "+1", "headline": "=1+1 goal"}) + "\n")
    for name, options, cell in (("a.csv", [], "'=1+1 goal"), ("b.csv", ["--raw-csv"], "=1+1 goal")):
        for source in (["--file", tmp_path / "in.jsonl"], ["=1+1 goal"]):
            out = tmp_path / name
            assert newsie("classify", *source, "-o", out, "--overwrite", *options).code == 0
            content = out.read_bytes()
            assert content.startswith(b"\xef\xbb\xbf") is (not options)
            assert f",{cell}," in content.decode("utf-8-sig")
            assert newsie("classify", "--file", out, "--json").code == 0
    printed = json.loads(newsie("classify", "--file", tmp_path / "a.csv", "--json").out)
    assert (printed["id"], printed["headline"]) == ("", "=1+1 goal")


def test_a_pipe_is_answered_like_its_file(
    newsie: Any, tmp_path: Path, pipe: Callable[[bytes], Path]
) -> None:
    content = b"headline,body\nGoal,Cup won\nProbe,In orbit\n"
    (tmp_path / "a.csv").write_bytes(content)
    expected = newsie("classify", "--file", tmp_path / "a.csv", "--json").out
    assert newsie("classify", "--file", pipe(content), "--json").out == expected
    output = tmp_path / "out.jsonl"
    assert newsie("classify", "--file", pipe(content), "-o", output).code == 0
    assert output.read_text() == expected


def test_a_pipe_is_not_answered_into_a_folder(newsie: Any, tmp_path: Path) -> None:
    for source in (("--file", "-"), ("-",)):
        code, _, err = newsie("classify", *source, "-o", f"{tmp_path}/out/")
        assert code == 2
        assert "is a folder" in err


def test_a_panic_of_the_tokenizer_is_one_line(
    newsie: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = write_panicking_bundle(tiny_bundle, tmp_path / "panicking")
    for command in ("classify", "explain"):
        outcome = newsie(command, PANICS, "--model", bundle)
        assert outcome.code == 1
        assert "tokenizer.json fails on article number 1: leave the article out" in outcome.err
        assert "Traceback" not in outcome.err
