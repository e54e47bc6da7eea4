from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, DistilBertModel, PreTrainedModel

from newsie.errors import InputError
from newsie.training.encoder import encode_first, encoder_directory, load_encoder, take_layers
from tests.tiny import tiny_encoder, write_tiny_encoder


def inputs() -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask


def reference(encoder: PreTrainedModel) -> Tensor:
    """What transformers itself computes."""
    ids, mask = inputs()
    first: Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    return first


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert"])
def test_first_token_is_what_transformers_computes(kind: str, tmp_path: Path) -> None:
    original = tiny_encoder(kind)
    loaded = load_encoder(str(write_tiny_encoder(tmp_path, kind)))
    for encoder in (original, loaded):
        encoder.train(False)
    with torch.inference_mode():
        found = encode_first(loaded, *inputs())
        torch.testing.assert_close(found, reference(original), atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_transformers() -> None:
    encoder = tiny_encoder("distilbert")
    gradients = []
    for answer in (encode_first(encoder, *inputs()), reference(encoder)):
        encoder.zero_grad()
        answer.square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append(
            {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-3)


def test_dropout_is_applied_while_training_only() -> None:
    encoder = take_layers(tiny_distilbert(), [0, 1], dropout=0.5)
    encoder.train()
    torch.manual_seed(0)
    one, two = (encode_first(encoder, *inputs()) for _ in range(2))
    assert not torch.equal(one, two)
    encoder.train(False)
    one, two = (encode_first(encoder, *inputs()) for _ in range(2))
    assert torch.equal(one, two)


def tiny_distilbert() -> DistilBertModel:
    encoder = tiny_encoder("distilbert")
    assert isinstance(encoder, DistilBertModel)
    return encoder


def test_a_bert_that_normalises_otherwise_stays_a_bert(tmp_path: Path) -> None:
    config = BertConfig.from_dict(tiny_encoder("bert").config.to_dict() | {"layer_norm_eps": 1e-5})
    original = BertModel(config, add_pooling_layer=False)
    original.save_pretrained(tmp_path)
    loaded = load_encoder(str(tmp_path))
    for encoder in (original, loaded):
        encoder.train(False)
    assert isinstance(loaded, BertModel)
    with torch.inference_mode():
        torch.testing.assert_close(encode_first(loaded, *inputs()), reference(original))


def test_taken_layers_are_copies(tmp_path: Path) -> None:
    source = tiny_distilbert()
    ours = take_layers(source, [1], dropout=0.0).state_dict()["transformer.layer.0.ffn.lin1.weight"]
    theirs = source.state_dict()["transformer.layer.1.ffn.lin1.weight"]
    assert torch.equal(ours, theirs)
    torch.nn.init.zeros_(ours)
    assert theirs.abs().sum() > 0


def test_minilm_comes_from_its_package() -> None:
    assert (Path(encoder_directory("minilm")) / "model.safetensors").exists()
    assert encoder_directory("owner/name") == "owner/name"


def test_an_unknown_encoder_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no encoder '.*': allowed are a hub id .* or 'minilm'"):
        load_encoder(str(tmp_path))
