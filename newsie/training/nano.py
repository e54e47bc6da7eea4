"""The encoder of `nano`, a student without attention: a table of vectors for tokens and pairs of tokens.

An article's vector is the normalised weighted mean of the vectors of its tokens and of its pairs of
neighbouring tokens. Pairs share a table of fixed size by hashing, as in fastText (Joulin et al. 2016, arXiv
1607.01759). Unlike fastText, a nano is distilled from a teacher, with the same loss and loop as any student,
and learns a weight for each position, since a headline says more than the text after it.

transformers saves and loads it like any other encoder, so `MultiTaskModel`, `fit` and the export need no
special case for it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from newsie.labels import LabelSpace
from newsie.training.model import MultiTaskModel

__all__ = ["NanoConfig", "NanoEncoder", "nano_student"]

MULTIPLIER = 1_000_003
"""The multiplier in the hash of a pair, (first * MULTIPLIER + second) modulo the size of the table. It is
prime, as sizes should be, so that the pairs of a frequent token are spread over the whole table."""

INITIAL_STD = 0.05  # of the token vectors


class NanoConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """The shape of a `NanoEncoder`.

    Args:
        vocab_size: the number of tokens of the tokenizer.
        hidden_size: H, the width of a vector.
        pairs: the number of vectors for pairs of tokens, best a prime number.
        places: the number of positions with their own weight; later ones share the last weight.
        dropout: the share of an article's tokens and pairs that are left out during training.
    """

    model_type = "newsie_nano"

    def __init__(
        self,
        vocab_size: int = 30_522,
        hidden_size: int = 64,
        pairs: int = 131_071,
        places: int = 128,
        dropout: float = 0.0,
        **rest: Any,
    ) -> None:
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.pairs, self.places, self.dropout = pairs, places, dropout
        super().__init__(**rest)


class NanoEncoder(PreTrainedModel):  # type: ignore[no-untyped-call]
    """An encoder that returns one vector for each article: (B, T) token ids -> (B, 1, H)."""

    config_class = NanoConfig
    base_model_prefix = "nano"
    # The number of tokens in a batch at inference. In small batches the call takes longer than the computing.
    batch_tokens = 8_192

    hashes: Tensor

    def __init__(self, config: NanoConfig) -> None:
        super().__init__(config)
        self.vectors = nn.Embedding(config.vocab_size + config.pairs, config.hidden_size)
        self.importance = nn.Parameter(torch.zeros(config.places))
        # The product modulo the table size is stored for each first token: OpenVINO computes a modulo as
        # float32, exact to 2 ** 24, which tokens and pairs together must not exceed.
        hashes = torch.empty(config.vocab_size, dtype=torch.int64)
        self.register_buffer("hashes", hashes, persistent=False)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_STD)
            with torch.no_grad():  # a pair adds nothing to its tokens until it is learnt
                module.weight[self.config.vocab_size :].zero_()
        elif module is self:
            nn.init.zeros_(self.importance)
            tokens = torch.arange(self.config.vocab_size)
            self.hashes.copy_(tokens * MULTIPLIER % self.config.pairs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Return h = LayerNorm(sum w v / sum w) over tokens and pairs, without padding; w = exp(importance of
        the position of the token, or of the second token of the pair)."""
        first, second = input_ids[:, :-1], input_ids[:, 1:]
        pairs = (self.hashes[first] + second) % self.config.pairs + self.config.vocab_size
        ids = torch.cat([input_ids, pairs], dim=1)  # (B, 2T - 1)
        # Padding is at the end, so a pair is valid if its second token is.
        there = torch.cat([attention_mask, attention_mask[:, 1:]], dim=1)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        importance = self.importance[places.clamp(max=self.config.places - 1)].exp()
        weights = there * torch.cat([importance, importance[1:]])
        weights = weights / weights.sum(dim=1, keepdim=True)
        weights = F.dropout(weights, self.config.dropout, self.training)
        mean = weights[:, None, :] @ self.vectors(ids)  # (B, 1, H)
        return BaseModelOutput(last_hidden_state=self.norm(mean))


def nano_student(
    labels: LabelSpace, tokens: Tensor, *, hidden_size: int, pairs: int, dropout: float = 0.0
) -> MultiTaskModel:
    """Return an untrained student without attention.

    The token vectors are initialised with a larger encoder's embeddings on their principal axes, so that a
    word that is rare in the training articles starts close to similar words.

    Args:
        labels: the tasks.
        tokens: (V, E) the word embeddings of the larger encoder.
        hidden_size: H, see NanoConfig; axes beyond E are initialised at random.
        pairs: see NanoConfig.
        dropout: see NanoConfig.
    """
    config = NanoConfig(len(tokens), hidden_size, pairs, dropout=dropout)
    encoder = NanoEncoder(config)
    with torch.no_grad():
        axes = principal_axes(tokens.detach().float(), hidden_size)
        encoder.vectors.weight[: len(tokens), : axes.shape[1]] = INITIAL_STD / axes.std() * axes
    model = MultiTaskModel(cast(PreTrainedModel, encoder), labels)
    for head in model.heads.values():
        # The usual small initial weights suit wide pretrained encoders.
        nn.init.xavier_uniform_(head.pre_classifier.weight)  # type: ignore[union-attr, arg-type]
    return model


def principal_axes(rows: Tensor, size: int) -> Tensor:
    """Return the centred rows on their principal axes: (N, E) -> (N, min(size, E))."""
    centred = rows - rows.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)  # the most important one is the last
    return cast(Tensor, centred @ axes[:, -size:])


AutoConfig.register(NanoConfig.model_type, NanoConfig, exist_ok=True)
AutoModel.register(NanoConfig, NanoEncoder, exist_ok=True)
