from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.broken_openvino import break_openvino


def test_much_work_asks_for_the_fastest_runtime(
    newsie: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSIE_RUNTIME", "")  # so that it is put back behind the test
    monkeypatch.delenv("NEWSIE_RUNTIME")
    break_openvino(tmp_path, monkeypatch)
    (tmp_path / "news.csv").write_text("headline\ngoal cup\n", encoding="utf-8")
    command = ["classify", "--file", str(tmp_path / "news.csv"), "-o", str(tmp_path / "out.csv")]
    assert newsie(*command).code == 0  # OpenVINO is not touched, or it would warn
    monkeypatch.setattr("newsie.cli.classify.BULK_BYTES", 1)
    with pytest.warns(UserWarning, match="ONNX Runtime is used instead"):
        assert newsie(*command).code == 0
    monkeypatch.setenv("NEWSIE_RUNTIME", "onnxruntime")
    assert newsie(*command).code == 0
