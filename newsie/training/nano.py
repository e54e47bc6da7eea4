"""The encoder of `nano`, a student without attention: a table of vectors for tokens and pairs of tokens.

An article is the weighted mean of the vectors of its tokens and of its pairs of neighbouring tokens,
normalised. Pairs share a table of fixed size by hashing, as in fastText (Joulin et al. 2016, arXiv
1607.01759). New is the teacher, whose soft labels it learns with the same loss and loop as any student, and
that each place in the article has a weight, which is learnt, too: a headline says more than what follows.

transformers saves and loads it like any other encoder, so that `MultiTaskModel`, `fit` and the export do not
have to know that it is one of Newsie's own.
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
"""Of the hash of a pair: (first * MULTIPLIER + second) modulo the size of the table. A prime, as sizes
should be: then the pairs of a frequent token are spread over the whole table."""

INITIAL_STD = 0.05  # of the vectors of tokens


class NanoConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Shape of a `NanoEncoder`.

    Args:
        vocab_size: tokens of the tokenizer.
        hidden_size: H, width of a vector.
        pairs: vectors for pairs of tokens, best a prime number.
        places: first tokens of an article that have a weight of their own; later ones share that of the last.
        dropout: share of tokens and pairs that are left out of an article while it is learnt from.
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
    """(B, T) token ids -> (B, 1, H): one vector for each article."""

    config_class = NanoConfig
    base_model_prefix = "nano"
    # Of a batch, when it answers: in small ones calling it takes longer than what it computes.
    batch_tokens = 8_192

    hashes: Tensor

    def __init__(self, config: NanoConfig) -> None:
        super().__init__(config)
        self.vectors = nn.Embedding(config.vocab_size + config.pairs, config.hidden_size)
        self.importance = nn.Parameter(torch.zeros(config.places))
        # The product is kept for each first token: OpenVINO computes a modulo as float32, exact to 2 ** 24,
        # which tokens and pairs together must not exceed.
        hashes = torch.empty(config.vocab_size, dtype=torch.int64)
        self.register_buffer("hashes", hashes, persistent=False)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_STD)
            with torch.no_grad():  # a pair adds to its tokens only what is learnt of it
                module.weight[self.config.vocab_size :].zero_()
        elif module is self:
            nn.init.zeros_(self.importance)
            tokens = torch.arange(self.config.vocab_size)
            self.hashes.copy_(tokens * MULTIPLIER % self.config.pairs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """h = LayerNorm(sum w v / sum w) over tokens and pairs, padding left out; w = exp(importance of the
        place of the token, or of the second one of the pair)."""
        first, second = input_ids[:, :-1], input_ids[:, 1:]
        pairs = (self.hashes[first] + second) % self.config.pairs + self.config.vocab_size
        ids = torch.cat([input_ids, pairs], dim=1)  # (B, 2T - 1)
        # Padding is at the end: a pair is there where its second token is.
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
    """A student without attention, not trained yet.

    Its vectors of tokens begin as those of a larger encoder on their principal axes: a word that the training
    articles hardly use then lies where words like it are.

    Args:
        labels: the tasks.
        tokens: (V, E) word embeddings of the larger encoder.
        hidden_size: H, see NanoConfig; axes beyond E begin at random.
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
        # The usual small start is for wide encoders that know something already.
        nn.init.xavier_uniform_(head.pre_classifier.weight)  # type: ignore[union-attr, arg-type]
    return model


def principal_axes(rows: Tensor, size: int) -> Tensor:
    """(N, E) -> (N, min(size, E)): the rows less their mean, along the axes on which they differ most."""
    centred = rows - rows.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)  # the most important one is the last
    return cast(Tensor, centred @ axes[:, -size:])


AutoConfig.register(NanoConfig.model_type, NanoConfig, exist_ok=True)
AutoModel.register(NanoConfig, NanoEncoder, exist_ok=True)
