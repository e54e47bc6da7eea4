"""What README and tutorial show is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of each fenced block of a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (page.name, text) for page in PAGES for text in pattern.findall(page.read_text("utf-8"))
    ]


def commands() -> list[str]:
    """Command lines of README and tutorial that end by themselves, each once; not those that train,
    which take minutes. The reference pages show more, on files that are not there."""
    lines = [
        line.split(" #")[0].strip()
        for page, text in blocks("sh")
        if page in ("README.md", "tutorial.md")
        for line in text.splitlines()
    ]
    return [
        line
        for line in dict.fromkeys(lines)
        if re.match(r"newsie (classify|confusion|doctor|evaluate|explain)", line)
    ]


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python_blocks_run(page: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(text, page, "exec"), names)
    assert "classifier" in names


@pytest.mark.parametrize("command", commands())
def test_commands_run(command: str, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "articles.csv").symlink_to(ROOT / "data" / "sample" / "articles.csv")
    if "--model runs/" in command:
        pytest.skip("needs the bundle that the tutorial trains, which takes minutes")
    result = subprocess.run(
        [sys.executable, "-m", "newsie", *shlex.split(command)[1:]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout or "-o" in command


def test_there_is_something_to_run() -> None:
    assert len(blocks("python")) >= 2
    assert len(commands()) >= 5


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, *ROOT.glob("*/README.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_two_commands_stand_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for start in ("python3 -m venv .venv ", "python3 -m venv .venv-dev "):
        assert len(re.findall(f"^{re.escape(start)}", text, re.MULTILINE)) == 1
