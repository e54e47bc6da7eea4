from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from newsie import Classifier
from tests.serving.live import live, wait_until


class Collector(BaseHTTPRequestHandler):
    """Takes what a tracer sends."""

    received: list[bytes]

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    received: list[bytes] = []
    server = HTTPServer(("127.0.0.1", 0), type("Here", (Collector,), {"received": received}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield received
    server.shutdown()
    server.server_close()


def test_spans_go_to_the_collector_without_text(
    tiny_classifier: Classifier, collector: list[bytes]
) -> None:
    pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="needs the extra trace")
    with live(tiny_classifier) as server, server.client() as client:
        client.get("/health")
        body = {"articles": [{"headline": "Confidential merger"}]}
        assert client.post("/v1/classify", json=body).status_code == 200
        wait_until(lambda: b"/v1/classify" in b"".join(collector))
    sent = b"".join(collector)
    assert b"newsie" in sent
    assert b"Confidential" not in sent
    assert b"/health" not in sent
