from __future__ import annotations

from collections.abc import Iterator

import pytest

from newsie import Classifier, InputError
from newsie.serving.http.hosts import host_of
from newsie.serving.settings import read_settings
from tests.serving.live import Live, code_of, dumps, exchange, live, post

BODY = dumps({"articles": [{"headline": "goal"}]})
CLASSIFY = "/v1/classify"


@pytest.fixture(scope="module")
def public(tiny_classifier: Classifier) -> Iterator[Live]:
    """A server that is to be reached from other machines."""
    with live(tiny_classifier, host="0.0.0.0") as server:
        yield server


def get(server: Live, *headers: str, path: str = "/info", version: str = "1.1") -> bytes:
    lines = [f"GET {path} HTTP/{version}", "Connection: close", *headers, "", ""]
    return exchange(server.port, "\r\n".join(lines).encode())


def send(server: Live, *headers: str) -> bytes:
    return exchange(server.port, post(CLASSIFY, BODY, f"Content-Length: {len(BODY)}", *headers))


LOCAL = [
    "localhost",
    "LOCALHOST:8000",
    "127.0.0.1:80",
    "127.8.9.1",
    "[::1]:8000",
    "newsie.localhost",
    "localhost.",
]
PRIVATE = [
    "192.168.1.5:8000",
    "[fd00::1]",
    "newsie:8000",
    "printer.local",
    "newsie.default.svc.cluster.local",
    "a.b.internal",
    "nas.home.arpa",
]
PUBLIC = ["rebound.example", "127.0.0.1.example:8000", "localhost.example.org", "a b", "@localhost"]


@pytest.mark.parametrize("host", LOCAL + PRIVATE + PUBLIC)
def test_hosts_of_a_server_for_this_machine(served: Live, host: str) -> None:
    answer = get(served, f"Host: {host}")
    assert code_of(answer) == (200 if host in LOCAL else 421)
    if host not in LOCAL:
        assert b'"host"' in answer
        assert b"NEWSIE_ALLOWED_HOSTS" in answer


@pytest.mark.parametrize("host", LOCAL + PRIVATE + PUBLIC)
def test_hosts_of_a_server_for_other_machines(public: Live, host: str) -> None:
    assert code_of(get(public, f"Host: {host}")) == (421 if host in PUBLIC else 200)


def test_hosts_that_a_setting_names(tiny_classifier: Classifier) -> None:
    names = "news.example.org, *.example.com,[2001:db8::1]"
    with live(tiny_classifier, allowed_hosts=names) as server:
        for host, code in (
            ("news.example.org", 200),
            ("News.Example.org:443", 200),
            ("x.news.example.org", 421),
            ("a.example.com", 200),
            ("a.b.example.com", 200),
            ("example.com", 421),
            ("badexample.com", 421),
            ("[2001:db8::1]:8000", 200),
            ("localhost", 200),
        ):
            assert code_of(get(server, f"Host: {host}")) == code, host
    with live(tiny_classifier, allowed_hosts="*") as server:
        assert code_of(get(server, "Host: rebound.example")) == 200
        assert code_of(get(server, "Host: a b")) == 421


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWSIE_ALLOWED_HOSTS", "a.example, *.b.example c")
    assert read_settings({}).allowed_hosts == ("a.example", "*.b.example", "c")
    for wrong in ("http://a.example", "a.example/x", "a*.example", "**"):
        with pytest.raises(InputError, match="allowed_hosts"):
            read_settings({"allowed_hosts": wrong})


def test_health_is_read_under_any_name(served: Live) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/ping"):
        assert code_of(get(served, "Host: checker.example", path=path)) == 200


@pytest.mark.parametrize(
    ("headers", "version", "code"),
    [
        ([], "1.1", 400),
        (["Host:"], "1.1", 400),
        (["Host: localhost", "Host: localhost"], "1.1", 400),
        (["Host: localhost", "host: rebound.example"], "1.1", 400),
        (["Host: localhost", "Host: localhost"], "1.0", 400),
        ([], "1.0", 200),
        (["Host: rebound.example"], "1.0", 421),
    ],
)
def test_a_request_names_one_host(
    served: Live, headers: list[str], version: str, code: int
) -> None:
    """HTTP/1.0 has no Host: simple health checks ask without, and no browser does."""
    assert code_of(get(served, *headers, version=version)) == code
    body = f"Content-Length: {len(BODY)}"
    sent = post(CLASSIFY, BODY, body, *headers).replace(b"Host: localhost\r\n", b"", 1)
    assert (
        code_of(exchange(served.port, sent.replace(b"HTTP/1.1", f"HTTP/{version}".encode())))
        == code
    )


@pytest.mark.parametrize(
    ("codings", "version", "code"),
    [
        (["chunked"], "1.1", 200),
        (["Chunked"], "1.1", 200),
        (["gzip, chunked"], "1.1", 501),
        (["gzip", "chunked"], "1.1", 501),
        (["identity, chunked"], "1.1", 501),
        (["chunked, chunked"], "1.1", 501),
        (["chunked", "chunked"], "1.1", 501),
        (["xchunked"], "1.1", 501),
        (["chunked"], "1.0", 400),
        (["gzip"], "1.0", 400),
    ],
)
def test_transfer_encodings(served: Live, codings: list[str], version: str, code: int) -> None:
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    sent = post(CLASSIFY, body, *[f"Transfer-Encoding: {coding}" for coding in codings])
    smuggled = b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sent = sent.replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + smuggled
    answer = exchange(served.port, sent)
    assert code_of(answer) == code or (code == 501 and code_of(answer) == 400)
    assert b"model_id" not in answer


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], 200),
        (["Sec-Fetch-Site: same-origin", "Origin: https://balancer.example"], 200),
        (["Sec-Fetch-Site: none"], 200),
        (["Sec-Fetch-Site: same-site", "Origin: http://localhost:3000"], 403),
        (["Sec-Fetch-Site: cross-site", "Origin: https://foreign.example"], 403),
        (["Sec-Fetch-Site: cross-site"], 403),
        (["Origin: http://localhost"], 200),
        (["Origin: http://localhost:8000"], 200),
        (["Origin: http://foreign.example"], 403),
        (["Origin: http://localhost.foreign.example"], 403),
        (["Origin: null"], 403),
        (["Origin:"], 403),
    ],
)
def test_pages_of_other_origins(served: Live, headers: list[str], code: int) -> None:
    answer = send(served, *headers)
    assert code_of(answer) == code
    assert (b'"origin"' in answer) == (code == 403)
    assert code_of(get(served, "Host: localhost", *headers)) == 200  # who cannot read the answer


def test_an_origin_that_a_setting_names(tiny_classifier: Classifier) -> None:
    with live(tiny_classifier, allowed_hosts="news.example.org") as server:
        assert code_of(send(server, "Origin: https://news.example.org")) == 200
        headers = "Sec-Fetch-Site: cross-site", "Origin: https://news.example.org"
        assert code_of(send(server, *headers)) == 200
        assert code_of(send(server, "Origin: https://other.example.org")) == 403


def test_host_of() -> None:
    assert host_of("News.Example:80") == "news.example"
    assert host_of("[::1]:8000") == "::1"
    for wrong in ("", "a b", "a:b", "http://a", "a/b", "[::1", "a:999999"):
        assert host_of(wrong) == ""


def test_a_refusal_names_the_host_and_the_setting(served: Live) -> None:
    answer = get(served, "Host: rebound.example:80")
    assert code_of(answer) == 421
    assert b"'rebound.example:80'" in answer
    assert b"NEWSIE_ALLOWED_HOSTS" in answer


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("http://rebound.example/info", 421),
        ("HTTP://rebound.example:80/info", 421),
        ("http://user@rebound.example/info", 421),
        ("http://localhost/info", 200),
        ("http://127.0.0.1:8000/info", 200),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_host_of_the_target_takes_the_place_of_the_header(
    served: Live, target: str, code: int, version: str
) -> None:
    for host in ("localhost", "rebound.example"):
        assert code_of(get(served, f"Host: {host}", path=target, version=version)) == code


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: http://localhost", "Origin: http://rebound.example"),
        ("Origin: http://localhost", "Origin: http://localhost"),
        ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"),
        ("Sec-Fetch-Site: none", "sec-fetch-site: none"),
    ],
)
def test_headers_of_a_browser_come_once(served: Live, headers: tuple[str, str]) -> None:
    answer = send(served, *headers)
    assert code_of(answer) == 400
    assert b'"reason":"origin"' in answer
