from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bulk, command, explain
from benchmarks.attributions import Attributions, Reading
from benchmarks.corpus import SAMPLE, article_files, take_articles
from benchmarks.distilbert import write_distilbert
from benchmarks.entry import run_command
from benchmarks.processes import run
from benchmarks.report import Spread, circumstances, ratios, table, without_folders, write_report
from newsie.data.articles import Article
from newsie.data.readers import read_articles
from newsie.errors import ReadError
from newsie.inference.classifier import Classifier
from newsie.training.model import MultiTaskModel
from tests.tiny import write_tiny_corpus

MB = 2**20
SMALL = {"n_layers": 1, "dim": 16, "n_heads": 2, "hidden_dim": 16}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_distilbert(tmp_path_factory.mktemp("distilbert"), **SMALL)


def test_a_run_measures_the_process_and_not_its_parent() -> None:
    held = bytearray(b"x") * (300 * MB)
    idle = run([sys.executable, "-c", "print('answer')"])
    large = run([sys.executable, "-c", f"bytearray(b'x') * {200 * MB}"])
    assert idle.output == "answer\n"
    assert idle.peak_bytes < 100 * MB < len(held)
    assert 200 * MB < large.peak_bytes < 300 * MB


def test_a_run_measures_time() -> None:
    asleep = run([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert asleep.seconds >= 0.5 > asleep.cpu_seconds


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="broken on purpose"):
        run([sys.executable, "-c", "raise SystemExit('broken on purpose')"])


def test_ratios_are_those_of_pairs() -> None:
    # The machine was slow during the second pair: 4, 4, 5, and not 20 / 5 medians apart.
    assert ratios([20, 80, 25], [5, 20, 5]) == Spread(4.0, 4.0, 5.0)


def test_a_spread_in_words() -> None:
    assert Spread.of([3e6, 1e6, 2e6]).text(1, 1e6) == "2.0 (1.0–3.0)"


def test_a_table() -> None:
    assert table(["", "x"], [["a", "1"]]) == "|  | x |\n| --- | --- |\n| a | 1 |\n"


@pytest.mark.parametrize("busy", [True, False])
def test_results_of_a_busy_machine_say_so(busy: bool, tmp_path: Path) -> None:
    report = circumstances("tried", [])
    report["machine"]["busy"] = busy
    write_report(tmp_path, report | {"sides": {}, "summary": {}, "measurements": []}, "# Tried\n")
    text = (tmp_path / "tried.md").read_text(encoding="utf-8")
    assert ("not to be quoted" in text) is busy
    assert "python -m benchmarks.tried" in text


def test_articles_begin_again_with_new_ids() -> None:
    sample = read_articles(SAMPLE)
    articles = take_articles(article_files(None), len(sample) + 3)
    assert len({article.id for article in articles}) == len(sample) + 3
    assert [a.headline for a in articles] == [a.headline for a in [*sample, *sample[:3]]]


def test_a_file_without_articles_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("headline\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="holds no article"):
        take_articles([empty], 1)


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5"])
def test_numbers_of_runs(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--runs", given])
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_command(tiny_bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    options = ["--runs", "1", "--model", str(tiny_bundle), "--distilbert", str(checkpoint)]
    command.main([*options, "--results", str(tmp_path)])
    found = json.loads((tmp_path / "command.json").read_text(encoding="utf-8"))
    order = [(row["run"], row["side"]) for row in found["measurements"]]
    assert order == [(0, "newsie"), (0, "pipeline"), (1, "newsie"), (1, "pipeline")]
    newsie, pipeline = found["measurements"][2:]
    # Whatever the machine is doing, a process with PyTorch takes more memory than one without.
    assert newsie["peak_bytes"] < pipeline["peak_bytes"]
    quotient = pipeline["seconds"] / newsie["seconds"]
    assert found["summary"]["ratio"]["seconds"]["median"] == pytest.approx(quotient)
    assert found["sides"]["pipeline"]["packages"].keys() >= {"torch", "transformers"}
    assert "| ratio |" in (tmp_path / "command.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_bulk(
    tiny_bundle: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEWSIE_DATA", raising=False)
    options = ["--articles", "50", "--sample", "3", "--rounds", "1", "--format", "jsonl"]
    models = ["--model", str(tiny_bundle), "--distilbert", str(checkpoint)]
    bulk.main([*options, *models, "--results", str(tmp_path)])
    found = json.loads((tmp_path / "bulk.json").read_text(encoding="utf-8"))
    counts = {row["side"]: row["articles"] for row in found["measurements"]}
    assert list(counts.items()) == list(zip(bulk.SIDES, (3, 5, 3, 50), strict=True))
    single = found["measurements"][0]
    assert single["dtype"] == "torch.float32"
    assert single["seconds"] < single["process_seconds"]
    assert found["articles"]["source"] == "data/sample, repeated"
    assert "50 articles" in (tmp_path / "bulk.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_explain(
    tiny_bundle: Path,
    tiny_student: MultiTaskModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_student.save(tmp_path)
    corpus = write_tiny_corpus(tmp_path / "tiny.jsonl", 12)
    models = ["--student", str(tmp_path), "--model", str(tiny_bundle), "--file", str(corpus)]
    explain.main([*models, "--articles", "8", "--steps", "64", "--results", str(tmp_path)])
    found = json.loads((tmp_path / "explain.json").read_text(encoding="utf-8"))
    rows = found["measurements"]
    assert {row["task"] for row in rows} == {"section", "mood"}
    agreement = found["summary"]["all"]["agreement"]["word left out"]
    # int8 and float students are nearly the same model, and chance knows nothing of it.
    assert agreement["word left out, float"]["mean"] > 0.9
    assert abs(agreement["chance"]["mean"]) < 0.4
    section = [row["loss"]["chance"]["left out"] for row in rows if row["task"] == "section"]
    mean = found["summary"]["section"]["loss"]["chance"]["left out"]["mean"]
    assert mean == pytest.approx(np.mean(section))
    assert found["summary"]["section"]["agreement"]["word left out"]["chance"]["articles"] == 8
    assert "| section | word left out |" in capsys.readouterr().out


def test_integrated_gradients_are_complete(tiny_bundle: Path, tiny_student: MultiTaskModel) -> None:
    """Sundararajan et al. 2017, proposition 1: they sum to what the answer differs from the baseline's."""
    tools = Attributions(Classifier.from_pretrained(tiny_bundle), tiny_student, steps=256)
    ids = tools.read(Article("goal cup derby", "the keeper says"), 128).ids
    reading = Reading(
        ids, np.arange(len(ids)), len(ids)
    )  # every token a word, the special ones too
    found = tools.integrated_gradients(reading, "section", 1)
    whole, empty = tools.float_probabilities([ids, [0] * len(ids)])["section"][:, 1]
    assert found.sum() == pytest.approx(whole - empty, abs=0.01)
    assert abs(whole - empty) > 0.05


@pytest.mark.parametrize(
    "error", [ReadError("news.csv", "is empty"), FileNotFoundError("news.csv")]
)
def test_what_the_user_can_mend_ends_a_benchmark_with_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> None:
        raise error

    monkeypatch.delenv("NEWSIE_DEBUG", raising=False)
    with pytest.raises(SystemExit, match=r"^newsie: news\.csv"):
        run_command(main)
    monkeypatch.setenv("NEWSIE_DEBUG", "1")
    with pytest.raises(type(error)):
        run_command(main)


def test_a_mistake_in_a_benchmark_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: print(1 // 0))


def test_commands_are_told_without_folders() -> None:
    given = [
        "--data",
        "/home/me/news",
        "--rung",
        "nano=/models/a/nano",
        "--run",
        "runs/default",
        "3/4",
    ]
    wanted = ["--data", ".../news", "--rung", "nano=.../nano", "--run", "runs/default", "3/4"]
    assert [without_folders(argument) for argument in given] == wanted
    assert circumstances("tried", given)["command"].endswith(" ".join(wanted))
