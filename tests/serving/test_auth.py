from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from newsie import Classifier, InputError
from newsie.serving.http.auth import OPEN_PATHS
from newsie.serving.settings import read_settings
from tests.serving.live import Live, live

KEY = "a key of 32 characters, no blank".replace(" ", "-")


@pytest.fixture(scope="module")
def locked(tiny_classifier: Classifier) -> Iterator[Live]:
    with live(tiny_classifier, api_key=KEY) as server:
        yield server


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path that the app answers, its document included."""
    found = [
        (method, route.path)
        for part in app.routes
        for route in getattr(getattr(part, "original_router", None), "routes", [part])
        for method in getattr(route, "methods", None) or ("GET",)
        if hasattr(route, "path")
    ]
    documented = [
        (method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item
    ]
    return sorted({*found, *documented})


def test_every_route_and_alias_needs_the_key(locked: Live) -> None:
    routes = routes_of(locked.app)
    paths = {path for _, path in routes}
    assert {"/v1/classify", "/", "/predict", "/invocations", "/metrics", "/openapi.json"} <= paths
    assert {"/docs", "/info", "/admin/model", "/v2/models/{model_name}/infer"} <= paths
    with locked.client() as asking, locked.client(Authorization=f"Bearer {KEY}") as knowing:
        for method, path in routes:
            answer = asking.request(method, path, json={} if method == "POST" else None)
            if path in OPEN_PATHS:
                assert answer.status_code == 200, path
                continue
            assert answer.status_code == 401, (method, path)
            assert "WWW-Authenticate" in answer.headers
            answer = knowing.request(method, path, json={} if method == "POST" else None)
            assert answer.status_code not in (401, 500), (method, path)


@pytest.mark.parametrize("path", ["/", "/predict", "/aip"])
def test_where_a_host_asks_for_health_nothing_else_is_open(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("AIP_HEALTH_ROUTE", path)
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/predict")
    with live(tiny_classifier, api_key=KEY) as server, server.client() as asking:
        assert asking.get(path).json() == {"status": "ready"}
        for method, route in routes_of(server.app):
            if method not in ("GET", "HEAD") or route not in OPEN_PATHS | {path}:
                assert asking.request(method, route).status_code == 401, (method, route)
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert asking.request(method, path, json={"inputs": "goal"}).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "//health",
        "/health/",
        "/health/../v1/classify",
        "/health/%2e%2e/metrics",
        "/%68ealth/x",
        "/HEALTH",
        "/nothing",
        "/ping/",
        "/health;/metrics",
        "/health%00",
    ],
)
def test_paths_that_look_like_open_ones(locked: Live, path: str) -> None:
    with locked.client() as asking:
        assert asking.get(path).status_code == 401


@pytest.mark.parametrize(
    ("name", "value", "passes"),
    [
        ("Authorization", f"Bearer {KEY}", True),
        ("Authorization", f"bearer   {KEY}", True),
        ("X-API-Key", KEY, True),
        ("Authorization", "Basic " + base64.b64encode(f"me:{KEY}".encode()).decode(), True),
        ("Authorization", "Basic " + base64.b64encode(KEY.encode()).decode(), False),
        ("Authorization", "Basic !", False),
        ("Authorization", KEY, False),
        ("Authorization", f"Token {KEY}", False),
        ("Authorization", "Bearer", False),
        ("Authorization", f"Bearer {KEY}x", False),
        ("X-API-Key", KEY[:-1], False),
        ("X-API-Key", "", False),
        ("Cookie", f"key={KEY}", False),
    ],
)
def test_ways_to_bring_the_key(locked: Live, name: str, value: str, passes: bool) -> None:
    with locked.client(**{name: value}) as asking:
        body = {"articles": [{"headline": "goal"}]}
        assert asking.post("/v1/classify", json=body).status_code == (200 if passes else 401)


def test_a_password_does_not_change_models(locked: Live) -> None:
    """A browser would add it to what any other page sends."""
    with locked.client() as asking:
        body = b'{"model": "second"}'
        assert asking.post("/admin/model", content=body, auth=("", KEY)).status_code == 401
        key = {"X-API-Key": KEY}
        assert asking.post("/admin/model", content=body, headers=key).status_code == 403


def test_a_browser_is_asked_for_a_password(locked: Live) -> None:
    with locked.client(Accept="text/html") as asking:
        assert asking.get("/").headers["WWW-Authenticate"].startswith("Basic ")
        assert asking.get("/", auth=("", KEY)).status_code == 200
        assert asking.get("/info").headers["WWW-Authenticate"].startswith("Bearer ")


def test_the_key_is_never_said(locked: Live, capfd: pytest.CaptureFixture[str]) -> None:
    with locked.client(Authorization=f"Bearer {KEY}x") as asking:
        answer = asking.post("/v1/classify", json={})
        assert KEY not in answer.text
        locked.line(answer.headers["x-request-id"])
    assert KEY not in repr(locked.lines)
    assert KEY not in repr(locked.app.state.service.settings)
    assert KEY not in "".join(capfd.readouterr())


def test_a_key_in_a_file(tmp_path: Path, tiny_classifier: Classifier) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    with live(tiny_classifier, api_key_file=file) as server, server.client() as asking:
        assert asking.get("/info").status_code == 401
        assert asking.get("/info", headers={"X-API-Key": KEY}).status_code == 200


@pytest.mark.parametrize("is_file", [True, False])
def test_several_keys_for_a_change_of_keys(
    tmp_path: Path, tiny_classifier: Classifier, is_file: bool
) -> None:
    old, new = "old-" + KEY, "new-" + KEY
    file = tmp_path / "keys"
    file.write_text(f"{old}\n{new}\n")
    settings = {"api_key_file": file} if is_file else {"api_key": f"{old} {new}"}
    with live(tiny_classifier, **settings) as server, server.client() as asking:
        for key, code in ((old, 200), (new, 200), (KEY, 401), (f"{old} {new}", 401), ("", 401)):
            assert asking.get("/info", headers={"X-API-Key": key}).status_code == code, key


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "second").write_text(f"{KEY}\nshort\n")
    for settings, message in (
        ({"api_key": "short"}, "16 printable"),
        ({"api_key": "x" * 20 + "\u00e9"}, "16 printable"),
        ({"api_key_file": tmp_path / "empty"}, "16 printable"),
        ({"api_key_file": tmp_path / "second"}, "16 printable"),
        ({"api_key_file": tmp_path / "none"}, "none"),
    ):
        with pytest.raises(InputError, match=message):
            read_settings(settings).read_keys()
    with pytest.raises(InputError, match="one of them"):
        read_settings({"api_key": KEY, "api_key_file": tmp_path / "empty"})
