"""The student: a DistilBERT that begins as a thinned-out copy of its teacher."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from transformers import DistilBertConfig, DistilBertModel, PreTrainedModel

from newsie.errors import RecipeError
from newsie.training.model import MultiTaskModel

__all__ = ["chosen_layers", "student_from_teacher"]

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
"""Parts of a BERT layer -> parts of a DistilBERT layer; the two compute the same."""


def chosen_layers(teacher_layers: int, student_layers: int) -> list[int]:
    """Which layers of the teacher the student takes: evenly spread, the first and the last among them.

    12 -> 6 gives 0, 2, 4, 7, 9, 11, the choice of DistilBERT (arXiv 1910.01108).
    """
    if not 1 <= student_layers <= teacher_layers:
        raise RecipeError(
            f"a student of {student_layers} layers cannot be taken from an encoder of {teacher_layers}; "
            f"student.layers may be 1 to {teacher_layers}"
        )
    if student_layers == 1:
        return [0]
    return [round(float(x)) for x in np.linspace(0, teacher_layers - 1, student_layers)]


def student_from_teacher(
    teacher: MultiTaskModel,
    layers: int,
    *,
    encoder: PreTrainedModel | None = None,
    dropout: float = 0.0,
) -> MultiTaskModel:
    """A student of `layers` layers that starts from its teacher's weights.

    Args:
        teacher: gives the label space, and the heads where the width fits.
        layers: how many of the encoder's layers the student has.
        encoder: a BERT or DistilBERT encoder to take the layers from instead of the teacher's.
        dropout: of the student while it trains.

    Raises:
        RecipeError: the encoder is not of a BERT type, or has fewer layers.
    """
    source = encoder if encoder is not None else teacher.encoder
    student = MultiTaskModel(_thin(source, layers, dropout), teacher.labels, dropout)
    if student.encoder.config.hidden_size == teacher.encoder.config.hidden_size:
        student.heads.load_state_dict(teacher.heads.state_dict())
    return student


def _thin(source: PreTrainedModel, layers: int, dropout: float) -> DistilBertModel:
    config = source.config
    if config.model_type not in ("bert", "distilbert"):
        raise RecipeError(
            f"a student cannot take its layers from an encoder of type {config.model_type!r}; allowed are "
            "bert and distilbert. Name one in student.encoder, for example 'minilm'"
        )
    student = DistilBertModel(
        DistilBertConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
            n_layers=layers,
            n_heads=config.num_attention_heads,
            dim=config.hidden_size,
            hidden_dim=config.hidden_dim
            if config.model_type == "distilbert"
            else config.intermediate_size,
            activation=config.activation
            if config.model_type == "distilbert"
            else config.hidden_act,
            pad_token_id=config.pad_token_id,
            dropout=dropout,
            attention_dropout=dropout,
        )
    )
    weights = source.state_dict()
    chosen = chosen_layers(config.num_hidden_layers, layers)
    convert = _distilbert_weights if config.model_type == "distilbert" else _bert_weights
    student.load_state_dict(convert(weights, chosen))
    return student


def _bert_weights(weights: dict[str, Tensor], chosen: list[int]) -> dict[str, Tensor]:
    positions = weights["embeddings.position_embeddings.weight"]
    # DistilBERT has no token types; news articles are all of type 0, whose row is a constant.
    result = {
        "embeddings.word_embeddings.weight": weights["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": positions
        + weights["embeddings.token_type_embeddings.weight"][0],
        "embeddings.LayerNorm.weight": weights["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": weights["embeddings.LayerNorm.bias"],
    }
    for target, source in enumerate(chosen):
        for bert, distilbert in LAYER_NAMES.items():
            for kind in ("weight", "bias"):
                result[f"transformer.layer.{target}.{distilbert}.{kind}"] = weights[
                    f"encoder.layer.{source}.{bert}.{kind}"
                ]
    return result


def _distilbert_weights(weights: dict[str, Tensor], chosen: list[int]) -> dict[str, Tensor]:
    result = {name: value for name, value in weights.items() if name.startswith("embeddings.")}
    for target, source in enumerate(chosen):
        prefix = f"transformer.layer.{source}."
        for name, value in weights.items():
            if name.startswith(prefix):
                result[f"transformer.layer.{target}.{name.removeprefix(prefix)}"] = value
    return result
