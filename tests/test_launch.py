from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from tests.tiny import write_tiny_corpus, write_tiny_encoder

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "training" / "launch"
FILES = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".yaml", ".sh"))
CONFIGURATIONS = [path for path in FILES if path.suffix == ".yaml"]
SCRIPTS = [path for path in FILES if path.suffix == ".sh"]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_accelerate_reads_the_file(path: Path) -> None:
    config = load_config_from_file(str(path))  # raises for a key that it does not know
    several = path.stem in ("gpus", "machines", "fsdp")
    assert config.use_cpu == (path.stem == "cpu")
    assert config.distributed_type.value == (
        {"fsdp": "FSDP"}.get(path.stem, "MULTI_GPU") if several else "NO"
    )
    assert (config.num_processes > 1, config.num_machines > 1) == (several, path.stem == "machines")
    assert config.num_processes % config.num_machines == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_shell_reads_the_script(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert os.access(path, os.X_OK)


def test_the_table_names_every_file_and_no_other() -> None:
    text = (LAUNCH / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w-]+\.(?:yaml|sh)\b", text))
    assert named == {path.name for path in FILES}


def test_accelerate_knows_the_options_of_the_table() -> None:
    texts = [path.read_text(encoding="utf-8") for path in [LAUNCH / "README.md", *FILES]]
    commands = re.findall(r"accelerate launch ((?:\\\n|[^`\n])*)", "\n".join(texts))
    options = {option for command in commands for option in re.findall(r"(--\w+) ", command)}
    known = {name for action in launch_command_parser()._actions for name in action.option_strings}
    assert len(commands) >= 5
    assert options - known <= {"--data", "--runs"}


FAKES = {
    # The second name comes late: whoever reads only the first must not end the command by that.
    "scontrol": 'case "$1" in show) echo node0; sleep 0.1; echo node1;; *) echo "$@" >> "$LOG";; esac',
    "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
    "accelerate": 'echo "$@" >> "$LOG"',
}


def test_slurm_starts_accelerate_on_each_node(tmp_path: Path) -> None:
    """The script with stand-ins for Slurm's commands: what accelerate would be given."""
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    environment |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[0-1]", "SLURM_NNODES": "2"}
    environment |= {"SLURM_GPUS_ON_NODE": "4"}
    command = [str(LAUNCH / "slurm.sh"), "recipe.toml", "--data", "a folder"]
    subprocess.run(command, env=environment, check=True)
    shared = "--main_process_ip node0 --main_process_port 29500 -m newsie.training recipe.toml"
    assert (tmp_path / "log").read_text().splitlines() == [
        "launch --multi_gpu --num_machines 2 --num_processes 8 "
        f"--machine_rank {rank} {shared} --data a folder"
        for rank in (0, 1)
    ]


RECIPE = """
name = "tiny"
precision = "fp32"
[data]
validation = 0.1
[[data.corpora]]
name = "tiny"
train = "tiny/train.jsonl"
test = "tiny/test.jsonl"
[[data.tasks]]
name = "section"
[teacher]
encoder = "{encoder}"
fit = {{ epochs = 1, batch_size = 16, max_tokens = 24, evaluations = 1 }}
[student]
max_tokens = 32
fit = {{ epochs = 1, batch_size = 16, max_tokens = 24 }}
"""


@pytest.mark.slow
def test_two_processes_make_a_teacher_and_its_soft_labels(tmp_path: Path) -> None:
    write_tiny_corpus(tmp_path / "data" / "tiny" / "train.jsonl", 120)
    write_tiny_corpus(tmp_path / "data" / "tiny" / "test.jsonl", 20, seed=1)
    encoder = write_tiny_encoder(tmp_path / "bert")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(encoder=encoder))
    command = [str(LAUNCH / "cpus.sh"), "recipe.toml", "--data", "data", "--until", "soft-labels"]
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    environment |= {"PROCESSES": "2", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    (history,) = (tmp_path / "runs" / "tiny").glob("teacher-*/history.json")
    losses = json.loads(history.read_text())["losses"]
    assert losses
    assert len(list((tmp_path / "runs" / "tiny").glob("soft-labels-*/00000.safetensors"))) == 2
