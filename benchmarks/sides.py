"""What is compared: `newsie`, and a transformers pipeline with DistilBERT in fp32."""

from __future__ import annotations

import argparse
import json
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.distilbert import write_distilbert
from benchmarks.processes import run
from benchmarks.report import RESULTS
from newsie.bundles.bundle import bundled_path, read_bundle

__all__ = [
    "add_options",
    "classify_command",
    "describe_sides",
    "find_checkpoint",
    "peer_command",
    "positive",
]

PEERS = Path(__file__).parent / "peers"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every benchmark has."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=Path, help="bundle to measure [the bundled one]")
    parser.add_argument(
        "--newsie", type=Path, help="the newsie to run [the one beside this Python, or this code]"
    )
    parser.add_argument(
        "--distilbert", type=Path, help="the pipeline's checkpoint [of that shape, random weights]"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")


def positive(text: str) -> int:
    """A number of something; argparse's complaint if it is none or not above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is given; give a whole number, at least 1")
    return int(text)


def classify_command(options: argparse.Namespace) -> list[str]:
    """`newsie classify`, with the model asked for."""
    model = [] if options.model is None else ["--model", str(options.model.absolute())]
    return [*_newsie(options), "classify", *model]


def _newsie(options: argparse.Namespace) -> list[str]:
    installed = options.newsie or Path(sysconfig.get_path("scripts")) / "newsie"
    if options.newsie is None and not installed.exists():
        return [sys.executable, "-c", "from newsie.cli import main; main()"]
    return [str(installed.absolute())]


def peer_command(script: str, checkpoint: Path, *arguments: str) -> list[str]:
    """A script of peers/ with the checkpoint and what else it takes."""
    return [sys.executable, str(PEERS / f"{script}.py"), str(checkpoint.absolute()), *arguments]


def find_checkpoint(options: argparse.Namespace, scratch: Path) -> Path:
    """The pipeline's model; it is made in `scratch` if none is given."""
    return options.distilbert or write_distilbert(scratch / "distilbert")


def describe_sides(options: argparse.Namespace) -> dict[str, Any]:
    """The models and the versions of what matters to their speed."""
    newsie = Path(_newsie(options)[0])
    return {
        "newsie": {
            "bundle": read_bundle(options.model or bundled_path()).fingerprint,
            "packages": _versions(newsie, ["onnxruntime", "numpy", "tokenizers", "typer"]),
        },
        "pipeline": {
            "checkpoint": str(options.distilbert or "random weights"),
            "packages": _versions(Path(sys.executable), ["torch", "transformers", "tokenizers"]),
        },
    }


def _versions(command: Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions where a command is installed: it is a Python, or has one beside it."""
    code = (
        "import json, platform, sys; from importlib.metadata import version; "
        "print(json.dumps({'python': platform.python_version()} | "
        "{name: version(name) for name in sys.argv[1:]}))"
    )
    found = run([str(command.parent / "python"), "-c", code, *packages]).output
    return {str(name): str(value) for name, value in json.loads(found).items()}
