"""Models that cannot be served: the old one stays, the answer says why, and nothing is left open."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from newsie import BundleError, Classifier, copy_bundle
from newsie.bundles.bundle import bundled_path
from newsie.inference.student import Student
from newsie.serving.rehearsal import rehearse
from newsie.serving.service import Service
from newsie.serving.settings import Settings
from tests.serving.live import Live, live, process, wait_until
from tests.serving.test_hot_swap import ASK, KEY, write_other
from tests.tiny import LABELS

Change = Callable[[dict[str, Any]], object]


def reseal(directory: Path, change: Change) -> None:
    """Change a manifest, and seal it like one that was written so."""
    path = directory / "newsie.json"
    content = json.loads(path.read_text("utf-8"))
    content.pop("sha256")
    change(content)
    text = json.dumps(content, indent=2, ensure_ascii=False).removesuffix("\n}")
    raw = text.encode("utf-8", "surrogatepass")
    seal = hashlib.sha256(raw).hexdigest()
    path.write_bytes(raw + f',\n  "sha256": "{seal}"\n}}\n'.encode())


def endless_graph(path: Path) -> None:
    """A graph of the tiny tasks whose loop takes years."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"])
        for name in ("input_ids", "attention_mask")
    ]
    constants = [
        numpy_helper.from_array(np.array(10**15, np.int64), "trips"),
        numpy_helper.from_array(np.array(True), "go"),
        numpy_helper.from_array(np.array(0.0, np.float32), "first"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    scalar = (TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64)
    number, flag, count = scalar
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still_on"]),
            helper.make_node("Add", ["sum", "sum"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", count, []),
            helper.make_tensor_value_info("on", flag, []),
            helper.make_tensor_value_info("sum", number, []),
        ],
        [
            helper.make_tensor_value_info("still_on", flag, []),
            helper.make_tensor_value_info("next", number, []),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["trips", "go", "first"], ["last"], body=body),
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["batch"]),
    ]
    outputs = []
    for task in LABELS.tasks:
        name, labels = task.name, len(task.labels)
        constants.append(numpy_helper.from_array(np.array([labels], np.int64), f"{name}_labels"))
        nodes += [
            helper.make_node("Concat", ["batch", f"{name}_labels"], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", ["last", f"{name}_shape"], [name]),
        ]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", labels]))
    graph = helper.make_graph(nodes, "endless", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def write_endless(bundle: Path, directory: Path) -> Path:
    path = copy_bundle(bundle, directory).path
    endless_graph(path / "model.onnx")
    raw = (path / "model.onnx").read_bytes()
    record = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    reseal(path, lambda content: content["files"].update({"model.onnx": record}))
    return path


CHANGES: dict[str, Change] = {
    "surrogate_label": lambda c: c["label_space"][0]["labels"].__setitem__(0, "\ud800"),
    "no_label": lambda c: c["label_space"][0]["labels"].__setitem__(0, None),
    "surrogate_name": lambda c: c.update(name="\ud800"),
    "no_calibration": lambda c: c["calibration"].update(section=float("nan")),
    "tiny_calibration": lambda c: c["calibration"].update(section=1e-320),
    "no_tokens": lambda c: c["encoding"].update(max_tokens=0),
    "control_name": lambda c: c.update(name="a\r\nSet-Cookie: x=1"),
    "number_as_label": lambda c: c["label_space"][0]["labels"].__setitem__(0, 1),
}


@pytest.fixture(scope="module")
def models(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("faulty")
    write_other(tiny_bundle, directory / "other")
    for name, change in CHANGES.items():
        reseal(copy_bundle(tiny_bundle, directory / name).path, change)
    copy_bundle(tiny_bundle, directory / "tiny")
    write_endless(tiny_bundle, directory / "endless")
    return directory


@pytest.fixture
def server(tiny_classifier: Classifier, models: Path) -> Iterator[Live]:
    with live(tiny_classifier, api_key=KEY, models_dir=models, load_timeout_seconds=60) as found:
        yield found


def choose(server: Live, name: str) -> httpx.Response:
    with server.client(**{"X-API-Key": KEY}) as client:
        return client.post("/admin/model", json={"model": name})


def newsie_threads() -> int:
    return sum(thread.name.startswith("newsie") for thread in threading.enumerate())


@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_cannot_be_served_changes_nothing(
    server: Live, models: Path, name: str
) -> None:
    with server.client(**{"X-API-Key": KEY}) as client:
        assert choose(server, "other").status_code == 200  # its calibration differs from theirs
        fingerprint = client.post("/v1/classify", json=ASK).json()["model"]  # starts its threads
    before = newsie_threads()
    answer = choose(server, name)
    assert (answer.status_code, answer.json()["reason"]) == (422, "bundle")
    assert f"{name!r} cannot be used, and the old one stays: " in answer.json()["error"]
    assert str(models) not in answer.text  # no place on this machine is told
    with server.client(**{"X-API-Key": KEY}) as client:
        for path in ("/info", "/metrics", "/health/ready"):
            assert client.get(path).status_code == 200
        found = client.post("/v1/classify", json=ASK)
        assert found.json()["model"] == fingerprint
    wait_until(lambda: newsie_threads() == before, 5)


def test_the_answer_says_what_is_wrong(server: Live) -> None:
    assert "calibration" in choose(server, "no_calibration").json()["error"]


@pytest.mark.parametrize(
    ("attribute", "value"), [("name", "\ud800"), ("name", None), ("fingerprint", None)]
)
def test_the_rehearsal_builds_every_answer(
    tiny_classifier: Classifier, attribute: str, value: object
) -> None:
    service = Service(Settings())
    model = service.prepare(tiny_classifier)
    try:
        rehearse(service, model)
        setattr(model, attribute, value)
        with pytest.raises(BundleError, match="cannot be served: its answer to "):
            rehearse(service, model)
    finally:
        model.discard()


def test_a_model_that_never_gets_ready_is_given_up(
    tiny_classifier: Classifier, models: Path
) -> None:
    """The old one stays, and another one can be loaded although the thread goes on."""
    options = "--models-dir", str(models), "--model", str(models / "other")
    environment = {"NEWSIE_API_KEY": KEY, "NEWSIE_LOAD_TIMEOUT_SECONDS": "2"}
    with (
        process(*options, environment=environment) as (started, url, _),
        httpx.Client(
            base_url=url, headers={"X-API-Key": KEY}, trust_env=False, timeout=30
        ) as client,
    ):
        before = client.get("/info").json()["model_sha"]
        answer = client.post("/admin/model", json={"model": "endless"})
        assert (answer.status_code, answer.json()["reason"]) == (422, "bundle")
        assert "not ready within 2 s (setting load_timeout_seconds)" in answer.json()["error"]
        assert client.get("/info").json()["model_sha"] == before
        assert client.post("/v1/classify", json=ASK).status_code == 200
        again = client.post("/admin/model", json={"model": "other"})
        assert (again.status_code, again.json()["changed"]) == (200, False)
    assert started.returncode == 0


def test_a_server_whose_first_model_never_gets_ready_ends_with_one_line(models: Path) -> None:
    command = [sys.executable, "-m", "newsie", "serve", "--port", "0"]
    done = subprocess.run(
        [*command, "--model", str(models / "endless")],
        env=os.environ | {"NEWSIE_LOAD_TIMEOUT_SECONDS": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith(("{", "newsie: http"))
    ]
    assert len(lines) == 1
    assert re.search(r"was not ready within 2 s \(setting load_timeout_seconds\)", lines[0])


def students() -> list[Student]:
    return [thing for thing in gc.get_objects() if type(thing) is Student]


def test_what_is_swapped_out_is_freed_without_the_garbage_collector(server: Live) -> None:
    """A model takes too much memory to wait for a collector that counts objects."""
    first = weakref.ref(server.app.state.service.current)
    gc.collect()
    held = len(students())  # by fixtures
    gc.disable()
    try:
        for name in ("other", "surrogate_label", "tiny", "surrogate_name", "other"):
            choose(server, name)
        # The one that answers is left: none of those that failed, nor those in between.
        wait_until(lambda: first() is None and len(students()) == held + 1, 10)
        assert server.app.state.service.current.classifier._model in students()
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_60_swaps_under_load_leave_memory_flat(tmp_path: Path) -> None:
    """The bundled student, some 40 MB in memory, so that one model that stays would show."""
    copy_bundle(bundled_path(), tmp_path / "first")
    second = copy_bundle(bundled_path(), tmp_path / "second").path
    reseal(second, lambda content: content["calibration"].update(section=1.9))
    options = "--models-dir", str(tmp_path), "--model", str(tmp_path / "first"), "--threads", "1"
    headers = {"X-API-Key": KEY}
    with process(*options, environment={"NEWSIE_API_KEY": KEY}) as (started, url, _):
        client = httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60)
        ended, codes = threading.Event(), set[int]()

        def load() -> None:
            while not ended.wait(0.05):
                answer = httpx.post(
                    url + "/v1/classify", json=ASK, headers=headers, trust_env=False, timeout=60
                )
                codes.add(answer.status_code)

        thread = threading.Thread(target=load)
        thread.start()
        sizes = []
        try:
            for number in range(60):
                name = ("second", "first")[number % 2]
                assert client.post("/admin/model", json={"model": name}).json()["changed"]
                status = Path(f"/proc/{started.pid}/status").read_text()
                sizes.append(int(status.split("RssAnon:")[1].split()[0]) / 1024)
        finally:
            ended.set()
            thread.join()
            client.close()
        print(f"RssAnon after 10, 20, ... 60 swaps: {[round(size) for size in sizes[9::10]]} MB")
        assert codes == {200}
        assert max(sizes[40:]) < max(sizes[:20]) + 20
