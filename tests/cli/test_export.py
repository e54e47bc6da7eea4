from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle, read_bundle
from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy, pad
from newsie.inference.classifier import Classifier
from newsie.metrics.evaluation import softmax
from newsie.training.model import MultiTaskModel
from newsie.training.revived_student import revive_student
from newsie.training.transformers_folder import export_transformers
from tests.tiny import tiny_articles, tiny_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
ARTICLES = tiny_articles(48, seed=3)
TEXTS = [f"{a.headline}\n{a.body}" if a.body else a.headline for a in ARTICLES]


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def calibrated(student: MultiTaskModel, bundle: Bundle, task: str) -> NDArray[np.float64]:
    """The float student's probabilities of the articles, (N, C)."""
    encoder = Encoder(tiny_tokenizer(), bundle.manifest.encoding)
    ids, mask = pad(encoder.encode(ARTICLES).ids, encoder.pad_id)
    with torch.no_grad():
        logits = student(torch.from_numpy(ids), torch.from_numpy(mask))[task].numpy()
    return softmax(logits / bundle.manifest.calibration[task])


def answered(directory: Path, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """What plain transformers makes of the folder, (N, C)."""
    from transformers import pipeline

    classify: Any = pipeline("text-classification", str(directory), truncation=True, device="cpu")
    rows = [{row["label"]: row["score"] for row in found} for found in classify(TEXTS, top_k=None)]
    return np.array([[row[label] for label in labels] for row in rows])


def test_plain_transformers_answers_as_the_float_student(
    tiny_student: MultiTaskModel, bundle: Bundle, tmp_path: Path
) -> None:
    export_transformers(tiny_student, bundle, "section", tmp_path / "out")
    found = answered(tmp_path / "out", ("business", "science", "sports"))
    assert np.abs(found - calibrated(tiny_student, bundle, "section")).max() < 1e-4
    assert len(set(found.argmax(axis=1))) > 1  # the answers do differ


def test_a_folder_from_a_bundle_alone(newsie: Any, bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    code, out, _ = newsie("export", folder, "--format", "transformers", "--task", "mood")
    assert (code, out) == (0, f"{folder}\n")
    found = answered(folder, ("calm", "loud"))
    assert np.abs(found - calibrated(revive_student(bundle), bundle, "mood")).max() < 1e-4
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
    assert "auto_map" not in config
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert (header["library_name"], header["license"]) == ("transformers", "apache-2.0")
    assert "the headline, a line break, the body" in card
    (code_block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(code_block.replace('"DIRECTORY"', repr(str(folder))), {})


def test_onnx_says_by_itself_how_it_is_used(newsie: Any, bundle: Bundle, tmp_path: Path) -> None:
    """The example of the docs, which knows onnxruntime, tokenizers and numpy only, and no newsie."""
    file = tmp_path / "model.onnx"
    code, out, _ = newsie("export", file, "--format", "onnx")
    assert (code, out) == (0, f"{file}\n")
    (example,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example.replace('"model.onnx"', repr(str(file))), names)

    (wanted,) = Classifier(bundle, threads=1).classify([Article("goal cup", "the keeper")])
    found = names["classify"]("goal cup", "the keeper")
    assert tuple(found) == wanted.tasks
    for task, scores in found.items():
        assert tuple(scores) == bundle.manifest.label_space[task].labels
        np.testing.assert_allclose(list(scores.values()), wanted.probabilities[task], atol=1e-6)
    assert names["about"]["newsie.fingerprint"] == bundle.fingerprint
    assert EncodingPolicy.from_json(names["encoding"]) == bundle.manifest.encoding


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "transformers"], 2, "transformers answers one task a folder"),
        (["--format", "onnx", "--task", "mood"], 2, "ONNX keeps all tasks; 'mood' was given"),
        (["--format", "transformers", "--task", "mod"], 2, "no task 'mod'; it has: section, mood"),
        (["--format", "transformers", "--task", "mood"], 1, "exists already; choose another name"),
        (["--format", "onnx"], 1, "exists already; choose another name"),
    ],
)
def test_what_cannot_be_exported(
    newsie: Any, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    target = tmp_path / "out"
    target.touch() if "onnx" in arguments else target.mkdir()
    found = newsie("export", target, *arguments)
    assert found.code == code
    assert message in " ".join(found.err.replace("│", " ").split())
    missing = newsie("export", tmp_path / "no" / "file.onnx", "--format", "onnx")
    assert (missing.code, "there is no folder" in missing.err) == (1, True)
