"""Arrows point down. The layers, from the top; a module may import those of lower layers and of its
own package:

    cli
    laboratory
    training      serving       bulk
    doctor        confusion
    inference
    graph
    bundles       metrics
    data
    labels
    atomic        cores         texts         extras
    errors        locks         printable     version
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import newsie

ROOT = Path(newsie.__file__ or "").parent
LAYERS = [
    {"cli"},
    {"laboratory"},
    {"training", "serving", "bulk"},
    {"doctor", "confusion"},
    {"inference"},
    {"graph"},
    {"bundles", "metrics"},
    {"data"},
    {"labels"},
    {"atomic", "cores", "texts", "extras"},
    {"errors", "locks", "printable", "version"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "transformers", "accelerate", "datasets", "fastapi", "pyarrow", "sklearn", "onnx"}
FORBIDDEN = {  # package -> what none of its modules may import, not even inside a function
    "inference": HEAVY,
    "bundles": HEAVY,
    "labels": HEAVY,
    "errors": HEAVY,
    "bulk": HEAVY - {"pyarrow"},
    "graph": HEAVY - {"onnx"},
    "serving": {"torch", "transformers", "accelerate", "datasets", "pickle", "joblib"},
    "confusion": {"torch", "transformers", "accelerate", "fastapi"},
    "metrics": {"torch", "transformers", "accelerate", "datasets", "fastapi"},
    "doctor": {"torch", "transformers", "accelerate", "datasets", "fastapi"},
    "laboratory": {"fastapi", "uvicorn"},
    "training": {"fastapi", "uvicorn"},
}
LATE = {  # package -> what its modules may import inside functions only
    "data": HEAVY,
    "metrics": HEAVY,
    "bulk": HEAVY,
    "doctor": HEAVY | {"cleanlab", "py3langid"},
    "cli": HEAVY | {"numpy", "onnxruntime", "tokenizers", "rich", "uvicorn"},
    "bundles": {"huggingface_hub"},
    "inference": {"onnxruntime", "openvino"},
}
MODULES = sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    """What a file belongs to: "data" for newsie/data/readers.py, "" for newsie/__init__.py."""
    if path.name == "__main__.py":
        return "cli"  # python -m newsie.training is a command, whatever folder it is in
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of all modules imported anywhere in a tree, but for types only."""
    typing = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_when_loaded(tree: ast.Module) -> Iterator[str]:
    """Those that run when the module is imported: outside functions and classes."""
    rest = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    yield from imports(ast.Module(rest, []))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    package = package_of(path)
    if not package:
        return  # newsie/__init__.py names what is public, of all layers
    for name in imports(parse(path)):
        parts = name.split(".")
        if parts[0] != "newsie" or len(parts) == 1 or parts[1] not in LEVEL or parts[1] == package:
            continue
        assert LEVEL[parts[1]] > LEVEL[package], f"{package} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_that_are_kept_out(path: Path) -> None:
    tree, package = parse(path), package_of(path)
    everywhere = {name.split(".")[0] for name in imports(tree)}
    assert not everywhere & FORBIDDEN.get(package, set())
    loaded = {name.split(".")[0] for name in imports_when_loaded(tree)}
    assert not loaded & LATE.get(package, set())


def test_every_package_has_a_layer() -> None:
    found = {package_of(path) for path in MODULES} - {""}
    assert found == set(LEVEL)


def test_onnxruntime_is_imported_in_one_place() -> None:
    """Where its telemetry is turned off first."""
    root = ROOT.parent
    files = [
        path
        for folder in ("benchmarks", "newsie", "serving", "tests", "training")
        for path in (root / folder).rglob("*.py")
    ]
    importing = {
        path
        for path in files
        if any(name.split(".")[0] == "onnxruntime" for name in imports(parse(path)))
    }
    assert importing == {ROOT / "inference" / "student.py"}
    [function] = [
        node
        for node in ast.walk(parse(ROOT / "inference" / "student.py"))
        if isinstance(node, ast.FunctionDef) and "onnxruntime" in set(imports(node))
    ]
    assert function.name == "import_onnxruntime"
    assert "ORT_DISABLE_TELEMETRY" in ast.unparse(function.body[1])


def test_cores_are_counted_in_one_place() -> None:
    for path in MODULES:
        if path.name != "cores.py":
            text = path.read_text(encoding="utf-8")
            assert "sched_getaffinity" not in text, path
            assert "cpu_count" not in text, path


def test_nothing_is_unpickled_where_models_are_run() -> None:
    for path in MODULES:
        if package_of(path) not in ("training", "cli"):
            assert not {"pickle", "joblib", "shelve", "marshal"} & set(imports(parse(path))), path


def test_classifying_loads_nothing_heavy(tiny_bundle: Path) -> None:
    code = """
import sys
import newsie, newsie.data.readers, newsie.data.encoding, newsie.bundles.bundle, newsie.metrics.evaluation
classifier = newsie.Classifier.from_pretrained(sys.argv[1])
assert classifier.classify(["goal"])[0].label("section")
assert list(classifier.classify_stream(["goal", "the cup says new"]))
print(*{name.split(".")[0] for name in sys.modules})
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle)], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert "onnxruntime" in loaded  # it did classify
    assert not loaded & (HEAVY | {"rich", "typer", "huggingface_hub", "scipy", "pandas"})
