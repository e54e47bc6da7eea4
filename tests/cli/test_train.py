from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from newsie.bundles.bundle import read_bundle
from newsie.cli.app import app
from newsie.training.metrics_report import read_figures
from tests.tiny import write_tiny_corpus, write_tiny_encoder

RECIPE = """
name = "tiny"
precision = "fp32"

[data]
validation = 0.1

[[data.corpora]]
name = "tiny"
train = "train.jsonl"
test = "test.jsonl"

[[data.tasks]]
name = "section"

[[data.tasks]]
name = "mood"

[teacher]
encoder = "{encoder}"

[teacher.fit]
epochs = 1
batch_size = 16
max_tokens = 24
evaluations = 1

[student]
layers = 1
max_tokens = 32

[student.fit]
epochs = 1
batch_size = 16
max_tokens = 24
evaluations = 1

[quality]
max_int8_loss = 50.0
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    write_tiny_corpus(tmp_path / "train.jsonl", 300)
    write_tiny_corpus(tmp_path / "test.jsonl", 60, seed=1)
    encoder = write_tiny_encoder(tmp_path / "encoder")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(encoder=encoder))
    yield tmp_path
    AcceleratorState._reset_state(True)


def newsie(data: Path, *options: str) -> tuple[int, str, str]:
    runs = str(data / "runs")
    command = ["train", str(data / "recipe.toml"), "--data", str(data), "--runs", runs, *options]
    result = CliRunner().invoke(app, command)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_makes_and_measures_a_bundle(data: Path) -> None:
    options = [
        "-o",
        str(data / "out"),
        "--figures",
        str(data / "figures"),
        "--tracker",
        "tensorboard",
    ]
    code, stdout, stderr = newsie(data, *options)
    assert code == 0, stderr
    assert stdout == f"{data / 'out'}\n"
    assert "tiny train: 300 articles" in stderr
    bundle = read_bundle(data / "out")
    figures = read_figures(data / "figures" / "tiny.json")
    assert {score.task for score in figures.scores} == {"section", "mood"}
    assert "## Figures" in (bundle.path / "README.md").read_text()
    assert "accuracy" in (data / "figures" / "tiny.md").read_text()
    assert list((data / "runs" / "tiny").rglob("events.out.tfevents*"))


def test_ends_at_a_stage(data: Path) -> None:
    code, stdout, _ = newsie(data, "--until", "data")
    assert (code, stdout) == (0, f"{data / 'runs' / 'tiny'}\n")


@pytest.mark.slow
def test_a_student_that_int8_breaks_is_exit_code_3(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = data / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("= 50.0", "= 1e-9"))
    # No accident of rounding: what int8 answers is shuffled.
    lost = {"section": 12.5, "mood": 0.0}
    monkeypatch.setattr("newsie.training.package.accuracy_lost", lambda *_: lost)
    code, stdout, stderr = newsie(data, "-o", str(data / "out"))
    assert (code, stdout) == (3, "")
    assert "int8 loses more than 1e-09 points of accuracy on section" in stderr
    assert not (data / "out").exists()


def test_unknown_and_missing_trackers(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, stderr = newsie(data, "--tracker", "tensorbord")
    assert code == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, stderr = newsie(data, "--tracker", "wandb")
    assert code == 1
    assert "needs the package wandb: type  pip install wandb" in stderr


def test_launchers_get_the_same_exit_codes(data: Path) -> None:
    command = [sys.executable, "-m", "newsie.training", str(data / "none.toml")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=data, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("newsie: cannot read the recipe")
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_two_processes_make_a_bundle(data: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--standalone", "-m", "newsie.training", str(data / "recipe.toml")]
    torchrun += ["--data", str(data), "--runs", str(data / "runs"), "-o", str(data / "out")]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        torchrun, capture_output=True, text=True, env=environment, cwd=data, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{data / 'out'}\n"
    assert read_bundle(data / "out").manifest.name == "tiny"


def test_output_needs_the_last_stage(data: Path) -> None:
    code, _, stderr = newsie(data, "--until", "data", "-o", str(data / "out"))
    assert code == 2
    assert "need the bundle" in stderr


def test_a_mistake_in_the_recipe_is_one_message(data: Path) -> None:
    recipe = data / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("epochs = 1", "epochs = -1", 1))
    code, stdout, stderr = newsie(data)
    assert (code, stdout) == (1, "")
    assert "teacher.fit.epochs: Input should be greater than 0 (given: -1)" in stderr
    assert "Traceback" not in stderr
