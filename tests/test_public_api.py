from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import newsie
from newsie.errors import NewsieError


def test_names_are_sorted_and_each_named_once() -> None:
    assert newsie.__all__ == sorted(set(newsie.__all__))


@pytest.mark.parametrize("name", newsie.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(newsie, name)
    assert value is getattr(newsie, name)
    if name == "__version__":
        return
    assert inspect.getdoc(value)
    home = importlib.import_module(value.__module__)
    assert getattr(home, name) is value
    assert name in home.__all__


def test_type_checkers_see_the_names_that_there_are() -> None:
    tree = ast.parse(Path(newsie.__file__ or "").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(newsie._HOMES.items())
    assert {name for name, _ in seen} == {*newsie.__all__} - {"__version__"}


def test_every_error_is_public() -> None:
    def below(error: type[NewsieError]) -> set[str]:
        return {error.__name__}.union(*map(below, error.__subclasses__()))

    own = {name for name in below(NewsieError) if hasattr(newsie, name)}
    assert own == {name for name in newsie.__all__ if name.endswith("Error")}
    errors = importlib.import_module("newsie.errors")
    assert own == set(errors.__all__)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        newsie.Clasifier  # noqa: B018


def test_names_are_listed() -> None:
    assert {*newsie.__all__} <= {*dir(newsie)}


def test_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from newsie import *", names)
    assert {*newsie.__all__} == {*names} - {"__builtins__"}


def test_importing_newsie_loads_nothing_else() -> None:
    code = "import sys, newsie; print(*[m for m in sys.modules if m.startswith('newsie')])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert sorted(result.stdout.split()) == ["newsie", "newsie.version"]


def test_importing_newsie_changes_no_environment() -> None:
    code = "import os; before = dict(os.environ); import newsie; assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("given", "kept"), [(None, "24"), ("10", "10")])
def test_blas_spins_for_a_short_time_in_the_command_or_as_its_user_says(
    given: str | None, kept: str
) -> None:
    name = "OPENBLAS_THREAD_TIMEOUT"
    environment = {key: value for key, value in os.environ.items() if key != name}
    if given is not None:
        environment[name] = given
    code = (
        "import os, sys\nfrom newsie.cli import main\nsys.argv = ['newsie', '--version']\n"
        f"try:\n    main()\nfinally:\n    print(os.environ[{name!r}])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[-1] == kept


def test_every_module_says_what_it_is_and_what_it_offers() -> None:
    root = Path(newsie.__file__ or "").parent
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) or not tree.body, path
        named = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        ]
        for names in named:
            assert names == sorted(set(names), key=_as_ruff), path


def _as_ruff(name: str) -> tuple[int, str]:
    """The order of ruff's RUF022: constants, classes (also a single capital), then the rest."""
    constant = len(name) > 1 and name.isupper()
    return (0 if constant else 1 if name[:1].isupper() else 2, name)
