"""The student: a DistilBERT initialised with some of the teacher's layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import BertModel, DistilBertModel, PreTrainedModel

from newsie.errors import RecipeError
from newsie.training.encoder import LAYER_NORM_EPSILON, take_layers
from newsie.training.model import MultiTaskModel
from newsie.training.vocabulary import trim_embeddings

__all__ = ["chosen_layers", "student_from_teacher"]


def chosen_layers(teacher_layers: int, student_layers: int) -> list[int]:
    """Return the teacher's layers that the student takes: evenly spaced, including the first and last.

    12 -> 6 gives 0, 2, 4, 7, 9, 11, the choice of DistilBERT (arXiv 1910.01108).
    """
    if not 1 <= student_layers <= teacher_layers:
        raise RecipeError(
            f"a student of {student_layers} layers cannot be taken from an encoder of "
            f"{teacher_layers}; student.layers may be 1 to {teacher_layers}"
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
    pieces: Sequence[int] | None = None,
) -> MultiTaskModel:
    """Return a student of `layers` layers with weights of its teacher or of another encoder.

    Args:
        teacher: the source of the label space, and of layers and heads without an `encoder`.
        layers: the number of layers of the student.
        encoder: a BERT or DistilBERT, as `load_encoder` returns it, to take the layers from instead. The
            student then gets new heads, because the teacher's heads fit the teacher's layers only.
        dropout: the dropout of the student during training.
        pieces: the ids of the word pieces that the student keeps; None keeps all.

    Raises:
        RecipeError: the encoder has another type, another layer_norm_eps, or fewer layers.
    """
    source = encoder if encoder is not None else teacher.encoder
    if not isinstance(source, DistilBertModel):
        raise RecipeError(
            f"a student cannot take its layers from {_describe(source)}; allowed are distilbert, and "
            f"bert with layer_norm_eps {LAYER_NORM_EPSILON}. Name one in student.encoder, for example "
            "'minilm'"
        )
    chosen = chosen_layers(source.config.n_layers, layers)
    thin = take_layers(source, chosen, dropout)
    if pieces is not None:
        trim_embeddings(thin, pieces)
    student = MultiTaskModel(thin, teacher.labels, dropout)
    if encoder is None:
        student.heads.load_state_dict(teacher.heads.state_dict())
    return student


def _describe(encoder: PreTrainedModel) -> str:
    if isinstance(encoder, BertModel):
        return f"a BERT with layer_norm_eps {encoder.config.layer_norm_eps}"
    return f"an encoder of type {encoder.config.model_type!r}"
