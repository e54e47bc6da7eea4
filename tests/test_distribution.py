"""The name of the distribution. Another project owns `newsie` on PyPI, so nothing may tell people to
install that name."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from newsie.errors import MissingExtraError

ROOT = Path(__file__).parents[1]
NAME = "newsie-classifier"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

REQUIREMENT = re.compile(r"(?<![\w.-])newsie\[\s*[a-z]")
INSTALLED = re.compile(
    r"\b(?:install|download|wheel|add|index versions)\b[^\n`]*?[\s'\"]newsie(?=['\"`\s\[=<>~!,;]|$)"
)
WHEEL = re.compile(r"\bnewsie-(?:\*|\d)\S*\.(?:whl|tar)")


def stranger(line: str) -> bool:
    """Whether a line tells to install the other project."""
    is_command = re.search(r"\b(?:pip|pipx|uv|poetry)\b", line) is not None
    installs = is_command and any(
        "/" not in match[0].split()[-1] for match in INSTALLED.finditer(line)
    )
    return installs or any(pattern.search(line) for pattern in (REQUIREMENT, WHEEL))


@pytest.mark.parametrize(
    "line",
    [
        "pip install newsie",
        "pip install 'newsie[serve]'",
        "type  pip install -U newsie",
        'uv pip install "newsie>=1"',
        "needs newsie[dev]",
        "pip install --no-deps newsie-0.1.0-py3-none-any.whl",
    ],
)
def test_the_old_form_is_recognised(line: str) -> None:
    assert stranger(line)


@pytest.mark.parametrize(
    "line",
    [
        "pip install '.[serve]'",
        "pip install 'newsie-classifier[serve]'",
        "python3 -m venv /opt/newsie && /opt/newsie/bin/pip install .",
        ".venv/bin/pip install . && .venv/bin/newsie classify",
        'newsie["peak_bytes"]',
        "/wheels/newsie_classifier-*.whl",
    ],
)
def test_other_lines_are_not(line: str) -> None:
    assert not stranger(line)


def test_no_tracked_file_names_the_other_project() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if name == "tests/test_distribution.py" or b"\0" in content[:8000]:
            continue
        lines = content.decode("utf-8", "replace").splitlines()
        found += [f"{name}:{n}: {line[:120]}" for n, line in enumerate(lines, 1) if stranger(line)]
    assert not found


def test_the_distribution_and_its_command() -> None:
    assert PROJECT["name"] == NAME
    assert PROJECT["scripts"] == {"newsie": "newsie.cli:main"}
    own = [r for extra in EXTRAS.values() for r in extra if r.startswith("newsie")]
    assert own
    for requirement in own:
        name, _, extras = requirement.rstrip("]").partition("[")
        assert name == NAME
        assert set(extras.split(",")) <= set(EXTRAS)


def test_every_extra_that_an_error_names_is_there() -> None:
    named = set()
    for path in (ROOT / "newsie").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtraError":
                named |= {a.value for a in node.args[2:] if isinstance(a, ast.Constant)}
    assert {"serve", "train", "analysis", "offline"} <= named <= set(EXTRAS)
    message = str(MissingExtraError("serving", "uvicorn", "serve"))
    assert "pip install '.[serve]'  in a checkout" in message
    assert f"pip install '{NAME}[serve]'" in message


def test_the_page_on_installing_names_every_extra() -> None:
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    for extra in EXTRAS:
        assert (f"| `{extra}` |" in page) is (extra not in ("dev", "bench"))
