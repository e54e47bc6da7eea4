from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from newsie import InputError
from newsie.serving.settings import Settings, find_slips, read_settings

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


def settings_table() -> str:
    """The settings as a table in Markdown, from the documentation of their class."""
    documentation = (inspect.getdoc(Settings) or "").split("Attributes:\n")[1]
    lines = ["| setting | default | what, and why |", "|---|---|---|"]
    for name, text in re.findall(
        r"^    (\w+): (.*?)(?=^    \w+: |\Z)", documentation, re.DOTALL | re.MULTILINE
    ):
        default = Settings.model_fields[name].default
        shown = (
            ""
            if default in (None, ())
            else f"{default:,}"
            if type(default) is int
            else str(default)
        )
        if name == "port":
            shown = str(default)
        lines.append(f"| `{name}` | {shown} | {' '.join(text.split())} |")
    return "\n".join(lines)


def test_every_setting_is_documented() -> None:
    table = settings_table()
    for name in Settings.model_fields:
        assert f"| `{name}` |" in table
    assert table in DOCS.read_text("utf-8"), f"docs/serving.md should hold:\n{table}"


def test_flags_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWSIE_PORT", "81")
    monkeypatch.setenv("NEWSIE_MAX_ARTICLES", "7")
    assert (read_settings({}).port, read_settings({}).max_articles) == (81, 7)
    assert read_settings({"port": 82}).port == 82


@pytest.mark.parametrize("name", ["AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"])
def test_ports_that_hosts_give(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "8080")
    assert Settings().port == 8080
    monkeypatch.setenv("NEWSIE_PORT", "81")
    assert Settings().port == 81


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("port", 70_000),
        ("workers", 0),
        ("max_articles", 0),
        ("max_queue_articles", -1),
        ("request_timeout_seconds", 0),
        ("header_timeout_seconds", float("nan")),
        ("drain_seconds", -1),
        ("nonsense", 1),
    ],
)
def test_values_that_are_not_allowed(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        read_settings({name: value})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NEWSIE_APIKEY", "NEWSIE_API_KEY"),
        ("NEWSIE_KEY", "NEWSIE_API_KEY"),
        ("NEWSIE_API_KEYFILE", "NEWSIE_API_KEY_FILE"),
        ("newsie_prot", "NEWSIE_PORT"),
        ("NEWSIE_WORKER", "NEWSIE_WORKERS"),
    ],
)
def test_a_slip_in_a_variable_is_noticed(name: str, meant: str) -> None:
    assert find_slips([name, "HOME"]) == {name: meant}


def test_other_variables_are_no_slips() -> None:
    of_kubernetes = ["NEWSIE_SERVICE_HOST", "NEWSIE_SERVICE_PORT", "NEWSIE_PORT_80_TCP"]
    of_ours = ["NEWSIE_RUNTIME", "NEWSIE_WORKERS_DIR", "NEWSIE_DEBUG", "NEWSIE_DATA"]
    settings = [f"NEWSIE_{name.upper()}" for name in Settings.model_fields]
    assert find_slips([*of_kubernetes, *of_ours, *settings, "newsie_port"]) == {}


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_threads_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Settings(workers=256).threads_of_a_worker() == 1
    assert Settings(workers=2, threads=3).threads_of_a_worker() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert Settings(workers=2).threads_of_a_worker() == 5
