from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from newsie.bundles.bundle import read_bundle, write_bundle
from newsie.cli import answered
from newsie.inference.classifier import Classifier
from newsie.labels import LabelRule, LabelSpace, Task
from tests.tiny import tiny_articles, write_tiny_corpus


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tiny_corpus(tmp_path / "tiny.jsonl", 150)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def relabelled(bundle: Path, directory: Path, name: str, tasks: tuple[Task, ...]) -> Path:
    """The tiny bundle with other tasks for its two outputs, of 3 and 2 labels."""
    old = read_bundle(bundle)
    model = onnx.load(old.model_path)
    names = {output.name: task.name for output, task in zip(model.graph.output, tasks, strict=True)}
    for output in model.graph.output:
        output.name = names[output.name]
    for node in model.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
    renamed = directory.with_suffix(".onnx")
    onnx.save(model, renamed)
    return write_bundle(
        directory,
        name=name,
        label_space=LabelSpace(tasks),
        encoding=old.manifest.encoding,
        calibration={task.name: 1.0 for task in tasks},
        model=renamed,
        tokenizer=old.tokenizer_path.read_text("utf-8"),
        card="# other\n",
    ).path


def test_figures_are_those_of_the_predictions(
    newsie: Any, file: Path, tiny_classifier: Classifier, tmp_path: Path
) -> None:
    code, out, err = newsie("confusion", file, "-o", tmp_path / "report")
    assert code == 0, err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    articles = tiny_articles(150)
    predictions = tiny_classifier.classify(articles)
    section = found["tasks"][0]
    labels = tiny_classifier.labels["section"].labels
    assert (found["articles"], section["task"], section["labels"]) == (150, "section", [*labels])
    counts = np.zeros((3, 3), int)
    for article, prediction in zip(articles, predictions, strict=True):
        if "section" in article.labels:
            row = labels.index(article.labels["section"])
            counts[row, labels.index(prediction.label("section"))] += 1
    assert section["hard"]["counts"] == counts.tolist()
    assert out.splitlines()[0] == "150 articles of tiny.jsonl"
    told = " ".join(line.strip() for line in out.splitlines()[1:])
    assert [sentence in told for sentence in found["summary"]] == [True] * len(found["summary"])
    assert found["model"] == {"name": "tiny", "fingerprint": tiny_classifier.bundle.fingerprint}


def test_answers_are_put_together_from_pieces(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answered, "BLOCK", 16)
    articles = tiny_articles(50)
    found = answered.Answered([tiny_classifier.labels["section"]], None)
    found.read(articles, tiny_classifier)
    predictions = tiny_classifier.classify(articles, tasks=["section"])
    expected = np.stack([prediction.probabilities["section"] for prediction in predictions])
    assert found.probabilities("section") == pytest.approx(expected, abs=1e-6)


def test_articles_that_are_shown_are_there_and_no_others(
    newsie: Any, file: Path, tmp_path: Path
) -> None:
    newsie("confusion", file, "-o", tmp_path / "report")
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    articles = tiny_articles(150)
    shown = {row for task in found["tasks"] for cell in task["cells"] for row in cell["rows"]}
    shown |= {a["row"] for task in found["tasks"] for pair in task["pairs"] for a in pair["border"]}
    assert shown <= {int(row) for row in found["texts"]}
    assert len(found["texts"]) < 150
    for row, text in found["texts"].items():
        assert text["id"] == articles[int(row)].id


def test_files_of_the_report(newsie: Any, file: Path, tmp_path: Path) -> None:
    code, _, err = newsie("confusion", file, "-o", tmp_path / "a" / "report", "--task", "section")
    assert code == 0
    names = {path.name for path in (tmp_path / "a" / "report").rglob("*.*")}
    assert {"confusion.json", "report.html", "section-confusion.png", "section-labels.svg"} <= names
    assert not any(name.startswith("mood") for name in names)
    assert "report.html" in err.splitlines()[-1]
    # Again into the same folder.
    assert newsie("confusion", file, "-o", tmp_path / "a" / "report", "--task", "section").code == 0


def test_suspect_labels_are_listed_in_a_file(
    newsie: Any, tiny_classifier: Classifier, tmp_path: Path
) -> None:
    articles = tiny_articles(300)
    answers = tiny_classifier.classify(articles, tasks=["section"])
    labels = tiny_classifier.labels["section"].labels
    rows = [
        {"id": a.id, "headline": a.headline, "body": a.body, "section": answer.label("section")}
        for a, answer in zip(articles, answers, strict=True)
    ]
    sure = sorted(range(300), key=lambda i: -answers[i].confidence("section"))[:20]
    for i in sure:  # the model's answers, but for 20 that it is sure of
        rows[i]["section"] = labels[(labels.index(rows[i]["section"]) + 1) % 3]
    path = write(tmp_path / "a.jsonl", rows)
    assert newsie("confusion", path, "-o", tmp_path / "report", "--task", "section").code == 0
    with (tmp_path / "report" / "section-suspects.csv").open(encoding="utf-8-sig") as stream:
        found = list(csv.DictReader(stream))
    assert 5 <= len(found) <= 20
    by_id = {row["id"]: row for row in rows}
    for row in found:
        assert row["id"] in {rows[i]["id"] for i in sure}
        assert row["gold"] == by_id[row["id"]]["section"] != row["predicted"]
        answer = answers[[article.id for article in articles].index(row["id"])]
        assert row["predicted"] == answer.label("section")
        assert float(row["score"]) == pytest.approx(answer.confidence("section"), rel=1e-5)


def test_without_gold_labels_the_report_is_smaller_and_says_so(newsie: Any, tmp_path: Path) -> None:
    rows = [{"headline": article.headline} for article in tiny_articles(60)]
    path = write(tmp_path / "a.jsonl", rows)
    code, _, err = newsie("confusion", path, "-o", tmp_path / "report")
    assert code == 0
    assert "section, mood: There are no gold labels to go by" in err
    assert (
        "section: the file has no column 'section', where its gold labels would be; --columns "
        "section=COLUMN names another."
    ) in err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    assert [task["hard"] for task in found["tasks"]] == [None, None]
    assert found["tasks"][0]["soft"]["rows"] == "predicted"


def test_gold_labels_that_the_model_does_not_know(newsie: Any, tmp_path: Path) -> None:
    rows = [{"headline": "goal", "section": label} for label in ["sports", "weather", "weather"]]
    path = write(tmp_path / "a.jsonl", rows)
    code, _, err = newsie("confusion", path, "-o", tmp_path / "report", "--task", "section")
    assert code == 0
    assert (
        "section: the gold labels of 2 articles are left out, the model does not know 'weather' (2)."
    ) in err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    assert (found["tasks"][0]["labelled"], len(found["left_out"])) == (1, 1)


def test_articles_left_out_stand_in_the_table(newsie: Any, tmp_path: Path) -> None:
    rows = [
        {"headline": "goal", "section": label}
        for label in ["sports", "science", "weather", "weather", "rain", "", ""]
    ]
    rows += [{"headline": "goal"}]
    path = write(tmp_path / "a.jsonl", rows)
    code, out, err = newsie("confusion", path, "-o", tmp_path / "report", "--task", "section")
    assert code == 0, err
    header, row = out.splitlines()[-2:]
    assert header.split() == ["task", "articles", "no", "label", "unknown"]
    assert row.split() == ["section", "2", "3", "3"]
    assert "section: 3 articles of 8 have no gold label" in err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    assert (found["without_label"], found["unknown_label"]) == ({"section": 3}, {"section": 3})
    assert found["tasks"][0]["labelled"] == 2


def test_labels_in_another_spelling_are_hinted_at_before_the_work_and_mapped(
    newsie: Any, tmp_path: Path
) -> None:
    labels = ["Sports", "sprots", "weather", "sports"]
    rows = [{"headline": "goal", "section": label} for label in labels]
    path = write(tmp_path / "a.jsonl", rows)
    arguments = ["confusion", path, "-o", tmp_path / "report", "--task", "section"]
    _, _, err = newsie(*arguments)
    assert err.index("--map Sports=sports") < err.index("analysing section")
    assert err.index("--map sprots=sports") < err.index("analysing section")
    assert "--map weather" not in err
    mapped = newsie(*arguments, "--map", "Sports=sports", "--map", "sprots=sports")
    assert mapped.code == 0, mapped.err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    assert (found["tasks"][0]["labelled"], found["unknown_label"]) == (3, {"section": 1})
    assert "--map" not in mapped.err
    wrong = newsie(*arguments, "--map", "Sprot=sports")
    assert wrong.code == 1
    assert "--map names the label 'Sprot', which no row of" in wrong.err
    assert newsie(*arguments, "--map", "Sports=sport").code == 2


def test_gold_labels_in_capitals(newsie: Any, tmp_path: Path) -> None:
    rows = [{"headline": "goal", "section": label} for label in ["weather", "Sports", "SCIENCE"]]
    path = write(tmp_path / "a.jsonl", rows)
    code, _, err = newsie("confusion", path, "-o", tmp_path / "report", "--task", "section")
    assert code == 0
    assert "Labels are told apart by how they are written: 'Sports' is not 'sports'." in err


def test_a_column_that_is_named_must_be_there(newsie: Any, file: Path, tmp_path: Path) -> None:
    code, out, err = newsie("confusion", file, "-o", tmp_path / "r", "--columns", "section=Ressort")
    assert (code, out) == (1, "")
    assert "no column 'Ressort' for the gold labels of section; the columns are: " in err
    assert not (tmp_path / "r").exists()


def test_a_folder_of_an_earlier_report(newsie: Any, tmp_path: Path) -> None:
    """What is there belongs to the new report, or to its reader."""
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "section-suspects.csv").write_text("old", encoding="utf-8")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    path = write(tmp_path / "a.jsonl", [{"headline": "goal"}])
    assert newsie("confusion", path, "-o", folder, "--task", "section").code == 0
    assert not (folder / "section-suspects.csv").exists()
    assert (folder / "notes.txt").read_text("utf-8") == "mine"


@pytest.mark.parametrize("blocked", ["report", "report/figures"])
def test_where_nothing_can_be_written_nothing_is_asked(
    newsie: Any, file: Path, tmp_path: Path, blocked: str
) -> None:
    path = tmp_path / blocked
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file", encoding="utf-8")
    output = tmp_path / "report" / ("inside" if blocked == "report" else "")
    code, out, err = newsie("confusion", file, "-o", output)
    assert (code, out) == (1, "")
    assert f"no report can be written to {output}: " in err
    assert "analysing" not in err


def test_a_folder_that_is_locked(newsie: Any, file: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    output.mkdir(mode=0o500)
    if os.access(output, os.W_OK):
        pytest.skip("root may write anywhere")
    code, _, err = newsie("confusion", file, "-o", output)
    assert code == 1
    assert f"no report can be written to {output}: Permission denied; name another folder" in err
    assert "analysing" not in err


def test_only_unknown_gold_labels(newsie: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"headline": "goal", "section": "weather"}])
    code, _, err = newsie("confusion", path, "-o", tmp_path / "report", "--task", "section")
    assert code == 0
    assert "section: There are no gold labels to go by" in err
    assert "the gold labels of 1 article are left out" in err


def test_another_bundle(newsie: Any, file: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    # The same model with two labels exchanged: it agrees on the third alone.
    labels = ("science", "business", "sports")
    tasks = (Task("section", labels), Task("tone", ("calm", "loud")))
    other = relabelled(tiny_bundle, tmp_path / "other", "other", tasks)
    code, out, err = newsie("confusion", file, "-o", tmp_path / "report", "--against", other)
    assert code == 0, err
    assert "mood: not compared, other does not have this task." in err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    (comparison,) = found["comparisons"]
    assert (comparison["kind"], comparison["a"], comparison["b"]) == ("models", "tiny", "other")
    counts = np.array(comparison["counts"])
    assert counts.sum() == np.trace(counts) == 150  # rows and columns have labels of their own
    assert comparison["labels_b"] == [*labels]
    assert comparison["agreement"]["value"] == pytest.approx(counts[2, 2] / 150, rel=1e-4)
    assert comparison["accuracy"]["a"] == found["tasks"][0]["accuracy"]["value"]
    assert "tiny is right in" in out
    assert found["against"]["name"] == "other"


def test_a_bundle_with_no_task_in_common(
    newsie: Any, file: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    tasks = (Task("subject", ("a", "b", "c")), Task("tone", ("calm", "loud")))
    other = relabelled(tiny_bundle, tmp_path / "other", "other", tasks)
    arguments = ["confusion", file, "-o", tmp_path / "report", "--against", other]
    code, out, err = newsie(*arguments, "--task", "section")
    assert (code, out) == (1, "")
    assert "has none of the tasks section; it has subject, tone" in err


def test_tasks_over_one_column_are_compared(newsie: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    rules = [LabelRule("mood", {"press": press}) for press in ("broadsheet", "tabloid")]
    tasks = (
        Task("section", ("calm", "loud", "new"), rules[0]),
        Task("mood", ("calm", "loud"), rules[1]),
    )
    other = relabelled(tiny_bundle, tmp_path / "press", "press", tasks)
    rows = [
        {"headline": article.headline, "mood": mood, "press": press}
        for article in tiny_articles(40)
        for mood, press in (("calm", "broadsheet"), ("loud", "tabloid"))
    ]
    path = write(tmp_path / "a.jsonl", rows)
    code, out, err = newsie("confusion", path, "-o", tmp_path / "report", "--model", other)
    assert code == 0, err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    (comparison,) = found["comparisons"]
    assert (comparison["kind"], comparison["a"], comparison["b"]) == ("press", "section", "mood")
    assert [task["labelled"] for task in found["tasks"]] == [40, 40]
    assert "mood files" in out


def test_months_and_publishers(newsie: Any, tmp_path: Path) -> None:
    rows = [
        {
            "headline": article.headline,
            "section": article.labels["section"],
            "published": f"2024-0{1 + number % 2}-15",
            "publisher": "The Tiny Times",
        }
        for number, article in enumerate(tiny_articles(200, answered=1.0))
    ]
    path = write(tmp_path / "a.jsonl", rows)
    arguments = ["confusion", path, "-o", tmp_path / "report", "--task", "section", "--by"]
    for by, names in (("month", ["2024-01", "2024-02"]), ("publisher", ["The Tiny Times"])):
        assert newsie(*arguments, by).code == 0
        found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
        groups = found["tasks"][0]["groups"]
        assert (groups["by"], [group["name"] for group in groups["groups"]]) == (by, names)
    assert newsie(*arguments, "weather").code == 2
    bare = write(tmp_path / "b.jsonl", [{"headline": "goal", "section": "sports"}])
    code, _, err = newsie("confusion", bare, "-o", tmp_path / "report", "--by", "month")
    assert code == 0
    assert "No article names its month; --columns published=COLUMN says where that is." in err


def test_an_empty_file_and_no_file(newsie: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("", encoding="utf-8")
    code, out, err = newsie("confusion", empty, "-o", tmp_path / "report")
    assert (code, out) == (1, "")
    assert "the file is empty" in err
    header = tmp_path / "header.csv"
    header.write_text("headline,section\n", encoding="utf-8")
    code, out, err = newsie("confusion", header, "-o", tmp_path / "report")
    assert (code, out) == (1, "")
    assert "no article could be read; rows read: 0" in err
    for given in (["nothing.csv"], ["header.csv", "--against", "nothing.jsonl"]):
        paths = [tmp_path / name if "." in name else name for name in given]
        code, _, err = newsie("confusion", *paths, "-o", tmp_path / "never")
        assert code == 1
        assert "no such file" in err
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("by", ["publisher", "month"])
def test_half_a_surrogate_pair_in_any_field(newsie: Any, tmp_path: Path, by: str) -> None:
    """JSON can write what UTF-8 cannot hold."""
    field = "x\ud800y"
    rows = [
        {"id": field, "headline": field, "publisher": field, "published": field, "section": label}
        for label in ["sports", "science", field] * 60
    ]
    path = write(tmp_path / "a.jsonl", rows)
    code, _, err = newsie("confusion", path, "-o", tmp_path / "report", "--by", by)
    assert code == 0, err
    found = json.loads((tmp_path / "report" / "confusion.json").read_text("utf-8"))
    assert {text["publisher"] for text in found["texts"].values()} == {"x y"}
    assert [group["name"] for group in found["tasks"][0]["groups"]["groups"]] == ["x y"]


def test_wrong_usage(newsie: Any, file: Path, tmp_path: Path) -> None:
    assert newsie("confusion", file).code == 2
    code, _, err = newsie("confusion", "-", "-o", tmp_path / "report")
    assert code == 2
    assert "read twice" in err
    os.mkfifo(pipe := tmp_path / "pipe")
    code, _, err = newsie("confusion", pipe, "-o", tmp_path / "report")
    assert code == 2
    assert "is a pipe" in err
    code, _, err = newsie("confusion", file, "-o", file)
    assert code == 2
    assert "is a file" in err
    several = "headline=Titel,section=Ressort"
    code, _, err = newsie("confusion", file, "-o", tmp_path / "report", "--columns", several)
    assert code == 2
    told = " ".join(err.replace("│", " ").split())
    assert "give each its own: --columns headline=Titel --columns section=Ressort" in told
    assert newsie("confusion", file, "-o", tmp_path / "report", "--task", "moods").code == 2


def test_bad_rows_are_skipped_and_told(newsie: Any, tmp_path: Path) -> None:
    rows = [{"headline": "goal", "section": "sports"}, {"headline": "", "section": "sports"}]
    path = write(tmp_path / "a.jsonl", rows)
    code, _, err = newsie("confusion", path, "-o", tmp_path / "report")
    assert code == 0
    assert "1 row skipped" in err
    assert newsie("confusion", path, "-o", tmp_path / "report", "--strict").code == 1
