"""Export of a student as a single ONNX file that describes its inputs and outputs in its metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from newsie.atomic import new_file
from newsie.bundles.bundle import Bundle
from newsie.errors import InputError, MissingExtraError

__all__ = ["export_labelled_onnx", "onnx_metadata"]

TEXT = "headline + '\\n' + body, or the one that there is; no markup, no control characters"


def onnx_metadata(bundle: Bundle) -> dict[str, str]:
    """Return the metadata of the file. Values other than plain text are JSON.

    newsie.name, newsie.fingerprint, newsie.version
    newsie.tasks        task -> its labels, in the order of the columns of the output of that name
    newsie.calibration  task -> the temperature by which its logits are divided before softmax
    newsie.encoding     text, max_tokens, site_suffixes: how to turn an article into token ids
    newsie.tokenizer    tokenizer.json, for `tokenizers.Tokenizer.from_str`
    """
    manifest = bundle.manifest
    tasks = {task.name: list(task.labels) for task in manifest.label_space.tasks}
    return {
        "newsie.name": manifest.name,
        "newsie.fingerprint": bundle.fingerprint,
        "newsie.version": manifest.newsie_version,
        "newsie.tasks": _json(tasks),
        "newsie.calibration": _json(dict(manifest.calibration)),
        "newsie.encoding": _json({"text": TEXT, **manifest.encoding.to_json()}),
        "newsie.tokenizer": bundle.tokenizer_path.read_text(encoding="utf-8"),
    }


def export_labelled_onnx(bundle: Bundle, path: Path) -> None:
    """Write the graph of a bundle with `onnx_metadata`. The computation does not change.

    Args:
        bundle: a verified bundle.
        path: the file to write, which must not exist.

    Raises:
        InputError: the file exists already, or its folder does not exist.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("exporting a model", error.name or "onnx", "train") from error
    if path.exists():
        raise InputError(f"{path} exists already; choose another name, or remove it")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}")
    model = onnx.load(bundle.model_path)
    onnx.helper.set_model_props(model, onnx_metadata(bundle))
    with new_file(path) as aside:
        onnx.save(model, aside)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
