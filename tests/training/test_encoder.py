from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AlbertConfig,
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertModel,
    MPNetConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    SqueezeBertConfig,
)

from newsie.errors import InputError, RecipeError
from newsie.training.encoder import (
    check_max_tokens,
    encode_first,
    encoder_directory,
    load_encoder,
    max_positions,
    take_layers,
)
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


SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "embedding_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 34,
}


def write_encoder(directory: Path, config: PretrainedConfig) -> str:
    AutoModel.from_config(config).save_pretrained(directory)  # type: ignore[no-untyped-call]
    return str(directory)


@pytest.mark.parametrize("kind", [MPNetConfig, AlbertConfig, RobertaConfig, SqueezeBertConfig])
def test_everything_that_can_be_learnt_gets_a_gradient(
    kind: type[PretrainedConfig], tmp_path: Path
) -> None:
    encoder = load_encoder(write_encoder(tmp_path, kind(**SMALL)))
    encode_first(encoder, *inputs()).square().sum().backward()  # type: ignore[no-untyped-call]
    assert [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(("kind", "positions"), [(AlbertConfig, 34), (RobertaConfig, 32)])
def test_positions_are_what_the_encoder_can_take(
    kind: type[PretrainedConfig], positions: int, tmp_path: Path
) -> None:
    name = write_encoder(tmp_path, kind(**SMALL))
    assert max_positions(name) == positions
    encoder = load_encoder(name)
    ids = torch.full((1, positions + 1), 7)
    encode_first(encoder, ids[:, 1:], torch.ones_like(ids[:, 1:]))
    with pytest.raises((IndexError, RuntimeError)):
        encode_first(encoder, ids, torch.ones_like(ids))


def test_an_encoder_may_have_no_bound(tmp_path: Path) -> None:
    assert max_positions(str(write_tiny_encoder(tmp_path, "modernbert"))) is None


def test_longer_inputs_than_positions_are_refused(tmp_path: Path) -> None:
    name = str(write_tiny_encoder(tmp_path))
    check_max_tokens(name, {"teacher.fit.max_tokens": 64})
    with pytest.raises(RecipeError, match=r"student\.max_tokens is 65, but .* at most 64 tokens"):
        check_max_tokens(name, {"teacher.fit.max_tokens": 64, "student.max_tokens": 65})


def test_missing_and_damaged_weights_are_named(tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"no encoder .*model\.safetensors"):
        load_encoder(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no encoder .*model\.safetensors"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("model_type", ["bert", "unheard-of"])
def test_code_of_an_encoder_is_never_run(model_type: str, tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path)
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')")
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    content |= {"model_type": model_type}
    content |= {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"auto_map|custom code"):
        load_encoder(str(tmp_path))
