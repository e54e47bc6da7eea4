from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from newsie.inference.classifier import Classifier
from tests.tiny import LABELS, tiny_articles, tiny_tokenizer, write_tiny_encoder

if TYPE_CHECKING:
    from newsie.training.model import MultiTaskModel

# The same examples every time, however busy the machine is; HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> MultiTaskModel:
    """A DistilBERT of 2 layers with a head for each tiny task, not trained."""
    import torch

    from newsie.data.encoding import Encoder, EncodingPolicy, pad
    from newsie.training.encoder import load_encoder
    from newsie.training.model import MultiTaskModel

    directory = write_tiny_encoder(tmp_path_factory.mktemp("encoder"), "distilbert")
    torch.manual_seed(0)
    model = MultiTaskModel(load_encoder(str(directory)), LABELS).eval()
    # Answers that are spread over all labels and sure of themselves, and so can be told apart.
    ids, mask = pad(Encoder(tiny_tokenizer(), EncodingPolicy(32)).encode(tiny_articles(64)).ids, 0)
    with torch.no_grad():
        for task, head in model.heads.items():
            head.pre_classifier.weight.mul_(10)  # type: ignore[union-attr, operator]
            head.classifier.weight.mul_(10)  # type: ignore[union-attr, operator]
            logits = model(torch.from_numpy(ids), torch.from_numpy(mask))[task]
            head.classifier.bias.sub_(logits.mean(dim=0))  # type: ignore[union-attr, operator]
    return model


@pytest.fixture(scope="session")
def tiny_bundle(tiny_student: MultiTaskModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a bundle that holds the tiny student in int8. Not to be written to."""
    from newsie.bundles.bundle import write_bundle
    from newsie.data.encoding import EncodingPolicy
    from newsie.graph.quantize import quantize_int8
    from newsie.training.export import export_onnx

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
