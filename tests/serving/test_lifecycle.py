from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from newsie import BundleError, Classifier
from newsie.printable import CONTROL
from newsie.serving.health import Health
from newsie.serving.http.process import run
from newsie.serving.http.server import _listen
from newsie.serving.service import Service
from newsie.serving.settings import Settings
from tests.serving.live import ROOT, live, process, samples, student_of, wait_until
from tests.tiny import tiny_articles

ASK = {"articles": [{"headline": a.headline, "body": a.body} for a in tiny_articles(8)]}


def test_health() -> None:
    health = Health(2)
    assert (health.state, health.ready) == ("loading", False)
    health.loaded()
    assert (health.state, health.ready) == ("ready", True)
    assert (health.ready, health.at_limit) == (True, False)
    health.failed()
    assert (health.ready, health.at_limit) == (True, True)
    health.failed()
    assert (health.state, health.ready) == ("failing", False)
    health.worked()
    assert health.ready
    health.drain()
    health.worked()
    assert (health.state, health.ready) == ("draining", False)


def test_answers_are_sent_at_once() -> None:
    with _listen("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()[:2]):
            connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_live_is_not_ready(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier) as server, server.client() as client:
        service = server.app.state.service
        current, service.current = service.current, None
        service.health._loaded = False
        for path in (
            "/health",
            "/health/ready",
            "/ping",
            "/v2/health/ready",
            "/v2/models/tiny/ready",
        ):
            assert client.get(path).status_code == 503
        answer = client.post("/v1/classify", json=ASK)
        assert (answer.status_code, answer.json()["reason"]) == (503, "not_ready")
        assert answer.headers["Retry-After"] == "1"
        assert client.get("/health/live").status_code == 200
        service.current = current
        service.health.loaded()
        service.health.drain()
        for path in ("/health/ready", "/v2/health/ready", "/v2/models/tiny/ready"):
            assert client.get(path).status_code == 503


def test_a_model_that_fails_again_and_again(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(tiny_classifier, failures_until_unready=2, probe_seconds=0.2) as server:
        session = student_of(tiny_classifier)._session

        class Broken:
            def run(self, *arguments: Any) -> object:
                raise RuntimeError("Secret words")

        with server.client() as client:
            monkeypatch.setattr(student_of(tiny_classifier), "_session", Broken())
            for _ in range(2):
                answer = client.post("/predict", json={"inputs": "goal"})
                assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")
                assert "Secret" not in answer.text
            wait_until(lambda: client.get("/health/ready").status_code == 503)
            assert client.get("/health/live").status_code == 200
            assert client.post("/v1/classify", json=ASK).status_code == 503
            monkeypatch.setattr(student_of(tiny_classifier), "_session", session)
            wait_until(lambda: client.get("/health/ready").status_code == 200, 10)
            assert client.post("/v1/classify", json=ASK).status_code == 200
    assert "Secret" not in repr(server.lines)


def test_a_model_whose_trial_fails_in_an_unknown_way_is_tried_again(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(tiny_classifier, failures_until_unready=1, probe_seconds=0.05) as server:
        tried: list[int] = []

        def fail(classifier: Classifier) -> None:
            tried.append(1)
            raise MemoryError

        with monkeypatch.context() as patched, server.client() as client:
            patched.setattr("newsie.serving.service.self_test", fail)
            server.app.state.service.health.failed()
            wait_until(lambda: len(tried) >= 3)
            assert client.get("/health/ready").status_code == 503
        with server.client() as client:
            wait_until(lambda: client.get("/health/ready").status_code == 200)


def test_a_model_that_cannot_be_loaded_for_want_of_memory(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("newsie.serving.hot_swap.self_test", fail)
    settings = Settings(model=str(tiny_bundle))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(BundleError, match="cannot be loaded: MemoryError at "),
    ):
        run(settings, listener)


def test_texts_that_make_a_model_fail_do_not_turn_the_server_off(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, poison = (
        student_of(tiny_classifier)._session.run,
        tiny_classifier.encode(["orbit"]).ids[0][1],
    )

    class Picky:
        def run(self, tasks: Any, inputs: dict[str, Any]) -> object:
            if poison in inputs["input_ids"]:
                raise RuntimeError("no orbit")
            return run(tasks, inputs)

    states: set[str] = set()
    tried = Service._try

    def trial(service: Service) -> bool:
        states.add(service.health.state)
        return tried(service)

    monkeypatch.setattr(Service, "_try", trial)
    with live(tiny_classifier, failures_until_unready=2) as server, server.client() as client:
        monkeypatch.setattr(student_of(tiny_classifier), "_session", Picky())
        for _ in range(5):
            body = {"articles": [{"headline": "orbit"}]}
            assert client.post("/v1/classify", json=body).status_code == 424
            assert client.get("/health/ready").status_code == 200
        wait_until(lambda: states == {"ready"})  # also while the model was tried
        assert client.post("/v1/classify", json=ASK).status_code in (200, 424)
        assert client.post("/predict", json={"inputs": "goal"}).status_code == 200


def test_a_fault_tells_nothing(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(tiny_classifier) as server, server.client() as client:

        def fail(*arguments: object, **more: object) -> None:
            raise ZeroDivisionError("Secret words")

        monkeypatch.setattr(server.app.state.service.metrics, "predicted", fail)
        answer = client.post("/v1/classify", json=ASK)
        assert answer.status_code == 500
        found = answer.json()
        assert set(found) == {"error", "reason", "request_id"}
        assert found["request_id"] == answer.headers["X-Request-Id"]
        assert not {"Secret", "Zero", "newsie", "File"} & set(answer.text.split())
        line = server.line(found["request_id"])
        assert line["fault"].startswith("ZeroDivisionError at ")
        assert "Secret" not in repr(server.lines)


def test_deadline(tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    run = student_of(tiny_classifier)._session.run

    class Slow:
        def run(self, *arguments: Any) -> object:
            time.sleep(0.3)
            return run(*arguments)

    with live(tiny_classifier, request_timeout_seconds=0.1) as server, server.client() as client:
        monkeypatch.setattr(student_of(tiny_classifier), "_session", Slow())
        answer = client.post("/v1/classify", json=ASK)
        assert (answer.status_code, answer.json()["reason"]) == (504, "timeout")


def test_back_pressure(tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than may wait: some are told when to come again, all are answered and counted."""
    run = student_of(tiny_classifier)._session.run

    class Slow:
        def run(self, *arguments: Any) -> object:
            time.sleep(0.02)
            return run(*arguments)

    monkeypatch.setattr(student_of(tiny_classifier), "_session", Slow())
    with live(tiny_classifier, max_queue_articles=16, max_concurrent_requests=12) as server:
        codes: Counter[int] = Counter()

        def ask() -> None:
            with server.client() as client:
                for _ in range(10):
                    answer = client.post("/v1/classify", json=ASK)
                    codes[answer.status_code] += 1
                    assert (answer.status_code == 429) == ("Retry-After" in answer.headers)

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(codes) == {200, 429}
        assert codes.total() == 160
        counted = server.samples("newsie_http_requests_total")
        route = 'method="POST",route="/v1/classify"'
        assert {int(c): counted[f'code="{c}",{route}'] for c in codes} == codes
        assert server.samples("newsie_rejected_total")['reason="overloaded"'] == codes[429]
        assert server.samples("newsie_queue_size")[""] == 0


def test_who_leaves_is_counted_and_not_computed(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, run = threading.Event(), student_of(tiny_classifier)._session.run

    class Held:
        def run(self, *arguments: Any) -> object:
            assert go.wait(10)
            return run(*arguments)

    monkeypatch.setattr(student_of(tiny_classifier), "_session", Held())
    with live(tiny_classifier) as server:
        body = json.dumps(ASK).encode()
        head = (
            "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for connection in connections:
            connection.sendall(head.encode() + body)
        service = server.app.state.service
        wait_until(lambda: service._working == 5)
        time.sleep(0.1)
        for connection in connections:
            connection.close()
        wait_until(lambda: service._working == 0)
        assert server.samples("newsie_queue_size")[""] == 0
        route = 'code="499",method="POST",route="/v1/classify"'
        wait_until(lambda: server.samples("newsie_http_requests_total").get(route) == 5)
        go.set()


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_sigterm_under_load(tiny_bundle: Path, workers: str) -> None:
    """Whoever has sent a request gets its answer; then the process ends with 0."""
    # Long enough for two new clients, also on a slow machine.
    drain = {"NEWSIE_DRAIN_SECONDS": "10"}
    options = "--model", str(tiny_bundle), "--workers", workers
    with process(*options, environment=drain) as (started, url, log):
        ended = threading.Event()
        codes: Counter[int] = Counter()
        lost: list[str] = []

        def ask() -> None:
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
                while not ended.is_set():
                    try:
                        codes[client.post("/v1/classify", json=ASK).status_code] += 1
                    except httpx.ConnectError:
                        return  # the port is closed: nothing was sent
                    except httpx.TransportError as error:
                        lost.append(repr(error))
                        return

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        wait_until(lambda: codes[200] > 50)
        started.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(url + "/health/ready", trust_env=False).status_code == 503, 8)
        assert httpx.get(url + "/health/live", trust_env=False).status_code == 200
        assert started.wait(30) == 0
        ended.set()
        for thread in threads:
            thread.join()
        assert not lost
        assert set(codes) == {200}
        lines = [json.loads(line) for line in log.read_text().splitlines()[1:]]
        assert sum(line.get("route") == "/v1/classify" for line in lines) == codes[200]


def test_a_signal_to_load_anew_does_not_end_a_server_that_starts(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "newsie", "serve", "--port", "0", "--model", str(tiny_bundle)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        line = started.stderr.readline()
        assert line.startswith("newsie: http://")
        assert "loading the model" in line
        started.send_signal(signal.SIGHUP)
        lines = iter(started.stderr.readline, "")
        assert any("model loaded" in line for line in lines)
        started.terminate()
        lines = iter(started.stderr.readline, "")
        assert [line for line in lines if "Traceback" in line] == []
        assert started.wait(30) == 0


SIGNAL_AMONG_STARTS = """
import os, signal, socket
from newsie.serving.http.workers import Workers

start = os.fork

def fork():
    pid = start()
    if pid:
        os.kill(os.getpid(), signal.SIGTERM)
    return pid

os.fork = fork
with socket.create_server(("127.0.0.1", 0)) as listener:
    Workers(2, listener, signal.pause).run()
"""

SIGNAL_WHEN_A_WORKER_HAS_ENDED = """
import os, signal, socket, time
from newsie.serving.http import workers

wait, workers.PAUSE_SECONDS = os.wait, 0

def wait_first():
    os.wait = wait
    ended = wait()
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    return ended

os.wait = wait_first
with socket.create_server(("127.0.0.1", 0)) as listener:
    workers.Workers(1, listener, lambda: time.sleep(0.1)).run()
"""


@pytest.mark.parametrize("script", [SIGNAL_AMONG_STARTS, SIGNAL_WHEN_A_WORKER_HAS_ENDED])
def test_workers_end_in_good_order_whenever_a_signal_comes(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_signal_ends_at_once(tiny_bundle: Path) -> None:
    with process("--model", str(tiny_bundle), environment={"NEWSIE_DRAIN_SECONDS": "60"}) as (
        started,
        url,
        _,
    ):
        started.send_signal(signal.SIGINT)
        wait_until(lambda: httpx.get(url + "/health/ready", trust_env=False).status_code == 503)
        assert started.poll() is None
        started.send_signal(signal.SIGTERM)
        assert started.wait(5) == 128 + signal.SIGTERM


HOSTILE = "a\x07\x1b]0;b\x7f\x85\x9b31m\u200f\u2028\u202e\ufdd1"
"""Control characters of each kind."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "no/such/model/here"], "no model 'no/such/model/here'"),
        (["--api-key-file", "/no/such/file"], "api_key_file"),
        (["--models-dir", "/no/such/directory"], "models_dir"),
        (["--port", "PORT"], "choose another --port"),
        (["--host", "999.1.1.1"], "cannot listen"),
        (["--host", "a" * 70], "is not the name of a host"),
        (["--models-dir", f"/no/{HOSTILE}"], "models_dir"),
        (["--model", f"/no/{HOSTILE}", "--workers", "2"], "no model '/no/a"),
        (["--host", HOSTILE], "is not the name of a host"),
    ],
)
def test_what_cannot_start_says_why(options: list[str], message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = [port if option == "PORT" else option for option in options]
        default = [] if "--port" in options else ["--port", "0"]
        command = [sys.executable, "-m", "newsie", "serve", *default, *options]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert message in result.stderr
    assert CONTROL.search(result.stderr) is None
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NEWSIE_MAX_ARTICLES", "many", "max_articles"),
        ("NEWSIE_TASK", "weather", "setting task: no task 'weather'; there are: section, "),
        ("NEWSIE_API_KEY", "too short", "at least 16"),
    ],
)
def test_settings_that_are_not_allowed_are_told(name: str, value: str, message: str) -> None:
    command = [sys.executable, "-m", "newsie", "serve", "--port", "0"]
    variables = os.environ | {name: value}
    result = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    (told,) = [line for line in result.stderr.splitlines() if message in line]
    assert value in told if name == "NEWSIE_TASK" else value not in told
    assert "Traceback" not in result.stderr


def test_metrics_of_a_server(tiny_classifier: Classifier) -> None:
    """Count = success + failure, in articles and in requests."""
    with live(tiny_classifier) as server, server.client() as client:
        for _ in range(3):
            client.post("/v1/classify", json=ASK)
        client.post("/predict", json={"inputs": "goal " * 100})
        client.post("/v1/classify", json={})
        client.get("/nothing")
        text = client.get("/metrics").text
        requests = samples(text, "newsie_http_requests_total")
        assert sum(requests.values()) == 6
        assert requests['code="404",method="GET",route="other"'] == 1
        assert samples(text, "newsie_request_duration_seconds_count")[""] == 5
        assert samples(text, "newsie_batch_size_sum")[""] == 25
        assert samples(text, "newsie_queue_duration_seconds_count")[""] == 25
        sections = samples(text, "newsie_predictions_total")
        assert sum(v for k, v in sections.items() if 'task="section"' in k) == 25
        assert sum(v for k, v in sections.items() if 'task="mood"' in k) == 24
        confidence = samples(text, "newsie_prediction_confidence_count")
        assert confidence == {'task="section"': 25, 'task="mood"': 24}
        assert samples(text, "newsie_rejected_total") == {
            'reason="invalid"': 1,
            'reason="no_route"': 1,
        }
        assert samples(text, "newsie_truncated_inputs_total")[""] >= 1
        loaded = samples(text, "newsie_model_loaded_timestamp_seconds")[""]
        assert time.time() - 60 < loaded < time.time()
        wanted = tiny_classifier.bundle.fingerprint
        assert samples(text, "newsie_build_info") == {f'model="{wanted}",version="0.1.0"': 1}


def test_logs_hold_numbers_and_no_text(
    tiny_classifier: Classifier, capfd: pytest.CaptureFixture[str]
) -> None:
    with live(tiny_classifier) as server, server.client() as client:
        body = {"articles": [{"headline": "Confidential merger", "body": "Undisclosed sum"}]}
        answers = [client.post("/v1/classify", json=body)]
        answers.append(client.post("/v1/explain", json={"article": body["articles"][0]}))
        answers.append(client.post("/predict", json={"inputs": "Confidential merger"}))
        answers.append(client.post("/predict", json={"inputs": [["Confidential", "merger"]]}))
        answers.append(client.post("/v1/classify", json={"Confidential": 1}))
        answers.append(client.get("/Confidential?q=Undisclosed"))
        answers.append(client.post("/v1/classify", content=b'{"articles": "Confidential'))
        lines = [server.line(answer.headers["x-request-id"]) for answer in answers]
    assert lines[0]["articles"] == 1
    assert lines[0]["tokens"] >= 4
    assert lines[1]["tokens"] == lines[0]["tokens"]
    for line in lines[:3]:
        assert line["queue_seconds"] > 0
        assert line["inference_seconds"] > 0
        assert line["queue_seconds"] + line["inference_seconds"] <= line["seconds"]
    for word in ("Confidential", "merger", "Undisclosed"):
        assert word not in repr(lines)
        assert word not in "".join(capfd.readouterr())
