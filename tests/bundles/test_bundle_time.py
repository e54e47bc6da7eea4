from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from newsie.bundles.bundle import Bundle, write_bundle
from newsie.data.encoding import EncodingPolicy
from tests.tiny import LABELS, tiny_tokenizer

Write = Callable[[str], Bundle]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a bundle of a given name into a new folder; its graph is no graph, and is not run."""
    (tmp_path / "model.onnx").write_bytes(b"a graph")

    def write(folder: str) -> Bundle:
        return write_bundle(
            tmp_path / folder,
            name="tiny",
            label_space=LABELS,
            encoding=EncodingPolicy(max_tokens=32),
            calibration={"section": 2.0, "mood": 1.0},
            model=tmp_path / "model.onnx",
            tokenizer=tiny_tokenizer().to_str(),
            card="# tiny\n",
        )

    return write


def test_bundles_of_one_source_date_are_equal_to_the_last_byte(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    one, two = write("one"), write("two")
    assert one.manifest.created == "2023-11-14T22:13:20+00:00"
    names = sorted(os.listdir(one.path))
    assert names == sorted(os.listdir(two.path))
    for name in names:
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


@pytest.mark.parametrize("value", ["", "yesterday"])
def test_without_a_source_date_a_bundle_is_of_now(
    write: Write, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    created = datetime.fromisoformat(write("one").manifest.created)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=5)
    assert created.tzinfo == UTC
