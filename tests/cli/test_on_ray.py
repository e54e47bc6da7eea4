from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from newsie.cli.app import app
from tests.tiny import tiny_articles

ROOT = Path(__file__).parents[2]
FILES, ARTICLES = 8, 1_500


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
    arguments = [str(tiny_bundle), str(tmp_path / "in"), str(tmp_path / "cluster")]
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
    assert "alive 1" in done.stdout  # a node was lost
    assert f"{FILES} of {FILES} files are answered" in done.stderr

    single = ["-f", str(tmp_path / "in" / "*.csv"), "-o", f"{tmp_path / 'single'}/"]
    here = CliRunner().invoke(app, ["classify", "--model", str(tiny_bundle), *single])
    assert here.exit_code == 0, here.output
    names = [path.name for path in sorted((tmp_path / "in").iterdir())]
    for name in names:
        found, wanted = (
            (tmp_path / folder / name).read_text(encoding="utf-8").splitlines()
            for folder in ("cluster", "single")
        )
        assert len(found) == ARTICLES + 1
        assert [_rounded(row) for row in found] == [_rounded(row) for row in wanted]


def _rounded(row: str) -> list[str]:
    """Scores to five digits: sums are rounded otherwise beside other articles."""
    return [f"{float(cell):.5f}" if cell[:2] in ("0.", "1.") else cell for cell in row.split(",")]


def test_ray_is_for_files(tiny_bundle: Path) -> None:
    command = ["classify", "--model", str(tiny_bundle), "--engine", "ray", "goal"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "answers files into a folder" in done.stderr
