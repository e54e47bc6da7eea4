from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import newsie.bundles.bundle as bundle_module
from newsie.bundles.bundle import (
    FORMAT_VERSION,
    FileRecord,
    Lineage,
    Manifest,
    bundled_path,
    copy_bundle,
    open_bundle,
    read_bundle,
    write_bundle,
)
from newsie.bundles.hub import find_bundle
from newsie.bundles.registry import Shelf
from newsie.data.encoding import EncodingPolicy
from newsie.errors import BundleError
from newsie.inference.classifier import Classifier
from newsie.labels import LabelRule, LabelSpace, Task

LABELS = LabelSpace((Task("section", ("sports", "arts"), LabelRule("desk", {"press": "tabloid"})),))
FILES = {name: FileRecord("0" * 64, 1) for name in ("model.onnx", "tokenizer.json")}


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "small",
        "label_space": LABELS,
        "encoding": EncodingPolicy(64, ("Daily",)),
        "calibration": {"section": 1.5},
        "files": FILES,
    }
    return Manifest(**values | changes)


def write(directory: Path, model: bytes = b"graph", **changes: Any) -> Path:
    """A bundle whose model is a few bytes: enough for all that does not run it."""
    source = directory.parent / "graph.onnx"
    source.write_bytes(model)
    values: dict[str, Any] = {
        "name": "small",
        "label_space": LABELS,
        "encoding": EncodingPolicy(64, ("Daily – Ünïcode",)),
        "calibration": {"section": 1.5},
        "model": source,
        "tokenizer": '{"tokens": "é"}',
        "card": "# Small\n",
        "metrics": {"section": {"accuracy": 0.5}},
        "lineage": Lineage(teacher="abc", commit="def", recipe={"layers": 3}),
    }
    return write_bundle(directory, **values | changes).path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "small")


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest and seal it again, as a forger would."""
    content = json.loads((path / "newsie.json").read_text(encoding="utf-8"))
    del content["sha256"]
    change(content)
    raw = json.dumps(content, indent=2).removesuffix("\n}").encode()
    digest = hashlib.sha256(raw).hexdigest()
    (path / "newsie.json").write_bytes(raw + f',\n  "sha256": "{digest}"\n}}\n'.encode())


def test_what_is_written_is_read(small: Path) -> None:
    bundle = read_bundle(small)
    assert bundle.manifest.label_space.to_json() == LABELS.to_json()
    assert bundle.manifest.encoding == EncodingPolicy(64, ("Daily – Ünïcode",))
    assert bundle.manifest.calibration == {"section": 1.5}
    assert bundle.manifest.lineage == Lineage(teacher="abc", commit="def", recipe={"layers": 3})
    assert bundle.manifest.metrics == {"section": {"accuracy": 0.5}}
    assert bundle.manifest.created.endswith("+00:00")
    assert bundle.model_path.read_bytes() == b"graph"
    assert {path.name for path in small.iterdir()} == {
        "README.md",
        "model.onnx",
        "newsie.json",
        "tokenizer.json",
    }
    assert Manifest.from_json(bundle.manifest.to_json()) == bundle.manifest  # as read


def test_nothing_is_left_beside_a_bundle(small: Path) -> None:
    assert {path.name for path in small.parent.iterdir()} == {"small", "graph.onnx"}


def test_other_files_are_left_alone(small: Path) -> None:
    before = read_bundle(small).fingerprint
    (small / ".gitattributes").write_text("*.onnx filter=lfs")
    (small / "more").mkdir()
    assert read_bundle(small).fingerprint == before
    assert (small / "more").is_dir()


@pytest.mark.parametrize("name", ["newsie.json", "tokenizer.json", "README.md", "model.onnx"])
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_changed_byte_is_seen(small: Path, name: str, mask: int) -> None:
    whole = (small / name).read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= mask
        (small / name).write_bytes(changed)
        with pytest.raises(BundleError, match=r"newsie\.json" if name == "newsie.json" else name):
            read_bundle(small)
    (small / name).write_bytes(whole)
    read_bundle(small)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_changed_byte_of_a_real_model_is_seen(
    tiny_bundle: Path, tmp_path: Path, position: float, mask: int
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy, dirs_exist_ok=True)
    changed = bytearray((copy / "model.onnx").read_bytes())
    changed[int(position * len(changed))] ^= mask
    (copy / "model.onnx").write_bytes(changed)
    with pytest.raises(BundleError, match=r"model\.onnx is damaged"):
        Classifier.from_pretrained(copy)


def test_whitespace_counts_in_the_manifest(small: Path) -> None:
    raw = (small / "newsie.json").read_bytes()
    for changed in (
        raw + b"\n",
        raw.replace(b"\n", b"\r\n"),
        raw[:-1],
        raw.replace(b"  ", b" ", 1),
    ):
        (small / "newsie.json").write_bytes(changed)
        with pytest.raises(BundleError, match="changed after it was written"):
            read_bundle(small)


@pytest.mark.parametrize("name", ["newsie.json", "tokenizer.json", "README.md", "model.onnx"])
def test_a_missing_file_is_named(small: Path, name: str) -> None:
    (small / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing"):
        read_bundle(small)


def test_a_folder_of_bundles_names_them(small: Path, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    small.rename(tmp_path / "shelf" / "autumn")
    with pytest.raises(BundleError, match="name a bundle in it: autumn"):
        read_bundle(tmp_path / "shelf")


def test_a_file_may_be_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "bare", card="")
    assert read_bundle(path).card == ""
    (path / "README.md").write_text("# Bare\n")
    with pytest.raises(BundleError, match=r"README\.md is damaged"):
        read_bundle(path)


@pytest.mark.parametrize("name", ["newsie.json", "model.onnx"])
def test_cut_files_are_seen(small: Path, name: str) -> None:
    whole = (small / name).read_bytes()
    for size in range(len(whole)):
        (small / name).write_bytes(whole[:size])
        with pytest.raises(BundleError, match=name):
            read_bundle(small)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a directory"):
        read_bundle(tmp_path / "nothing")


def test_a_newer_format_says_what_to_do(small: Path) -> None:
    reseal(small, lambda content: content.update(format_version=FORMAT_VERSION + 1))
    with pytest.raises(BundleError, match=r"format 2.*up to 1.*install a newer Newsie"):
        read_bundle(small)


@pytest.mark.parametrize("version", [0, -1, "1", None, [], 1.5])
def test_a_senseless_format(small: Path, version: object) -> None:
    reseal(small, lambda content: content.update(format_version=version))
    with pytest.raises(BundleError, match="format_version"):
        read_bundle(small)


@pytest.mark.parametrize(
    "name",
    ["../model.onnx", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "C:x", "newsie.json", "\0"],
)
def test_files_outside_the_directory_are_refused(small: Path, name: str) -> None:
    reseal(small, lambda content: content["files"].update({name: content["files"]["README.md"]}))
    with pytest.raises(BundleError, match="plain file names"):
        read_bundle(small)


@pytest.mark.parametrize(
    "temperature", [0.0, -1.0, math.nan, math.inf, 1e-320, 1e-30, 1e308, True, "1.0", None, [1.0]]
)
def test_calibration_must_be_a_usable_number(small: Path, temperature: Any) -> None:
    with pytest.raises(BundleError, match="a finite number from 1e-06 to 1e\\+06"):
        manifest(calibration={"section": temperature})
    reseal(small, lambda content: content.update(calibration={"section": temperature}))
    with pytest.raises(BundleError, match="a finite number from 1e-06 to 1e\\+06"):
        read_bundle(small)


def forged(content: dict[str, Any], place: str, value: Any) -> None:
    """Put a value into a manifest, at a place such as "encoding.max_tokens"."""
    *folders, name = [int(part) if part.isdecimal() else part for part in place.split(".")]
    inner: Any = content
    for folder in folders:
        inner = inner[folder]
    inner[name] = value


LABEL_0, LABELS_0 = "label_space.0.labels.0", "label_space.0.labels"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (LABEL_0, None, "None is no text"),
        (LABEL_0, 3, "3 is no text"),
        (LABEL_0, ["x"], "is no text"),
        (LABEL_0, "", "'' is empty"),
        (LABEL_0, " ", "' ' is empty"),
        (LABEL_0, "\ud800", "cannot be shown or written"),
        (LABEL_0, "a\nb", "cannot be shown or written"),
        (LABEL_0, "\x1b[31m", "cannot be shown or written"),
        (LABEL_0, "a\u2028b", "cannot be shown or written"),
        (LABEL_0, "a\u202eb", "cannot be shown or written"),
        (LABEL_0, "a\u2066b\u2069", "cannot be shown or written"),
        (LABEL_0, "\u200b", "has no visible character"),
        (LABEL_0, "\ufeff\u00ad \u2060", "has no visible character"),
        (LABEL_0, "\u3164\u115f", "has no visible character"),
        (LABEL_0, "\u2800", "has no visible character"),
        ("label_space.0.name", "\u200b", "a task needs a name"),
        ("name", "\u200d\u200b", "the model's name .* has no visible character"),
        ("name", "x\u202e", "the model's name .* cannot be shown or written"),
        ("lineage.data", "\u200b", "data in the manifest: .* has no visible character"),
        ("lineage.recipe", [], "the recipe in the lineage .* a mapping"),
        ("lineage.recipe", "x", "the recipe in the lineage .* a mapping"),
        ("metrics", [], r"metrics in the manifest: \[\] is given; a mapping"),
        ("metrics", "x", "metrics in the manifest"),
        ("metrics", None, "metrics in the manifest"),
        (LABEL_0, "x" * 2_000, "has 2,000 characters, more than 1,000"),
        (LABEL_0, "arts", "more than once"),
        (LABELS_0, "ab", "labels are given as str; give a list"),
        (LABELS_0, [str(n) for n in range(100_001)], "has 100,001 labels; at most 100,000"),
        ("label_space.0.name", None, "a task needs a name"),
        ("name", "\ud800", "the model's name .* cannot be shown or written"),
        ("name", "a\r\nSet-Cookie: x=1", "the model's name .* cannot be shown or written"),
        ("name", "", "the model's name '' is empty"),
        ("name", None, "the model's name None is no text"),
        ("name", "x" * 501, "has 501 characters"),
        ("created", "\x07", "created in the manifest"),
        ("lineage.parent", "a\nb", "parent in the manifest"),
        ("encoding.max_tokens", 0, "max_tokens is 0; a whole number from 1 to 131,072"),
        ("encoding.max_tokens", -5, "max_tokens is -5"),
        ("encoding.max_tokens", 10**9, "max_tokens is 1000000000"),
        ("encoding.max_tokens", "256", "max_tokens is '256'"),
        ("encoding.max_tokens", True, "max_tokens is True"),
        ("encoding.max_tokens", math.nan, "max_tokens is nan"),
        ("encoding.site_suffixes", "abc", "site_suffixes is str"),
        ("encoding.site_suffixes", [3], "site_suffixes holds something else than text"),
        ("format_version", True, "format_version is True"),
        ("format_version", 1.0, "format_version is 1.0"),
        ("files.README.md", {"sha256": "x", "bytes": 1}, "is not a sha256"),
    ],
)
def test_values_of_a_manifest_that_make_no_sense(
    small: Path, place: str, value: Any, message: str
) -> None:
    if place.startswith("files."):
        reseal(small, lambda content: content["files"].update({"README.md": value}))
    else:
        reseal(small, lambda content: forged(content, place, value))
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(small)
    str(caught.value).encode()  # also the message can be printed


@pytest.mark.parametrize(
    "label", ["فوتبال\u200cها", "👩\u200d🚀", "é", "e\u0301", "हिन्दी", "日本 語"]
)
def test_joiners_and_marks_between_visible_characters_are_allowed(small: Path, label: str) -> None:
    reseal(small, lambda content: forged(content, LABEL_0, label))
    assert read_bundle(small).manifest.label_space["section"].labels[0] == label


BUNDLE_FILES = ["README.md", "model.onnx", "tokenizer.json"]


def readers(path: Path) -> list[Callable[[], object]]:
    """The ways to read every file of a bundle."""
    return [
        lambda: read_bundle(path),
        lambda: open_bundle(path).contents(),
        lambda: copy_bundle(path, path.parent / "copy"),
    ]


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_file_that_is_too_long_is_not_read(small: Path, name: str) -> None:
    os.truncate(small / name, 1 << 42)
    for read in readers(small):
        with pytest.raises(BundleError, match=r"is damaged \(4,398,046,511,104 bytes"):
            read()
    huge = {"sha256": "0" * 64, "bytes": 1 << 42}
    reseal(small, lambda content: content["files"].update({name: huge}))
    with pytest.raises(BundleError, match="a file of a bundle has at most 2,147,483,648"):
        open_bundle(small)


def test_reading_stops_where_a_file_has_grown(small: Path) -> None:
    os.truncate(small / "README.md", 1 << 42)
    record = bundle_module._record(small / "README.md", 5)
    assert record.bytes == bundle_module.HASHED_BYTES


@pytest.mark.parametrize("name", [*BUNDLE_FILES, "newsie.json"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_plain_file_is_not_opened(small: Path, name: str, kind: str) -> None:
    path = small / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    for read in readers(small):
        with pytest.raises(BundleError, match=f"{re.escape(name)} is not a plain file"):
            read()


def test_a_manifest_that_never_ends_is_not_read(small: Path, tmp_path: Path) -> None:
    with (small / "newsie.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="more than 64 MiB; it is no manifest"):
        read_bundle(small)


def test_contents_are_what_was_verified(small: Path) -> None:
    bundle = open_bundle(small)
    contents = bundle.contents()
    assert contents["model.onnx"] == b"graph"
    (small / "model.onnx").write_bytes(b"other")
    assert contents["model.onnx"] == b"graph"
    for read in (bundle.contents, lambda: bundle.read("model.onnx"), lambda: read_bundle(small)):
        with pytest.raises(BundleError, match=r"model\.onnx is damaged"):
            read()
    (small / "model.onnx").write_bytes(b"graph")
    (small / "README.md").write_text("forged")
    with pytest.raises(BundleError, match=r"README\.md is damaged"):
        bundle.contents()


def test_no_file_of_a_bundle_is_opened_twice(tiny_bundle: Path) -> None:
    """By the whole process: also what libraries open is seen."""
    opened: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and event == "open" and str(arguments[0]).startswith(str(tiny_bundle)):
            opened.append(Path(arguments[0]).name)

    sys.addaudithook(watch)
    try:
        Classifier.from_pretrained(tiny_bundle, threads=1)
    finally:
        watching[0] = False
    assert sorted(opened) == ["README.md", "model.onnx", "newsie.json", "tokenizer.json"]


def test_a_bundle_whose_replacement_was_killed_is_put_back(small: Path) -> None:
    fingerprint = read_bundle(small).fingerprint
    for read in (read_bundle, find_bundle, lambda path: Shelf.of(path.parent)):
        small.rename(small.with_name(".small.old"))
        read(small)
        assert read_bundle(small).fingerprint == fingerprint
        assert not small.with_name(".small.old").exists()


@pytest.mark.parametrize("calibration", [{}, {"section": 1.0, "other": 1.0}])
def test_every_task_has_one_temperature(calibration: dict[str, float]) -> None:
    with pytest.raises(BundleError, match="every task one"):
        manifest(calibration=calibration)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_model_and_tokenizer_must_be_listed(name: str) -> None:
    with pytest.raises(BundleError, match=name):
        manifest(files={other: record for other, record in FILES.items() if other != name})


@pytest.mark.parametrize(
    "change",
    [
        {"label_space": []},
        {"label_space": [{"name": "section", "labels": ["one"]}]},
        {"label_space": "section"},
        {"encoding": {}},
        {"calibration": {"section": "hot"}},
        {"calibration": None},
        {"files": {"model.onnx": {"sha": "0"}}},
        {"lineage": {"grandparent": "x"}},
    ],
)
def test_senseless_manifests_are_refused(small: Path, change: dict[str, Any]) -> None:
    reseal(small, lambda content: content.update(change))
    with pytest.raises(BundleError):
        read_bundle(small)


def test_a_forged_manifest_that_is_no_json(small: Path) -> None:
    for raw in (b"nonsense", b'{"a": ' + b"[" * 100_000, b"[1", b'{"format_version": 1'):
        tail = f',\n  "sha256": "{hashlib.sha256(raw).hexdigest()}"\n}}\n'
        (small / "newsie.json").write_bytes(raw + tail.encode())
        with pytest.raises(BundleError):
            read_bundle(small)


def test_fingerprint_is_of_what_decides_the_answers(tmp_path: Path, small: Path) -> None:
    first = read_bundle(small).fingerprint
    same: dict[str, Any] = {"name": "other", "card": "other", "metrics": {}, "lineage": Lineage()}
    assert read_bundle(write(tmp_path / "same", **same)).fingerprint == first
    other: list[dict[str, Any]] = [
        {"model": b"other"},
        {"tokenizer": "other"},
        {"calibration": {"section": 1.6}},
        {"encoding": EncodingPolicy(63)},
        {"label_space": LABELS.extend({"section": ["news"]})},
    ]
    prints = {
        read_bundle(write(tmp_path / str(i), **change)).fingerprint
        for i, change in enumerate(other)
    }
    assert len(prints | {first}) == 1 + len(other)


def test_a_bundle_is_not_overwritten_by_accident(small: Path) -> None:
    with pytest.raises(BundleError, match="exists already"):
        write(small)
    assert read_bundle(write(small, b"new", replace=True)).model_path.read_bytes() == b"new"
    assert {path.name for path in small.parent.iterdir()} == {"small", "graph.onnx"}


def test_only_bundles_and_empty_directories_are_replaced(small: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear")
    (tmp_path / "empty").mkdir()
    for name in ("letters", "letters/dear.txt"):
        with pytest.raises(BundleError, match="is not a bundle, so it is not replaced"):
            copy_bundle(small, tmp_path / name)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "Dear"
    assert copy_bundle(small, tmp_path / "empty").fingerprint == read_bundle(small).fingerprint


def test_a_copy_may_say_something_else_of_the_same_answers(small: Path, tmp_path: Path) -> None:
    before = read_bundle(small)
    copy = copy_bundle(small, tmp_path / "copy", card="# Another\n", metrics={"accuracy": 0.5})
    assert (copy.card, copy.manifest.metrics) == ("# Another\n", {"accuracy": 0.5})
    assert copy.fingerprint == before.fingerprint
    again = copy_bundle(copy.path, copy.path, card="# Third\n")
    assert (again.card, again.manifest.metrics) == ("# Third\n", {"accuracy": 0.5})
    assert again.manifest.created == before.manifest.created
    assert copy_bundle(small, tmp_path / "plain").card == before.card


def test_a_damaged_bundle_is_not_copied(small: Path, tmp_path: Path) -> None:
    (small / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model\.onnx is damaged"):
        copy_bundle(small, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"accuracy": math.nan}},
        {"calibration": {"section": 0.0}},
        {"model": None},
        {"card": "\ud800"},
    ],
)
def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(
    small: Path, change: dict[str, Any]
) -> None:
    before = read_bundle(small).manifest
    if "model" in change:
        change = {"model": b"", "tokenizer": None}
    with pytest.raises((BundleError, TypeError, UnicodeEncodeError)):
        write(small, **change, replace=True)
    assert read_bundle(small).manifest == before
    assert {path.name for path in small.parent.iterdir()} == {"small", "graph.onnx"}


def test_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"")
    bundle = write(tmp_path / "small")
    moved = write_bundle(
        tmp_path / "a" / "b",
        name="b",
        label_space=LABELS,
        encoding=EncodingPolicy(),
        calibration={"section": 1.0},
        model=bundle / "model.onnx",
        tokenizer="{}",
        card="",
    )
    assert moved.path == tmp_path / "a" / "b"


def test_the_bundled_model_is_inside_the_package() -> None:
    import newsie

    assert newsie.__file__ is not None
    assert bundled_path() == Path(newsie.__file__).parent / "models" / "default"


def test_manifests_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest().name = "other"  # type: ignore[misc]
