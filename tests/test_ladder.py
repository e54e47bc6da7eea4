"""The benchmark of the ladder: its arithmetic, and one small run of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ladder, scale
from benchmarks.chart import draw_chart
from benchmarks.contenders import PEERS, fit_peer
from benchmarks.operations import count_int8_operations
from benchmarks.peers import contender
from newsie.bundles.bundle import read_bundle
from newsie.data.articles import Article
from tests.tiny import tiny_articles

ROWS = [
    {
        "contender": name,
        "length": length,
        "round": number,
        "articles_per_second": rate * number,
        **dict.fromkeys(("p50_ms", "p99_ms"), 1.0),
        "cold_seconds": 20 / rate**0.5,
        "single_bytes": 60e6,
        "peak_bytes": 90e6,
    }
    for number in (1, 2, 3)
    for length in ladder.WORDS
    for name, rate in (("nano", 500.0), ("pipeline", 10.0))
]
ANSWERS: dict[str, dict[str, float]] = {
    "nano": {"accuracy": 0.75, "passed_on": 0.125},
    "pipeline": {},
}
SUMMARY = ladder.summarise(ROWS, ANSWERS, {"nano": 10**7, "pipeline": 1})
CONTENDERS = [
    ladder.Contender("nano", "newsie", Path("nano")),
    ladder.Contender("pipeline", "pipeline", Path("pipeline")),
]


def test_texts_have_so_many_words() -> None:
    articles = [Article("one two", "three four five"), Article("six", "seven")]
    texts = ladder._texts(articles, 4, 3)
    assert texts == ["one two three four", "six seven six seven", "one two three four"]


def test_ratios_are_those_of_the_same_round() -> None:
    times = SUMMARY["nano"]["50 tokens"]["times_pipeline"]
    assert times["articles_per_second"]["median"] == 50
    assert times["cold_seconds"]["median"] == pytest.approx(50**0.5)
    assert SUMMARY["nano"]["250 tokens"]["articles_per_second"]["greatest"] == 1500


def test_every_speed_stands_beside_an_accuracy() -> None:
    limits = {"int8_gops": 1900.0, "fp32_gops": 450.0, "copy_gb_per_second": 6.3}
    text = ladder.render(SUMMARY, CONTENDERS, [limits], "section")
    assert "| **newsie nano** | 75.00 % | 1,000 (500–1,500) | 50.0 |" in text
    assert "| 60 / 90 | 10.0 |" in text
    assert (
        "| **newsie nano** | 250 tokens | 50.0 (50.0–50.0) | 1.0 (1.0–1.0) | 7.1 (7.1–7.1) |"
        in text
    )
    assert "| transformers pipeline, DistilBERT fp32 |  | 20 (10–30) | 1.0 |" in text
    assert "nano passes 12.5 % of the test articles on" in text
    assert "int8 products 1,900 GOPS" in text


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_chart_is_a_picture(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"chart.{ending}"
    draw_chart({"nano": (20_000, 0.75, True), "fastText": (90_000, 0.7, False)}, "Tried", path)
    assert path.stat().st_size > 2_000


def test_operations_by_hand(tiny_bundle: Path) -> None:
    # A token: 4 products of attention (32 x 32) and 2 of the network behind it (32 x 64), in two layers.
    # The last does keys and values for all 7 tokens and the rest for the first; two heads, 3 and 2 labels.
    attention, network = 32 * 32, 32 * 64
    first = 7 * (4 * attention + 2 * network)
    last = 7 * 2 * attention + 2 * attention + 2 * network
    heads = 2 * attention + 32 * 3 + 32 * 2
    found = count_int8_operations(read_bundle(tiny_bundle).model_path, 7)
    assert found == 2 * (first + last + heads)


@pytest.mark.parametrize("given", ["nano", "=x", "nano="])
def test_a_rung_is_a_name_and_a_bundle(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ladder.main(["--data", ".", "--rung", given])
    assert "is not NAME=BUNDLE" in capsys.readouterr().err


def test_a_plan_by_hand() -> None:
    # 1,000,000 articles at 500/s, of which half is kept: 4,000 s on 2 cores.
    need = scale.plan(500, 2, articles=1_000_000, kept=0.5, price=0.1)
    assert need["core_hours"] == pytest.approx(4_000 * 2 / 3_600)
    assert need["machines_for_a_day"] == 1
    assert need["cost"] == pytest.approx(0.2222, abs=1e-4)


def test_a_plan_of_a_busy_machine_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = {"cores": 2, "busy": True, "processor": "A processor"}
    results = {"machine": machine, "date": "2026-01-01", "lengths": list(ladder.WORDS)}
    path = tmp_path / "ladder.json"
    path.write_text(json.dumps(results | {"summary": SUMMARY}), encoding="utf-8")
    scale.main(["--results", str(path), "--articles", "1000000"])
    text = capsys.readouterr().out
    assert "# 1,000,000 articles" in text
    assert "not to be quoted" in text
    assert text.count("| nano | 1,000 |") == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_fitted_and_measured_in_a_process_of_its_own(name: str, tmp_path: Path) -> None:
    if library := {"fasttext": "fasttext", "model2vec": "model2vec"}.get(name):
        pytest.importorskip(library, reason="needs the extra bench")
    pytest.importorskip("sentence_transformers", reason="needs the extra bench")
    articles = tiny_articles(120, seed=1, answered=1.0)
    texts = [f"{article.headline} {article.body}" for article in articles]
    labels = [article.labels["section"] for article in articles]
    folder = fit_peer(name, tmp_path, texts, labels)
    fitted = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert fit_peer(name, tmp_path, [], []) == folder  # what is there is not fitted again
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == fitted
    lines = tmp_path / "texts"
    lines.write_text("".join(json.dumps(text) + "\n" for text in texts[:40]), encoding="utf-8")
    command = [contender.__file__, name, str(folder), str(lines), "2", "inf", "section"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    shutil.rmtree(folder)  # fastText's vectors alone take 760 MB
    assert done.returncode == 0, done.stderr[-2_000:]
    report = json.loads(done.stdout)
    assert report["articles"] == len(report["labels"]) == 40
    assert len(report["latencies_ms"]) == 2
    assert min(report["seconds"], report["cold_seconds"], report["single_bytes"]) > 0
    right = sum(a == b for a, b in zip(report["labels"], labels, strict=False))
    if name == "pipeline":  # its weights are random
        assert all(label.startswith("LABEL_") for label in report["labels"])
    else:
        assert right >= 36


@pytest.mark.slow
def test_a_small_run(tiny_bundle: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    pytest.importorskip("joblib", reason="needs the extra bench")
    from pyarrow import parquet

    (tmp_path / "newsapi").mkdir()
    for split, count in (("train", 120), ("test", 30)):
        rows = [
            {"id": a.id, "headline": a.headline, "body": a.body, "section": a.labels["section"]}
            for a in tiny_articles(count, seed=count, answered=1.0)
        ]
        path = tmp_path / "newsapi" / f"{split}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    options = ["--data", str(tmp_path), "--rung", f"tiny={tiny_bundle}", "--peer", "tfidf"]
    sizes = ["--articles", "20", "--singles", "2", "--rounds", "1"]
    ladder.main([*options, *sizes, "--results", str(tmp_path / "results")])
    found = json.loads((tmp_path / "results" / "ladder.json").read_text(encoding="utf-8"))
    assert [row["contender"] for row in found["measurements"]] == ["tiny", "tfidf"] * 2
    assert found["summary"]["tfidf"]["accuracy"] > 0.7  # its words tell the section
    assert (
        found["summary"]["tiny"]["disk_bytes"] > read_bundle(tiny_bundle).model_path.stat().st_size
    )
    assert [row["int8_gops"] > 0 for row in found["limits"]] == [True, True]  # for each length
    assert 0 < found["summary"]["tiny"]["50 tokens"]["int8_share"]["median"] < 1
    assert "int8_share" not in found["summary"]["tfidf"]["50 tokens"]
    assert (tmp_path / "results" / "ladder-50.svg").exists()
