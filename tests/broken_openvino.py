"""OpenVINO as it is where a library that it needs is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def break_openvino(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install it into a directory, for the time of a test."""
    for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    about = directory / "openvino-2025.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: openvino\nVersion: 2025.2\n")
    (directory / "openvino.py").write_text("raise ImportError('libtbb.so.12 is missing')\n")
    monkeypatch.syspath_prepend(directory)
