"""`POST /v1/read`: the articles of a file, read as the command reads them."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from newsie.data.readers import ArticleReader
from newsie.inference.classifier import Classifier
from newsie.serving import reading
from newsie.serving.http.request_bodies import Bodies
from tests.serving.live import Live, live, process, wait_until

READER = b"newsie.serving.read_file"
OCTETS = {"Content-Type": "application/octet-stream"}
FILES = {
    "plain.csv": b"title,text\nGoal,Late\nRain,Play stopped\n",
    "mixed.csv": "Titel;Text\r\nDer Café-Streit;Mehr\r\nNoch einer\r\n;\r\n".encode("cp1252"),
    "wide.tsv": "headline\tbody\nGoal\tLate\nRain\tWet\n".encode("utf-16"),
    "list.json": json.dumps([{"headline": "Goal", "body": {"main": "Late"}}]).encode(),
    "lines.jsonl": b'{"headline": "Goal"}\n{broken\n{"headline": ""}\n',
    "packed.jsonl.gz": gzip.compress(b'{"headline": "Goal"}\n'),
    "lines.txt": b"Goal\nRain\n",
}


@pytest.fixture(scope="module")
def server(tiny_classifier: Classifier) -> Iterator[Live]:
    with live(
        tiny_classifier, max_file_bytes=100_000, max_file_rows=50, max_article_characters=100
    ) as running:
        yield running


def read(
    server: Live | str,
    content: bytes | Iterator[bytes],
    *,
    headers: Any = OCTETS,
    timeout: float = 60,
    **query: Any,
) -> httpx.Response:
    url = server if isinstance(server, str) else server.url
    return httpx.post(
        f"{url}/v1/read",
        content=content,
        headers=headers,
        params=query,
        timeout=timeout,
        trust_env=False,
    )


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_the_command_reads_it(server: Live, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    reader = ArticleReader(path)
    expected = [(reader.number, a.headline, a.body, a.id) for a in reader]
    answer = read(server, FILES[name], name=name)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    articles = [(a["row"], a["headline"], a["body"], a["id"]) for a in found["articles"]]
    assert articles == expected
    assert articles
    chosen = reader.columns.chosen()
    assert found["columns"] == {f: c for f, c in chosen.items() if f in ("headline", "body", "id")}
    assert found["rows"] == len(articles) + sum(found["skipped"].values())
    assert found["skipped"] == dict(reader.problems.counts)


def test_columns_are_those_that_are_asked_for(server: Live) -> None:
    content = b"a,b,headline\nx,y,z\n"
    answer = read(server, content, name="a.csv", columns=["headline=b", "body=a"]).json()
    assert answer["articles"] == [{"row": 1, "headline": "y", "body": "x", "id": ""}]
    assert answer["columns"] == {"headline": "b", "body": "a"}
    assert answer["column_names"] == ["a", "b", "headline"]
    for wrong in ("headline", "=b", "headline=", "subject=b", "headline=none"):
        refused = read(server, content, name="a.csv", columns=[wrong])
        assert refused.status_code == 422, wrong


@pytest.mark.parametrize(
    ("content", "name", "status", "reason"),
    [
        (b"", "a.csv", 422, "file"),
        (b"name,price\nx,1\n", "a.csv", 422, "file"),
        (b"PAR1" + bytes(100), "a.csv", 422, "file"),
        (b"ARROW1" + bytes(100), "", 422, "file"),
        (b"%PDF-1.7", "a.pdf", 422, "file"),
        (b"headline\n" + b"x\n" * 51, "a.csv", 413, "rows"),
        (b"x" * 100_001, "a.csv", 413, "body_bytes"),
        (gzip.compress(b"headline\n" + b"x" * 1_000_000), "a.csv.gz", 422, "file"),
    ],
)
def test_what_cannot_be_read_is_refused(
    server: Live, content: bytes, name: str, status: int, reason: str
) -> None:
    answer = read(server, content, name=name)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


@pytest.mark.parametrize("kind", [None, "text/plain", "multipart/form-data", "application/xml", ""])
def test_other_types_are_refused(server: Live, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = read(server, b"headline\nx\n", headers=headers, name="a.csv")
    assert (answer.status_code, answer.json()["reason"]) == (415, "content_type")
    assert "text/csv" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["text/csv; charset=utf-8", "TEXT/CSV", "application/json"])
def test_types_of_files(server: Live, kind: str) -> None:
    answer = read(server, b"headline\nx\n", headers={"Content-Type": kind}, name="a.csv")
    assert answer.status_code == 200


def test_a_long_article_is_cut_and_can_be_classified(server: Live) -> None:
    answer = read(server, b"headline,body\nGoal," + b"y" * 500 + b"\n", name="a.csv").json()
    [article] = answer["articles"]
    assert article["headline"] + article["body"] == "Goal" + 96 * "y"
    assert answer["notes"] == ["1 × cut to its first 100 characters"]
    del article["row"], article["id"]
    asked = httpx.post(f"{server.url}/v1/classify", json={"articles": [article]}, trust_env=False)
    assert asked.status_code == 200


def test_other_routes_keep_their_limit(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier, max_body_bytes=1_000, max_file_bytes=5_000) as running:
        body = b"headline\n" + b"x" * 3_000
        assert read(running, body, name="a.csv").status_code == 200
        refused = httpx.post(
            f"{running.url}/v1/classify", content=body, headers={"Content-Type": "application/json"}
        )
        assert (refused.status_code, refused.json()["reason"]) == (413, "body_bytes")


def test_a_file_that_takes_too_long_is_given_up(tiny_classifier: Classifier) -> None:
    content = b"headline\n" + b"x\n" * 40_000
    with live(tiny_classifier, request_timeout_seconds=0.01) as running:
        answer = read(running, content, name="a.csv")
    assert (answer.status_code, answer.json()["reason"]) in {
        (504, "timeout"),
        (503, "busy_reading"),
    }


BOMB = gzip.compress(b"[" + b"[]," * 21_000_000 + b"[]]")
"""JSON of a few kB that holds the interpreter for many seconds while it is parsed."""

ENDLESS = gzip.compress(b"headline\n" + b'""\n' * 20_000_000)
"""Rows without any text, so that no article is ever found."""


@contextmanager
def asking(server: Live | str, content: bytes, **query: Any) -> Iterator[Future[httpx.Response]]:
    """A request that is under way."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(read, server, content, **query)


def readers() -> list[int]:
    """The processes that read files, of this machine's servers."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if READER in _bytes_of(path)
    ]


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.mark.parametrize("content", [BOMB, ENDLESS], ids=["bomb", "endless"])
def test_other_requests_are_answered_while_a_bad_file_is_read(
    tiny_classifier: Classifier, content: bytes
) -> None:
    name = "a.json.gz" if content is BOMB else "a.csv.gz"
    with (
        live(tiny_classifier, request_timeout_seconds=4) as running,
        asking(running, content, name=name) as answer,
    ):
        slowest = 0.0
        while not answer.done():
            began = time.monotonic()
            assert httpx.get(f"{running.url}/health/live", trust_env=False).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        found = answer.result()
    assert (found.status_code, found.json()["reason"]) in {(413, "memory"), (504, "timeout")}
    assert slowest < 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are those of POSIX")
def test_a_file_that_takes_too_much_memory_is_refused(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier, max_file_bytes=8_000_000, request_timeout_seconds=60) as running:
        bomb = gzip.compress(b"[" + b"[]," * 10_600_000 + b"[]]")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "MEMORY", 1)
            answer = read(running, bomb, name="a.json.gz")
            assert read(running, FILES["list.json"], name="a.json").status_code == 200
        assert (answer.status_code, answer.json()["reason"]) == (413, "memory")
        assert read(running, FILES["plain.csv"], name="a.csv").status_code == 200


def test_a_reader_that_crashes_is_told_with_the_request_id(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        reading, "COMMAND", ("-c", r"import sys; sys.stderr.write('\x1b[2J'); sys.exit(3)")
    )
    with live(tiny_classifier) as running:
        answer = read(running, FILES["plain.csv"] * 10_000, name="a.csv")
        assert (answer.status_code, answer.json()["reason"]) == (500, "internal")
        line = running.line(answer.json()["request_id"])
    assert line["fault"] == r"exit code 3: \x1b[2J"


def test_an_answer_that_never_ends_is_not_kept(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    monkeypatch.setattr(reading, "COMMAND", ("-c", endless))
    with live(tiny_classifier, max_file_bytes=1_000, request_timeout_seconds=1) as running:
        answer = read(running, FILES["plain.csv"], name="a.csv")
    assert (answer.status_code, answer.json()["reason"]) == (413, "answer")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
def test_sigterm_ends_a_server_whose_reader_is_stuck(tiny_bundle: Path, workers: int) -> None:
    options = ("--model", str(tiny_bundle), "--workers", str(workers))
    environment = {"NEWSIE_REQUEST_TIMEOUT_SECONDS": "60", "NEWSIE_SHUTDOWN_TIMEOUT_SECONDS": "1"}
    before = set(readers())
    with (
        process(*options, environment=environment) as (started, url, _),
        asking(url, ENDLESS, name="a.csv.gz") as answer,
    ):
        wait_until(lambda: set(readers()) - before)
        began = time.monotonic()
        started.send_signal(signal.SIGTERM)
        assert started.wait(15) == 0
        assert time.monotonic() - began < 10
        assert answer.exception() or answer.result().status_code == 503
    wait_until(lambda: not set(readers()) - before)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
def test_the_reader_of_a_client_that_leaves_is_killed(tiny_classifier: Classifier) -> None:
    before = set(readers())
    with live(tiny_classifier, request_timeout_seconds=60) as running:
        with pytest.raises(httpx.ReadTimeout):
            read(running, ENDLESS, name="a.csv.gz", timeout=2)
        wait_until(lambda: not set(readers()) - before, 5)
        assert read(running, FILES["plain.csv"], name="a.csv").status_code == 200


def test_requests_that_wait_in_vain_free_their_memory(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier, request_timeout_seconds=3) as running:
        with asking(running, ENDLESS, name="a.csv.gz") as first:
            time.sleep(0.5)
            large = b"headline\n" + b"x" * 9_000_000
            with ThreadPoolExecutor(3) as pool:
                waiting = [pool.submit(read, running, large, name="a.csv") for _ in range(3)]
            answers = [one.result() for one in waiting]
            assert first.result().status_code == 504
        assert {a.status_code for a in answers} <= {200, 503, 504}
        assert all(a.headers.get("retry-after") == "1" for a in answers if a.status_code == 503)
        bodies: Any = running.app.middleware_stack
        while not isinstance(bodies, Bodies):
            bodies = bodies.app
        wait_until(lambda: bodies._held == 0)


@pytest.mark.parametrize("size", [11_000_000, 15_900_000])
@pytest.mark.parametrize("chunk", [None, 1_400])
def test_a_large_file_is_read(served: Live, size: int, chunk: int | None) -> None:
    row = b'"A headline of a few words","' + b"and its text " * 20 + b'"\n'
    rows = size // len(row)
    content = b"headline,body\n" + rows * row
    parts = content if chunk is None else _parts(content, chunk)
    answer = read(served, parts, name="a.csv")
    assert answer.status_code == 200, answer.text[:200]
    assert answer.json()["rows"] == rows


def _parts(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def test_a_file_that_is_too_large_is_refused_for_its_size(served: Live) -> None:
    answer = read(served, b"headline\n" + b"x\n" * 8_000_000, name="a.csv")
    assert (answer.status_code, answer.json()["reason"]) == (413, "body_bytes")
    assert "16,000,000" in answer.json()["error"]


def test_the_reader_imports_only_what_reading_needs() -> None:
    script = "import sys, newsie.serving.read_file; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"onnxruntime", "tokenizers", "fastapi", "starlette", "pydantic", "asyncio"}
