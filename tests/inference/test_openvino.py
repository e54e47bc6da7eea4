from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from newsie.bundles.bundle import bundled_path, read_bundle
from newsie.errors import BundleError, InputError, MissingExtraError
from newsie.graph.graph import Graph
from newsie.inference.classifier import Classifier
from newsie.inference.openvino import OpenVinoSession, choose_session
from tests.broken_openvino import break_openvino
from tests.tiny import tiny_articles

ARTICLES = tiny_articles(60, seed=4)


class Asleep:
    """A session that takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, NDArray[np.int64]], /
    ) -> list[NDArray[np.float32]]:
        if self.seconds:  # sleeping for 0 seconds lets other processes run first
            time.sleep(self.seconds)
        return []


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a measurement is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def graph(tiny_bundle: Path) -> Graph:
    return Graph.read(read_bundle(tiny_bundle).model_path)


def test_onnxruntime_is_the_default(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Asleep(0)
    for value in ("", "onnxruntime"):
        monkeypatch.setenv("NEWSIE_RUNTIME", value)
        assert choose_session(session, graph, 1) is session
    monkeypatch.delenv("NEWSIE_RUNTIME")
    assert choose_session(session, graph, 1) is session


def test_another_runtime_is_unknown(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWSIE_RUNTIME", "tensorrt")
    with pytest.raises(InputError, match="'tensorrt'; give one of onnxruntime, openvino, fastest"):
        Classifier.from_pretrained(tiny_bundle)


def test_where_openvino_is_not_installed(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    session = Asleep(0)
    monkeypatch.setenv("NEWSIE_RUNTIME", "fastest")
    assert choose_session(session, graph, 1) is session
    monkeypatch.setenv("NEWSIE_RUNTIME", "openvino")
    with pytest.raises(MissingExtraError, match=r"\[openvino\]"):
        choose_session(session, graph, 1)


def test_the_fastest_is_onnxruntime_where_openvino_is_broken(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_openvino(tmp_path, monkeypatch)
    monkeypatch.setenv("NEWSIE_RUNTIME", "fastest")
    session = Asleep(0)
    with pytest.warns(UserWarning, match=r"ONNX Runtime is used instead: libtbb\.so\.12"):
        assert choose_session(session, graph, 1) is session


def test_the_fastest_is_onnxruntime_where_openvino_cannot_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    monkeypatch.setenv("NEWSIE_RUNTIME", "fastest")
    session = Asleep(0)
    with pytest.warns(UserWarning, match="ONNX Runtime is used instead"):
        assert choose_session(session, Graph.read(tmp_path / "model.onnx"), 1) is session


def test_answers_are_those_of_onnxruntime(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    wanted = Classifier.from_pretrained(tiny_bundle).classify(ARTICLES)
    monkeypatch.setenv("NEWSIE_RUNTIME", "openvino")
    found = Classifier.from_pretrained(tiny_bundle, threads=2).classify(ARTICLES)
    for task in ("section", "mood"):
        apart = [
            np.abs(one.probabilities[task] - two.probabilities[task]).max()
            for one, two in zip(wanted, found, strict=True)
        ]
        # int8 activations have 7 bits, and the tiny student magnifies what it gets.
        assert max(apart) < 0.05
        assert np.mean(apart) < 0.01
        same = [one.label(task) == two.label(task) for one, two in zip(wanted, found, strict=True)]
        assert np.mean(same) > 0.95


def test_as_many_activations_share_a_scale_as_the_widths_allow(graph: Graph) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")

    def group_size(graph: Graph) -> int:
        found = OpenVinoSession(graph, 1)._compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")
        return int(found)

    assert (
        group_size(Graph.read(bundled_path() / "model.onnx")) == 128
    )  # its layers are 384 and 1,536 wide
    assert group_size(graph) == 32


def test_threads_do_not_disturb_each_other(graph: Graph) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    session = OpenVinoSession(graph, 2)
    batches = [np.full((2, length), length, np.int64) for length in range(3, 30)]

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return session.run(["section"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]

    alone = [run(ids) for ids in batches]
    with ThreadPoolExecutor(4) as executor:
        for one, other in zip(alone, executor.map(run, batches), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_faster_one_is_taken_and_remembered(
    graph: Graph, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setenv("NEWSIE_RUNTIME", "fastest")
    slow, fast = Asleep(0.3), Asleep(0)
    assert isinstance(choose_session(slow, graph, 1), OpenVinoSession)
    assert isinstance(choose_session(fast, graph, 1), OpenVinoSession)
    shutil.rmtree(cache)
    assert choose_session(fast, graph, 1) is fast
    assert choose_session(slow, graph, 1) is slow


@pytest.mark.parametrize("there", ["a file", "a damaged one"])
def test_nothing_has_to_be_remembered(
    graph: Graph, cache: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setenv("NEWSIE_RUNTIME", "fastest")
    if there == "a file":
        cache.touch()  # where the folder should be
    else:
        (cache / "newsie").mkdir(parents=True)
        (cache / "newsie" / "runtimes.json").write_text("{")
    assert isinstance(choose_session(Asleep(0.3), graph, 1), OpenVinoSession)


def test_a_graph_that_openvino_cannot_read(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx: it is not an ONNX graph"):
        OpenVinoSession(Graph.read(broken), 1)
