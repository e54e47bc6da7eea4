from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from tests.cli.conftest import Run
from tests.tiny import write_tiny_corpus, write_tiny_encoder

RECIPE = """
name = "tiny"

[[data.corpora]]
name = "tiny"
train = "train.jsonl"
test = "test.jsonl"

[[data.tasks]]
name = "section"

[teacher]
encoder = "{encoder}"

[compare]
labelled = 10_000
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[Path]:
    write_tiny_corpus(tmp_path / "train.jsonl", 200)
    write_tiny_corpus(tmp_path / "test.jsonl", 40, seed=1)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(encoder=write_tiny_encoder(tmp_path / "encoder")))
    AcceleratorState._reset_state(True)  # another test may have left its precision
    yield path
    AcceleratorState._reset_state(True)


def test_a_comparison_that_makes_no_sense_is_one_message(recipe: Path, newsie: Run) -> None:
    folder = recipe.parent
    code, out, err = newsie("compare", recipe, "-o", folder / "out", "--data", folder)
    assert (code, out) == (1, "")
    assert "arm 'gold' wants 10,000 labelled articles; there are" in err
    assert "Traceback" not in err


def test_help_names_the_table(newsie: Run) -> None:
    assert "[compare]" in newsie("compare", "--help").out
    assert "[search]" in newsie("search", "--help").out


def test_a_file_in_place_of_the_folder_is_a_wrong_usage(recipe: Path, newsie: Run) -> None:
    code, _, err = newsie("compare", recipe, "-o", recipe)
    assert code == 2
    assert "--output" in err


def test_one_seed_is_a_wrong_usage(recipe: Path, newsie: Run) -> None:
    code, _, err = newsie("compare", recipe, "-o", recipe.parent / "out", "--seeds", "1")
    assert code == 2
    assert "--seeds" in err


def test_a_mistake_in_the_table_is_named(recipe: Path, newsie: Run) -> None:
    recipe.write_text(recipe.read_text() + "labeled = 3\n")
    code, _, err = newsie("compare", recipe, "-o", recipe.parent / "out")
    assert code == 1
    assert "compare.labeled: Unexpected keyword argument" in err


def test_what_is_not_installed_is_named_at_once(
    recipe: Path, newsie: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newsie.cli.training.find_spec", lambda name: None)
    code, _, err = newsie("search", recipe, "-o", recipe.parent, "--max-ms", "1", "--max-mb", "10")
    assert code == 1
    assert "a search needs the package 'optuna'" in err
    assert "pip install '.[lab]'  in a checkout" in err
    assert "pip install 'newsie-classifier[lab]'  where Newsie is installed" in err
