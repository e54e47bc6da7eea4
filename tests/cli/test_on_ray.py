from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from newsie.bundles.bundle import read_bundle
from newsie.cli.app import app
from newsie.cli.bulk import Bulk
from newsie.cli.on_ray import _arguments, _Worker
from newsie.inference.classifier import Classifier
from tests.tiny import tiny_articles

ROOT = Path(__file__).parents[2]
FILES, ARTICLES = 4, 600


def write_files(folder: Path) -> None:
    folder.mkdir()
    for number in range(FILES):
        rows = ["id,headline,body"]
        articles = tiny_articles(ARTICLES, seed=number)
        rows += [f"{article.id},{article.headline},{article.body}" for article in articles]
        (folder / f"part-{number}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_a_lost_node_loses_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    write_files(tmp_path / "in")
    journal = tmp_path / "journal.csv"
    folders = [str(tiny_bundle), str(tmp_path / "in"), str(tmp_path / "cluster")]
    arguments = [*folders, str(journal)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.ray_nodes", *arguments],
        cwd=ROOT,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{FILES} of {FILES} files are answered" in done.stderr

    from tests.cli.ray_nodes import read_journal

    assert "alive 1" in done.stdout
    lost = done.stdout.split("lost ")[1].split()[0]
    opened = read_journal(journal)
    (held,) = (file for file, node, _ in opened if node == lost)
    assert len({node for _, node, _ in opened}) == 2  # both nodes were at work
    (_, first, begun), (_, second, gone_on) = (row for row in opened if row[0] == held)
    assert first == lost != second
    assert (begun, gone_on) == (0, 256)  # the end of the window that fills a part of 100
    assert len(opened) == FILES + 1  # nothing else was done twice

    single = ["-f", str(tmp_path / "in" / "*.csv"), "-o", f"{tmp_path / 'single'}/"]
    here = CliRunner().invoke(app, ["classify", "--model", str(tiny_bundle), *single])
    assert here.exit_code == 0, here.output
    names = [path.name for path in sorted((tmp_path / "in").iterdir())]
    for name in names:
        cluster, here_alone = (tmp_path / folder / name for folder in ("cluster", "single"))
        assert len(cluster.read_text(encoding="utf-8").splitlines()) == ARTICLES + 1
        assert cluster.read_bytes() == here_alone.read_bytes()


def test_workers_open_the_same_model_in_the_same_runtime(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    monkeypatch.delenv("NEWSIE_RUNTIME", raising=False)
    bulk = Bulk(Classifier.from_pretrained(tiny_bundle.name), ["mood"], 2, {"id": "key"}, True)
    of_bulk = (["mood"], 2, {"id": "key"}, True, False)  # strict, and CSV safe for spreadsheets
    fingerprint = bulk.classifier.bundle.fingerprint
    found = _arguments(bulk, tiny_bundle.name)
    assert found == (str(tiny_bundle), fingerprint, "onnxruntime", *of_bulk)
    monkeypatch.setenv("NEWSIE_RUNTIME", "fastest")
    assert _arguments(bulk, "owner/name") == ("owner/name", fingerprint, "fastest", *of_bulk)
    assert _arguments(bulk, None)[0] is None


@pytest.mark.parametrize(
    ("model", "fingerprint", "runtime", "said"),
    [
        ("", "0" * 64, "onnxruntime", "another model there"),
        ("/nothing", "", "onnxruntime", "there is no model '/nothing'"),
        ("", "", "tensorrt", "NEWSIE_RUNTIME is 'tensorrt'"),
    ],
)
def test_a_worker_refuses_what_would_answer_otherwise(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    fingerprint: str,
    runtime: str,
    said: str,
) -> None:
    monkeypatch.setenv("NEWSIE_RUNTIME", "onnxruntime")  # is put back behind the test
    own = read_bundle(tiny_bundle).fingerprint
    worker = _Worker(model or str(tiny_bundle), fingerprint or own, runtime, None, None, {}, False)
    batch = {"source": np.array(["a.csv"]), "target": np.array([str(tmp_path / "b.csv")])}
    (refusal,) = worker(batch)["refusal"]
    assert said in refusal
    assert not list(tmp_path.iterdir())


def test_ray_is_for_files(tiny_bundle: Path) -> None:
    command = ["classify", "--model", str(tiny_bundle), "--engine", "ray", "goal"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "answers files into a folder" in done.stderr
