from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

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
