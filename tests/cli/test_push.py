from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from newsie.bundles.bundle import copy_bundle, read_bundle
from newsie.training.card import model_card
from tests.hub import TOKEN, Hub, running_hub

# huggingface_hub sends a file as httpx2 no longer wants it.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        yield hub


def opened_elsewhere(repository: str, hub: Hub, home: Path) -> str:
    """Fingerprint of the bundle that another process downloads from the hub and opens."""
    code = "import newsie, sys; print(newsie.Classifier.from_pretrained(sys.argv[1]).bundle.fingerprint)"
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(home)}
    command = [sys.executable, "-c", code, repository]
    return subprocess.check_output(command, env=environment, text=True).strip()


@pytest.mark.slow
def test_what_is_pushed_is_what_is_opened(
    hub: Hub, newsie: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    code, out, err = newsie("push", "desk/news", "--private")
    assert (code, out.strip()) == (0, f"{hub.address}/desk/news"), err
    assert "newsie classify --model desk/news" in err
    before = read_bundle(tiny_bundle)
    assert set(hub.files["desk/news"]) == {"newsie.json", *before.manifest.files}
    assert hub.private["desk/news"]
    assert hub.commits["desk/news"] == [f"tiny {before.fingerprint}"]
    assert hub.large, "the graph went through LFS"
    assert opened_elsewhere("desk/news", hub, tmp_path) == before.fingerprint


def test_the_card_is_complete_and_names_the_repository(hub: Hub, newsie: Any) -> None:
    assert newsie("push", "desk/news").code == 0
    card = hub.files["desk/news"]["README.md"].decode()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "apache-2.0"
    assert (header["library_name"], header["pipeline_tag"]) == ("newsie", "text-classification")
    for part in ("## How to use it", "## Tasks and labels", "## What it learnt from", "## Limits"):
        assert part in card
    assert 'Classifier.from_pretrained("desk/news")' in card


def test_a_complete_card_is_kept(hub: Hub, newsie: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    card = model_card(read_bundle(tiny_bundle).manifest) + "\nA word of its own.\n"
    copy_bundle(tiny_bundle, tmp_path / "own", card=card)
    assert newsie("push", "desk/news", "--model", tmp_path / "own").code == 0
    pushed = hub.files["desk/news"]["README.md"].decode()
    assert pushed == card.replace('"DIRECTORY")  # of this file', '"desk/news")')


def test_pushed_again_it_is_replaced(hub: Hub, newsie: Any) -> None:
    for _ in range(2):
        assert newsie("push", "desk/news").code == 0
    assert len(hub.commits["desk/news"]) == 2
    assert sum(call.startswith("PUT") for call in hub.calls) == 1  # LFS has it already


def test_private_never_ends_in_public(hub: Hub, newsie: Any) -> None:
    assert newsie("push", "desk/news").code == 0
    code, _, err = newsie("push", "desk/news", "--private")
    assert code == 1
    assert "is there and public, and --private is asked for; nothing was uploaded" in err
    assert len(hub.commits["desk/news"]) == 1


def test_who_may_not_write_is_told_what_to_do(
    hub: Hub, newsie: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.read_only = True
    code, _, err = newsie("push", "desk/news")
    assert (code, err.count("\n")) == (1, 1)
    assert "your token may not write there: use one with write access" in err
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    code, _, err = newsie("push", "desk/news")
    assert (code, err.count("\n")) == (1, 1)
    assert "it does not know you: type  hf auth login" in err


def test_no_hub(hub: Hub, newsie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, _, err = newsie("push", "desk/news")
    assert (code, err.count("\n")) == (1, 1)
    assert "desk/news was not uploaded to http://127.0.0.1:9: it cannot be reached" in err


@pytest.mark.parametrize("name", ["news", "a/b/c", "./bundle", "desk/"])
def test_a_name_that_no_repository_has(newsie: Any, name: str) -> None:
    code, _, err = newsie("push", name)
    assert code == 1
    assert f"{name!r} is not a repository; write owner/name" in err
