from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from newsie import Classifier, LabelSpace, copy_bundle, read_bundle, write_bundle
from newsie.training.export import export_onnx
from newsie.training.model import MultiTaskModel
from tests.serving.live import ROOT, Live, live, process, samples, wait_until
from tests.tiny import LABELS, tiny_encoder

KEY = "0123456789abcdef"
ASK = {"articles": [{"headline": "goal match striker"}, {"headline": "shares profit merger"}]}


def write_other(bundle: Path, directory: Path) -> Path:
    """The same model with other calibration temperatures, and so other answers."""
    given = read_bundle(bundle)
    return write_bundle(
        directory,
        name="other",
        label_space=LABELS,
        encoding=given.manifest.encoding,
        calibration={"section": 0.5, "mood": 3.0},
        model=given.model_path,
        tokenizer=given.tokenizer_path.read_text(),
        card="# other\n",
    ).path


def write_float(bundle: Path, directory: Path) -> Path:
    """A student of the first task alone, not quantised."""
    labels = LabelSpace(LABELS.tasks[:1])
    graph = directory.with_suffix(".onnx")
    export_onnx(MultiTaskModel(tiny_encoder("distilbert"), labels).eval(), graph)
    given = read_bundle(bundle)
    return write_bundle(
        directory,
        name="float",
        label_space=labels,
        encoding=given.manifest.encoding,
        calibration={"section": 1.0},
        model=graph,
        tokenizer=given.tokenizer_path.read_text(),
        card="# float\n",
    ).path


@pytest.fixture(scope="module")
def models(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    copy_bundle(tiny_bundle, directory / "first")
    write_other(tiny_bundle, directory / "second")
    write_float(tiny_bundle, directory / "float")
    broken = copy_bundle(tiny_bundle, directory / "broken").path
    with (broken / "model.onnx").open("r+b") as file:
        file.write(b"x")
    (directory / "empty").mkdir()
    (directory / "outside").symlink_to(tiny_bundle)
    (directory / "circle").symlink_to(directory / "circle")
    return directory


@pytest.fixture
def server(tiny_classifier: Classifier, models: Path) -> Iterator[Live]:
    with live(tiny_classifier, api_key=KEY, models_dir=models) as found:
        yield found


def choose(server: Live, name: str) -> httpx.Response:
    with server.client(**{"X-API-Key": KEY}) as client:
        return client.post("/admin/model", json={"model": name})


def test_what_a_model_computes_with_and_answers(server: Live) -> None:
    with server.client(**{"X-API-Key": KEY}) as client:
        assert client.get("/info").json()["model_dtype"] == "int8"
        assert choose(server, "float").status_code == 200
        assert client.get("/info").json()["model_dtype"] == "float32"
        found = client.post("/v1/classify", json=ASK).json()
        assert [list(prediction) for prediction in found["predictions"]] == [["section"]] * 2


def test_a_model_must_have_the_task_of_the_settings(
    tiny_classifier: Classifier, models: Path
) -> None:
    with live(tiny_classifier, api_key=KEY, models_dir=models, task="mood") as server:
        answer = choose(server, "float")
        assert (answer.status_code, answer.json()["reason"]) == (422, "bundle")
        assert choose(server, "second").status_code == 200


def test_another_model_answers(server: Live, models: Path) -> None:
    answer = choose(server, "second")
    second = read_bundle(models / "second")
    assert answer.json() == {
        "model": second.fingerprint,
        "name": "other",
        "changed": True,
        "workers": 1,
        "swapped": 1,
    }
    assert choose(server, "second").json()["changed"] is False
    with server.client(**{"X-API-Key": KEY}) as client:
        assert client.get("/info").json()["model_id"] == "other"
        assert client.get("/v2/models/other").json()["versions"] == [second.fingerprint]
        found = client.post("/v1/classify", json=ASK).json()
    assert found["model"] == second.fingerprint
    wanted = Classifier.from_pretrained(models / "second").classify(["goal match striker"])[0]
    assert found["predictions"][0]["section"][0]["score"] == pytest.approx(
        wanted.confidence("section"), abs=1e-5
    )
    assert list(server.samples("newsie_build_info")) == [
        f'model="{second.fingerprint}",version="0.1.0"'
    ]


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("broken", 422, "bundle"),
        ("empty", 422, "bundle"),
        ("none", 404, "no_model"),
        ("circle", 404, "no_model"),
        ("..", 422, "name"),
        ("../models", 422, "name"),
        ("/etc", 422, "name"),
        ("first/", 422, "name"),
        ("", 422, "name"),
        (".hidden", 422, "name"),
        ("outside", 422, "name"),
        ("a\x00b", 422, "name"),
        ("http://example.com/x", 422, "name"),
        ("owner/name", 422, "name"),
    ],
)
def test_what_fails_leaves_the_old_model(
    server: Live, tiny_classifier: Classifier, name: str, code: int, reason: str
) -> None:
    answer = choose(server, name)
    assert (answer.status_code, answer.json()["reason"]) == (code, reason)
    assert str(Path(__file__).parents[1]) not in answer.text  # no place on this machine is told
    with server.client(**{"X-API-Key": KEY}) as client:
        found = client.post("/v1/classify", json=ASK)
        assert found.json()["model"] == tiny_classifier.bundle.fingerprint
        assert client.get("/health/ready").status_code == 200


def test_a_directory_of_models_that_leads_to_itself(
    tiny_classifier: Classifier, tmp_path: Path
) -> None:
    circle = tmp_path / "models"
    circle.symlink_to(circle)
    with live(tiny_classifier, api_key=KEY, models_dir=circle) as server:
        answer = choose(server, "first")
        assert (answer.status_code, answer.json()["reason"]) == (404, "no_model")


def test_only_with_a_key_and_a_directory(tiny_classifier: Classifier, models: Path) -> None:
    with live(tiny_classifier, models_dir=models) as server:
        answer = choose(server, "second")
        assert (answer.status_code, answer.json()["reason"]) == (403, "no_key")
    with live(tiny_classifier, api_key=KEY) as server:
        answer = choose(server, "second")
        assert (answer.status_code, answer.json()["reason"]) == (403, "models_dir")


def test_20_swaps_under_load(server: Live, models: Path) -> None:
    """Nobody is refused, and every answer is wholly of the model that it names."""
    wanted = {}
    for name in ("first", "second"):
        classifier = Classifier.from_pretrained(models / name)
        texts = [article["headline"] for article in ASK["articles"]]
        wanted[classifier.bundle.fingerprint] = [
            p.probabilities[task].max() for p in classifier.classify(texts) for task in p.tasks
        ]
    answered: Counter[str] = Counter()
    wrong: list[object] = []
    stop = threading.Event()

    def load() -> None:
        with server.client(**{"X-API-Key": KEY}) as client:
            while not stop.is_set():
                answer = client.post("/v1/classify", json=ASK)
                if answer.status_code != 200:
                    wrong.append(answer.status_code)
                    continue
                found = answer.json()
                scores = [rows[0]["score"] for p in found["predictions"] for rows in p.values()]
                if scores != pytest.approx(wanted[found["model"]], abs=1e-4):
                    wrong.append(found)
                answered[found["model"]] += 1

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            name = ("second", "first")[number % 2]
            assert choose(server, name).json()["changed"] is True
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(answered) == 2
    assert (
        sum(answered.values())
        == server.samples("newsie_http_requests_total")[
            'code="200",method="POST",route="/v1/classify"'
        ]
    )
    # Those of this model and of the session's server stay; old ones end when their requests have.
    wait_until(lambda: len(batch_threads()) <= 2 * 2 + 2 * 2)


def batch_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("newsie-batch")]


def test_hangup_keeps_the_model_that_was_chosen(tiny_bundle: Path, models: Path) -> None:
    options = "--model", str(tiny_bundle), "--models-dir", str(models)
    with (
        process(*options, environment={"NEWSIE_API_KEY": KEY}) as (started, url, log),
        httpx.Client(base_url=url, headers={"X-API-Key": KEY}, trust_env=False) as client,
    ):
        wanted = client.post("/admin/model", json={"model": "second"}).json()["model"]
        started.send_signal(signal.SIGHUP)
        wait_until(lambda: "the model is the same" in log.read_text())
        assert client.get("/info").json()["model_sha"] == wanted


def test_hangup_loads_the_bundle_anew(tiny_bundle: Path, tmp_path: Path) -> None:
    copy_bundle(tiny_bundle, tmp_path / "model")
    with (
        process("--model", str(tmp_path / "model")) as (started, url, log),
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        first = client.get("/info").json()["model_sha"]
        started.send_signal(signal.SIGHUP)
        wait_until(lambda: "the model is the same" in log.read_text())
        write_other(tiny_bundle, tmp_path / "other")
        shutil.rmtree(tmp_path / "model")
        (tmp_path / "other").rename(tmp_path / "model")
        started.send_signal(signal.SIGHUP)
        wait_until(lambda: client.get("/info").json()["model_sha"] != first)
        (tmp_path / "model" / "tokenizer.json").write_text("{}")
        started.send_signal(signal.SIGHUP)
        wait_until(lambda: "model not loaded" in log.read_text())
        assert client.post("/v1/classify", json=ASK).status_code == 200
        assert client.get("/health/ready").status_code == 200


@pytest.mark.slow
def test_workers(tiny_bundle: Path, models: Path) -> None:
    """They share a port, add up their metrics, load the same model, and are started again."""
    options = "--workers", "2", "--model", str(tiny_bundle), "--models-dir", str(models)
    environment = {"NEWSIE_API_KEY": KEY, "NEWSIE_THREADS": "1", "NEWSIE_DRAIN_SECONDS": "0"}
    with process(*options, environment=environment) as (started, url, log):

        def fresh(method: str, path: str, json: object = None) -> httpx.Response:
            """On a connection of its own, so that any worker may answer."""
            headers = {"X-API-Key": KEY}
            return httpx.request(
                method, url + path, headers=headers, json=json, trust_env=False, timeout=30
            )

        for _ in range(30):
            assert fresh("POST", "/v1/classify", json=ASK).status_code == 200
        counted = samples(fresh("GET", "/metrics").text, "newsie_http_requests_total")
        assert counted['code="200",method="POST",route="/v1/classify"'] == 30

        answer = fresh("POST", "/admin/model", json={"model": "second"}).json()
        assert (answer["changed"], answer["workers"], answer["swapped"]) == (True, 2, 2)
        wanted = read_bundle(models / "second").fingerprint
        assert log.read_text().count('"event":"model loaded"') == 4  # so the answer has said
        assert {fresh("GET", "/info").json()["model_sha"] for _ in range(20)} == {wanted}
        builds = samples(fresh("GET", "/metrics").text, "newsie_build_info")
        assert [labels for labels in builds if wanted in labels] == list(builds)

        children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        before = children.read_text().split()
        os.kill(int(before[0]), signal.SIGKILL)
        wait_until(lambda: len(set(children.read_text().split()) - {before[0]}) == 2)
        while (
            log.read_text().count('"event":"model loaded"') < 5
        ):  # nobody waits for one that loads
            assert fresh("POST", "/v1/classify", json=ASK).status_code == 200
        assert {fresh("GET", "/info").json()["model_sha"] for _ in range(20)} == {wanted}

        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0
        assert not re.search("Traceback", log.read_text())


@pytest.mark.slow
def test_a_worker_that_cannot_start_again_ends_no_other(tiny_bundle: Path, tmp_path: Path) -> None:
    path = copy_bundle(tiny_bundle, tmp_path / "model").path
    tokenizer = path / "tokenizer.json"
    good = tokenizer.read_bytes()
    options = "--workers", "2", "--model", str(path)
    environment = {"NEWSIE_THREADS": "1", "NEWSIE_DRAIN_SECONDS": "0"}
    with process(*options, environment=environment) as (started, url, log):
        wait_until(lambda: log.read_text().count('"event":"model loaded"') == 2)
        tokenizer.write_text("{}")
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: "tokenizer.json" in log.read_text())
        assert httpx.post(url + "/v1/classify", json=ASK, trust_env=False).status_code == 200
        tokenizer.write_bytes(good)
        wait_until(lambda: log.read_text().count('"event":"model loaded"') == 3)
        assert started.poll() is None
    tokenizer.write_text("{}")
    command = [sys.executable, "-m", "newsie", "serve", "--port", "0", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "a worker could not start" in done.stderr
