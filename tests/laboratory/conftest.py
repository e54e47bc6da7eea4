from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from newsie.training.config import Recipe, recipe_from
from tests.tiny import write_tiny_corpus, write_tiny_encoder


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny articles to learn from and to measure on, and a tiny encoder."""
    directory = tmp_path_factory.mktemp("data")
    write_tiny_corpus(directory / "train.jsonl", 400)
    write_tiny_corpus(directory / "test.jsonl", 120, seed=1)
    write_tiny_encoder(directory / "bert")
    return directory


def tiny_recipe(data: Path, **changes: Any) -> Recipe:
    """A recipe over the tiny articles; `changes` are tables of it."""
    fit = {"epochs": 2, "batch_size": 16, "max_tokens": 24, "evaluations": 2}
    fit |= {"learning_rate": 2e-3, "head_learning_rate": 5e-3}
    content = {
        "name": "tiny",
        "data": {
            "corpora": [{"name": "tiny", "train": "train.jsonl", "test": "test.jsonl"}],
            "tasks": [{"name": "section"}, {"name": "mood"}],
            "validation": 0.1,
        },
        "precision": "fp32",
        "teacher": {"encoder": str(data / "bert"), "fit": fit},
        "student": {"layers": 1, "max_tokens": 32, "fit": fit},
        "quality": {"max_int8_loss": 50.0},
    }
    return recipe_from(content | changes)
