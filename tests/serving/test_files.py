"""`POST /v1/read`: the articles of a file, read as the command reads them."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from newsie.classifier import Classifier
from newsie.data.readers import ArticleReader
from newsie.serving.routes import files
from tests.serving.live import Live, live

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


def read(server: Live, content: bytes, *, headers: Any = OCTETS, **query: Any) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/read", content=content, headers=headers, params=query, trust_env=False
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


def test_reading_blocks_no_other_request(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on, real = threading.Event(), threading.Event(), files._answer

    def slow(*arguments: Any) -> bytes:
        entered.set()
        assert go_on.wait(20)
        return real(*arguments)

    monkeypatch.setattr(files, "_answer", slow)
    answers: list[int] = []
    asking = [
        threading.Thread(
            target=lambda: answers.append(
                read(server, FILES["plain.csv"], name="a.csv").status_code
            )
        )
        for _ in range(2)
    ]
    for thread in asking:
        thread.start()
    assert entered.wait(20)
    began = time.monotonic()
    assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200
    assert time.monotonic() - began < 2
    go_on.set()
    for thread in asking:
        thread.join()
    assert answers == [200, 200]


def test_a_file_that_takes_too_long_is_given_up(tiny_classifier: Classifier) -> None:
    content = b"headline\n" + b"x\n" * 40_000
    with live(tiny_classifier, request_timeout_seconds=0.01) as running:
        answer = read(running, content, name="a.csv")
    assert (answer.status_code, answer.json()["reason"]) in {
        (504, "timeout"),
        (503, "busy_reading"),
    }
