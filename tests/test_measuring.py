"""The commands that measure endurance, cores, runtimes, training and versions: arithmetic, small runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cores, endurance, runtimes, training, versions
from newsie.bundles.bundle import bundled_path, read_bundle
from newsie.errors import InputError
from newsie.labels import IGNORE
from newsie.metrics.evaluation import macro_f1
from newsie.training.model import MultiTaskModel
from tests.tiny import write_tiny_corpus

PARTS = [
    {"part": part, "articles": 100, "seconds": seconds, "articles_per_second": 100 / seconds}
    | {"peak_bytes": peak}
    for part, seconds, peak in ((1, 1.0, 100e6), (2, 1.25, 104e6))
]


def test_the_last_tenth_by_the_first() -> None:
    found = endurance.summarise(PARTS)
    assert found["articles"] == 200
    assert found["articles_per_second"] == pytest.approx(200 / 2.25)
    assert found["speed_last_to_first"] == pytest.approx(0.8)
    assert found["memory_last_to_first"] == pytest.approx(1.04)
    text = endurance.render(found, PARTS)
    assert "0.800 of the first one's speed" in text
    assert "at most 1.05 of the memory: missed." in text


def test_speed_and_memory_must_both_be_flat() -> None:
    steady = [PARTS[0], PARTS[0] | {"peak_bytes": 106e6}]
    assert "missed" in endurance.render(endurance.summarise(steady), steady)
    steady[1] = PARTS[0] | {"peak_bytes": 105e6}
    assert ": met." in endurance.render(endurance.summarise(steady), steady)


def test_articles_that_last(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    monkeypatch.delenv("NEWSIE_DATA", raising=False)
    options = ["--model", str(tiny_bundle), "--articles", "200", "--name", "tiny"]
    endurance.main([*options, "--results", str(tmp_path)])
    found = json.loads((tmp_path / "endurance-tiny.json").read_text(encoding="utf-8"))
    assert [row["articles"] for row in found["measurements"]] == [20] * 10
    assert found["measurements"][-1]["peak_bytes"] >= found["measurements"][0]["peak_bytes"]


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    (articles := tmp_path / "articles").mkdir()
    (articles / "part-0.parquet").write_bytes(b"no Parquet")
    with pytest.raises(RuntimeError, match="nowhere"):
        list(endurance.measure(tmp_path / "nowhere", articles, []))


@pytest.mark.slow
def test_cores(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    monkeypatch.delenv("NEWSIE_DATA", raising=False)
    options = ["--model", str(tiny_bundle), "--name", "tiny", "--articles", "200", "--rounds", "1"]
    cores.main([*options, "--processes", "2", "--results", str(tmp_path)])
    found = json.loads((tmp_path / "cores-tiny.json").read_text(encoding="utf-8"))
    assert [(row["processes"], row["articles"]) for row in found["measurements"]] == [
        (1, 200),
        (2, 200),
    ]
    one, two = (row["articles_per_second"] for row in found["measurements"])
    assert found["summary"]["ratio"]["median"] == pytest.approx(two / one)


def test_ratios_of_runtimes_are_those_of_neighbours() -> None:
    rows = [
        {"articles": 1, "tokens": 8, "runtime": name, "round": number, "rate": rate * number}
        for number in (0, 1, 2, 3)
        for name, rate in (("onnxruntime", 100.0), ("openvino", 150.0))
    ]
    found = runtimes.summarise(rows, 1, 8)
    assert found["onnxruntime"] == {"median": 200, "least": 100, "greatest": 300}
    assert found["ratio"] == {"median": 1.5, "least": 1.5, "greatest": 1.5}
    assert "| 1 x 8 | 200 (100–300) | 300 (150–450) | 1.50 (1.50–1.50) |" in runtimes.render(
        [found]
    )


@pytest.mark.slow
def test_runtimes(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setattr(runtimes, "SHAPES", ((2, 8),))
    monkeypatch.setattr(runtimes, "FIRST_IDS", 50)
    runtimes.main(["--model", str(tiny_bundle), "--rounds", "2", "--results", str(tmp_path)])
    found = json.loads((tmp_path / "runtimes.json").read_text(encoding="utf-8"))
    assert len(found["measurements"]) == 6
    assert found["sides"]["all"]["bundle"] == read_bundle(tiny_bundle).fingerprint


@pytest.mark.parametrize("fused", [True, False])
def test_an_arm_without_fused_steps_has_none(fused: bool, tiny_student: MultiTaskModel) -> None:
    optimizer = training.optimizer_of(training.Arm("tried", "fp32", fused=fused), tiny_student)
    assert {group["fused"] for group in optimizer.param_groups} == {fused}
    assert {group["foreach"] for group in optimizer.param_groups} == {False}


@pytest.mark.slow
def test_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEWSIE_DATA", raising=False)
    small = {"n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32}
    monkeypatch.setattr(training, "SHAPE", training.SHAPE | small)
    sizes = ["--articles", "12", "--batch-size", "4", "--rounds", "1"]
    training.main([*sizes, "--results", str(tmp_path)])
    summary = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))["summary"]
    first, *others = summary.values()
    assert first["ratio"]["median"] == 1
    same = [summary[title] for title in ("AdamW weight by weight", "all tokens in the last layer")]
    for found in same:
        assert found["loss"]["median"] == pytest.approx(first["loss"]["median"], abs=0.02)
    assert len(others) == 5


def test_the_change_of_the_mean_is_that_of_the_tasks() -> None:
    random = np.random.default_rng(1)
    gold = {"a": random.integers(0, 3, 400), "b": random.integers(0, 2, 400)}
    gold["b"][200:] = IGNORE
    worse = {task: np.where(random.random(400) < 0.3, 0, column) for task, column in gold.items()}
    best = {task: np.maximum(column, 0) for task, column in gold.items()}
    found = versions.mean_macro_f1_change(worse, best, gold, resamples=200)
    known = gold["b"] != IGNORE
    wanted = (macro_f1(worse["a"], gold["a"]) + macro_f1(worse["b"][known], gold["b"][known])) / 2
    assert found["before"] == pytest.approx(wanted)
    assert found["after"] == 1
    low, high = found["interval"]
    assert 0 < low < 1 - wanted < high
    same = versions.mean_macro_f1_change(best, best, gold, resamples=20)
    assert same["interval"] == [0, 0]


def test_versions(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from pyarrow import json as table
    from pyarrow import parquet

    for seed, corpus in enumerate(("newsapi", "nyt", "clickbait")):
        lines = write_tiny_corpus(tmp_path / corpus / "test.jsonl", 40, seed)
        parquet.write_table(table.read_json(lines), tmp_path / corpus / "test.parquet")
    bundle = str(tiny_bundle)
    versions.main([bundle, bundle, "--data", str(tmp_path), "--results", str(tmp_path)])
    assert "| **mean** |" in capsys.readouterr().out
    found = json.loads((tmp_path / "versions.json").read_text(encoding="utf-8"))
    assert [row["task"] for row in found["measurements"]] == ["section", "mood"]
    for row in found["measurements"]:
        assert row["accuracy"]["before"] == row["accuracy"]["after"]
        low, high = row["macro_f1"]["interval"]
        assert low < 0 < high  # of a few articles, equal answers do not show that models are equal


def test_versions_of_other_labels_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"different labels; give two that have the same"):
        versions.compare(read_bundle(tiny_bundle), read_bundle(bundled_path()), tmp_path, 10)
