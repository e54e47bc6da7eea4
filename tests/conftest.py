from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from newsie.classifier import Classifier
from tests.tiny import LABELS, tiny_tokenizer, write_tiny_encoder

if TYPE_CHECKING:
    from newsie.training.model import MultiTaskModel


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> MultiTaskModel:
    """A DistilBERT of 2 layers with a head for each tiny task, not trained."""
    import torch

    from newsie.training.model import MultiTaskModel, load_encoder

    directory = write_tiny_encoder(tmp_path_factory.mktemp("encoder"), "distilbert")
    torch.manual_seed(0)
    model = MultiTaskModel(load_encoder(str(directory)), LABELS).eval()
    with torch.no_grad():  # answers that are sure of themselves, and so can be told apart
        for head in model.heads.values():
            head.pre_classifier.weight.mul_(10)  # type: ignore[union-attr, operator]
            head.classifier.weight.mul_(10)  # type: ignore[union-attr, operator]
    return model


@pytest.fixture(scope="session")
def tiny_bundle(tiny_student: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a bundle that holds the tiny student in int8. Not to be written to."""
    from newsie.bundle import write_bundle
    from newsie.data.encoding import EncodingPolicy
    from newsie.training.export import export_onnx
    from newsie.training.quantization import quantize_int8

    directory = tmp_path_factory.mktemp("bundle")
    export_onnx(tiny_student, directory / "float.onnx")
    quantize_int8(directory / "float.onnx", directory / "int8.onnx")
    return write_bundle(
        directory / "tiny",
        name="tiny",
        label_space=LABELS,
        encoding=EncodingPolicy(max_tokens=32, site_suffixes=("Tiny Times",)),
        calibration={"section": 2.0, "mood": 1.0},
        model=directory / "int8.onnx",
        tokenizer=tiny_tokenizer().to_str(),
        card="# tiny\n",
    ).path


@pytest.fixture(scope="session")
def tiny_classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_bundle, threads=2)
