from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newsie.data.articles import Article
from newsie.inference.classifier import Classifier
from tests.tiny import tiny_articles, write_tiny_corpus


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tiny_corpus(tmp_path / "tiny.jsonl", 80)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_figures_are_those_of_the_predictions(
    newsie: Any, file: Path, tiny_classifier: Classifier
) -> None:
    code, out, err = newsie("evaluate", file, "--json")
    assert code == 0
    assert err.startswith("columns: headline <- 'headline'")
    found = json.loads(out)
    articles = tiny_articles(80)
    predictions = tiny_classifier.classify([Article(a.headline, a.body) for a in articles])
    for task in ("section", "mood"):
        labelled = [
            prediction.label(task) == article.labels[task]
            for article, prediction in zip(articles, predictions, strict=True)
            if task in article.labels
        ]
        assert found["tasks"][task]["support"] == len(labelled) < 80
        assert found["tasks"][task]["accuracy"] == pytest.approx(sum(labelled) / len(labelled))
    assert (found["articles"], found["unknown_labels"]) == (80, {})


def test_a_table_for_people(newsie: Any, file: Path) -> None:
    out = newsie("evaluate", file).out.splitlines()
    figures = json.loads(newsie("evaluate", file, "--json").out)["tasks"]["section"]
    assert out[0].split() == [
        *("task", "articles", "no", "label", "unknown", "accuracy", "macro-F1", "labels", "ECE")
    ]
    without = json.loads(newsie("evaluate", file, "--json").out)["without_label"]["section"]
    assert without == 80 - figures["support"] > 0
    row = ["section", str(figures["support"]), str(without), "0", f"{figures['accuracy']:.3f}"]
    assert out[1].split()[:5] == row
    assert "3 of 3" in out[1]
    assert [line.split()[0] for line in out[1:3]] == ["section", "mood"]
    assert len({line.index("0.") for line in out[1:3]}) == 1


def test_only_some_tasks(newsie: Any, file: Path) -> None:
    found = json.loads(newsie("evaluate", file, "--json", "--task", "mood").out)
    assert list(found["tasks"]) == ["mood"]
    assert newsie("evaluate", file, "--task", "moods").code == 2


def test_labels_that_the_model_does_not_know_are_counted(newsie: Any, tmp_path: Path) -> None:
    rows = [{"headline": "goal", "section": label} for label in ["sports", "weather", "weather"]]
    code, out, err = newsie("evaluate", write(tmp_path / "a.jsonl", rows), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["tasks"]["section"]["support"] == 1
    assert found["unknown_labels"] == {"section": {"weather": 2}}
    assert "section: 2 articles left out" in err
    assert "'weather' (2)" in err
    table = newsie("evaluate", tmp_path / "a.jsonl").out.splitlines()
    assert table[1].split()[:4] == ["section", "1", "0", "2"]  # articles, no label, unknown
    assert "1 of 3" in table[1]
    assert "[1.000, 1.000]" not in table[1]


def test_labels_in_another_spelling_are_hinted_at_before_the_work_and_mapped(
    newsie: Any, tmp_path: Path
) -> None:
    labels = ["Sports", "sprots", "weather", "sports"]
    rows = [{"headline": "goal", "section": label} for label in labels]
    path = write(tmp_path / "a.jsonl", rows)
    _, _, err = newsie("evaluate", path)
    lines = err.splitlines()
    hint = next(i for i, line in enumerate(lines) if "--map Sports=sports" in line)
    assert "the model does not know the label 'Sports' (1 articles)" in lines[hint]
    assert hint < next(i for i, line in enumerate(lines) if "articles left out" in line)
    assert "--map sprots=sports" in err
    assert "--map weather" not in err
    mapped = newsie("evaluate", path, "--map", "Sports=sports", "--map", "sprots=sports", "--json")
    assert mapped.code == 0
    assert json.loads(mapped.out)["tasks"]["section"]["support"] == 3
    assert "--map" not in mapped.err


def test_a_mapping_that_maps_nothing_is_refused(newsie: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"headline": "goal", "section": "Sport"}])
    found = newsie("evaluate", path, "--map", "Sport=sport")
    assert found.code == 2
    assert "Did you mean sports?" in " ".join(found.err.split())
    found = newsie("evaluate", path, "--map", "Sprot=sports")
    assert found.code == 1
    assert "--map names the label 'Sprot', which no row of" in found.err
    assert "did you mean 'Sport'?" in found.err
    assert newsie("evaluate", path, "--map", "Sport").code == 2


def test_only_unknown_labels_are_a_failure(newsie: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"headline": "goal", "section": "weather"}])
    code, out, err = newsie("evaluate", path)
    assert (code, out) == (1, "")
    assert "no article has a gold label that the model knows" in err.splitlines()[-1]


def test_a_file_without_the_column_of_a_task(newsie: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"headline": "goal", "section": "sports"}])
    code, out, err = newsie("evaluate", path, "--json")
    assert (code, list(json.loads(out)["tasks"])) == (0, ["section"])
    assert "not measured, no such column: mood (column 'mood')" in err
    code, out, err = newsie("evaluate", path, "--task", "mood")
    assert (code, out) == (1, "")
    assert "no gold labels for mood (column 'mood'); its columns: headline, section" in err


def test_a_file_without_any_gold_labels(newsie: Any, tmp_path: Path) -> None:
    code, out, err = newsie("evaluate", write(tmp_path / "a.jsonl", [{"headline": "goal"}]))
    assert (code, out) == (1, "")
    assert "no gold labels for section" in err


def test_the_column_of_gold_labels_can_be_named(newsie: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,Ressort\ngoal cup,sports\nbank bond,business\n")
    code, _, err = newsie("evaluate", tmp_path / "a.csv", "--task", "section")
    assert (code, "say which one it is: --columns section=COLUMN" in err) == (1, True)
    columns = ("--columns", "section=Ressort")
    code, out, err = newsie("evaluate", tmp_path / "a.csv", *columns, "--json")
    assert err.startswith("columns: headline <- 'title'; gold labels: section <- 'Ressort'\n")
    assert (code, list(json.loads(out)["tasks"])) == (0, ["section"])
    code, _, err = newsie("evaluate", tmp_path / "a.csv", "--task", "mood", *columns)
    assert (code, "a column is named for section" in err) == (2, True)


def test_an_empty_column(newsie: Any, tmp_path: Path) -> None:
    row = {"headline": "goal", "section": "sports", "mood": ""}
    code, out, err = newsie("evaluate", write(tmp_path / "a.jsonl", [row]), "--json")
    assert (code, list(json.loads(out)["tasks"])) == (0, ["section"])
    assert "mood: not measured, no article has a label in column 'mood'" in err
    row["section"] = ""
    code, _, err = newsie("evaluate", write(tmp_path / "b.jsonl", [row]))
    assert code == 1
    assert "no article has a gold label" in err


def test_bad_rows_are_skipped_and_told(newsie: Any, tmp_path: Path) -> None:
    rows = [{"headline": "goal", "section": "sports"}, {"headline": "", "section": "sports"}]
    code, _, err = newsie("evaluate", write(tmp_path / "a.jsonl", rows))
    assert code == 0
    assert "1 rows skipped" in err or "1 row skipped" in err
    assert newsie("evaluate", tmp_path / "a.jsonl", "--strict").code == 1


def test_no_such_file(newsie: Any, tmp_path: Path) -> None:
    code, out, err = newsie("evaluate", tmp_path / "nothing.csv")
    assert (code, out) == (1, "")
    assert "no such file" in err


def test_a_pipe_is_read_once(newsie: Any, file: Path, pipe: Callable[[bytes], Path]) -> None:
    code, out, err = newsie("evaluate", pipe(file.read_bytes()), "--json")
    assert code == 0, err
    assert json.loads(out) == json.loads(newsie("evaluate", file, "--json").out)


def test_several_labels_in_a_cell_are_told(newsie: Any, tmp_path: Path) -> None:
    labels = ["sports", "science", "sports|science", "business|sports"]
    rows = [{"headline": "goal", "section": label} for label in labels]
    code, out, err = newsie("evaluate", write(tmp_path / "a.jsonl", rows), "--json")
    assert (code, json.loads(out)["tasks"]["section"]["support"]) == (0, 2)
    assert "section: 2 labels are several labels joined by '|' (2 articles)" in err
