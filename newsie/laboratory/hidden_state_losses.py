"""Losses on hidden states, for which the teacher reads every batch together with its student.

There are two kinds. *Relations* (Wang et al. 2021, MiniLM v2, arXiv 2012.15828) compare how similar tokens
are to each other, by queries, keys and values of the last layers. *Projection* (Zhang et al. 2017, arXiv
1710.09505) compares a layer of the teacher, through a learnt matrix, with a layer of the student. The pair of
layers is chosen during training: the worse half of the pairs, called routes, is dropped again and again.

Both cost a forward pass of the teacher per step. The learnt matrices are dropped after training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DistilBertModel

from newsie.errors import RecipeError
from newsie.training.batches import MicroBatch
from newsie.training.config import HiddenName, StudentConfig
from newsie.training.fingerprints import fingerprint
from newsie.training.losses import Loss
from newsie.training.model import MultiTaskModel

__all__ = ["HiddenLoss", "Routes", "check_tokens", "relation_loss", "state_loss"]

DROPS = 10
"""The number of times, evenly spread over a run, that the worse half of the routes is dropped."""

MEMORY = 0.9
"""The decay of the running mean of a route's loss."""


def check_tokens(config: StudentConfig) -> None:
    """Check that a student has its teacher's tokens if its distillation needs them.

    Raises:
        RecipeError: it has another kind, encoder or vocabulary, or combines hidden-state losses and mixtures.
    """
    asked = {name: getattr(config.distillation, name) for name in ("hidden", "mixtures")}
    asked = {name: value for name, value in asked.items() if value != "none"}
    if asked and (config.encoder != "teacher" or config.vocabulary or config.kind != "transformer"):
        name, value = next(iter(asked.items()))
        raise RecipeError(
            f"student.distillation.{name} = {value!r} needs a student of the teacher's tokens: student.kind "
            '= "transformer", student.encoder = "teacher" and student.vocabulary = 0'
        )
    if len(asked) > 1:
        raise RecipeError(
            "student.distillation.hidden and mixtures cannot be combined; leave one out"
        )


def relation_loss(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Return the divergence (b,) between two models' relations of tokens to each other.

    For A of shape (T, H), split into heads of width d, the relations are R = softmax(A A^T / sqrt(d)), and
    the loss is

        mean over heads and tokens of KL(R_teacher || R_student)

    Args:
        student, teacher: (b, T, H) and (b, T, H'): queries, keys or values; both widths are multiples of
            `heads`.
        mask: (b, T), 1 for tokens, 0 for padding.
        heads: number of relation heads.
    """
    log_student, log_teacher = (_relations(states, mask, heads) for states in (student, teacher))
    apart = log_teacher.exp() * (log_teacher - log_student)  # (b, heads, T, T)
    inside = mask[:, None, :, None] * mask[:, None, None, :] > 0
    by_token = apart.masked_fill(~inside, 0.0).sum(-1).mean(1)  # (b, T)
    return by_token.sum(-1) / mask.sum(-1)


def _relations(states: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Return the log of the relations (b, heads, T, T); values for padding are meaningless."""
    size, tokens, width = states.shape
    cut = states.float().view(size, tokens, heads, width // heads).transpose(1, 2)
    scores = cut @ cut.transpose(2, 3) / math.sqrt(width // heads)
    return F.log_softmax(scores.masked_fill(mask[:, None, None, :] == 0, -1e9), dim=-1)


def state_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared difference (b,) of two normalised states (b, T, H), averaged over tokens.

    Each token's state is first scaled to mean 0 and variance 1, so that small states are not favoured.
    """
    apart = (
        F.layer_norm(student, student.shape[-1:]) - F.layer_norm(teacher, teacher.shape[-1:])
    ) ** 2
    return (apart.mean(-1) * mask).sum(-1) / mask.sum(-1)


class Routes(nn.Module):
    """Pairs of a teacher's layer and a student's layer, each with its projection.

    They are a module of the student during training, so projections are trained and checkpointed with it.

    Args:
        pairs: (layer of the teacher, layer of the student); the states before these layers are compared.
        widths: H of the teacher, H of the student.
    """

    alive: Tensor
    mean_loss: Tensor

    def __init__(self, pairs: list[tuple[int, int]], widths: tuple[int, int]) -> None:
        super().__init__()
        self.pairs = pairs
        self.projections = nn.ModuleList(nn.Linear(*widths, bias=False) for _ in pairs)
        if widths[0] == widths[1]:
            for projection in self.projections:
                nn.init.eye_(cast(nn.Linear, projection).weight)
        self.register_buffer("alive", torch.ones(len(pairs)))
        self.register_buffer("mean_loss", torch.zeros(len(pairs)))

    def select(self, progress: float) -> None:
        """Drop the worse half of the routes at each of `DROPS` points of the run that has been passed."""
        wanted = max(1, math.ceil(len(self.pairs) / 2 ** int(DROPS * progress)))
        if wanted < int(self.alive.sum()):
            losses = self.mean_loss.masked_fill(self.alive == 0, torch.inf)
            self.alive.zero_()
            self.alive[losses.argsort()[:wanted]] = 1

    def forward(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], mask: Tensor
    ) -> Tensor:
        """Return the mean loss (b,) of the remaining routes."""
        losses = []
        for number, (theirs, ours) in enumerate(self.pairs):
            if self.alive[number]:
                found = state_loss(student[ours], self.projections[number](teacher[theirs]), mask)
                old = self.mean_loss[number]
                new = found.detach().mean()
                self.mean_loss[number] = new if old == 0 else MEMORY * old + (1 - MEMORY) * new
                losses.append(found)
        # Distributed training waits for the gradients of all parameters, even of dropped routes.
        nothing = 0.0 * sum(weight.sum() for weight in self.parameters())
        return torch.stack(losses).mean(dim=0) + nothing


class HiddenLoss:
    """A loss on logits plus `weight` times a loss on hidden states.

    Args:
        answers: the loss on logits.
        teacher: a model with the student's tokenizer whose encoder is a DistilBERT.
        kind: "relations" or "projection".
        weight: the weight of the loss on hidden states.

    Raises:
        RecipeError: the teacher is of another kind.
    """

    def __init__(
        self, answers: Loss, teacher: MultiTaskModel, kind: HiddenName, weight: float
    ) -> None:
        if not isinstance(teacher.encoder, DistilBertModel):
            raise RecipeError(
                f"student.distillation.hidden needs a BERT or DistilBERT as teacher; this one is "
                f'{teacher.encoder.config.model_type!r}. Set it to "none"'
            )
        # The hooks stay on the teacher, so it is a copy.
        self.answers, self.teacher, self.kind, self.weight = (
            answers,
            deepcopy(teacher),
            kind,
            weight,
        )
        self._teacher_states = _watch(self.teacher, always=True)
        self._student: MultiTaskModel | None = None
        self._student_states: dict[int, Tensor] = {}

    def fingerprint(self) -> list[Any]:
        """Return fingerprints of the parts of the loss."""
        parts = [self.answers, self.teacher, self.kind, self.weight]
        return [fingerprint(part) for part in parts]

    def attach(self, student: MultiTaskModel) -> None:
        """Watch the hidden states of a student, and add the routes to it if the kind is "projection"."""
        self._student, self._student_states = student, _watch(student)
        if self.kind == "projection":
            depth, own = (
                cast(int, cast(Any, m.encoder.config).n_layers) for m in (self.teacher, student)
            )
            widths = (self.teacher.encoder.config.hidden_size, student.encoder.config.hidden_size)
            # The states before layer 0 are embeddings; they are used only if there is no other layer.
            ours, theirs = range(min(1, own - 1), own), range(min(1, depth - 1), depth)
            student.routes = Routes([(t, s) for t in theirs for s in ours], widths)

    def __call__(self, logits: Mapping[str, Tensor], batch: MicroBatch) -> Tensor:
        assert self._student is not None, "attach a student first"
        self.teacher.to(batch.input_ids.device).eval()
        with torch.no_grad():
            self.teacher(batch.input_ids, batch.attention_mask)
        if self.kind == "relations":
            hidden = self._relations(batch.attention_mask)
        else:
            routes = cast(Routes, self._student.routes)
            routes.select(batch.progress)
            hidden = routes(self._student_states, self._teacher_states, batch.attention_mask)
        return self.answers(logits, batch) + self.weight * hidden.sum() / batch.size

    def _relations(self, mask: Tensor) -> Tensor:
        assert self._student is not None
        student, teacher = (
            _queries_keys_values(model, states)
            for model, states in (
                (self._student, self._student_states),
                (self.teacher, self._teacher_states),
            )
        )
        heads = cast(int, cast(Any, self.teacher.encoder.config).n_heads)
        return torch.stack(
            [
                relation_loss(s, t.detach(), mask, heads)
                for s, t in zip(student, teacher, strict=True)
            ]
        ).sum(dim=0)


def _watch(model: MultiTaskModel, *, always: bool = False) -> dict[int, Tensor]:
    """Return a mapping that holds the states (b, T, H) before each layer of the last forward pass.

    Passes outside of training are ignored unless `always` is set.
    """
    states: dict[int, Tensor] = {}
    for number, layer in enumerate(cast(Any, model.encoder).transformer.layer):

        def keep(
            module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, n: int = number
        ) -> None:
            if always or model.training:
                states[n] = inputs[0]

        # The keys read all tokens even in the last layer, whose queries read only the first one.
        layer.attention.k_lin.register_forward_hook(keep)
    return states


def _queries_keys_values(model: MultiTaskModel, states: Mapping[int, Tensor]) -> list[Tensor]:
    """Return the queries, keys and values of the last layer, (b, T, H) each."""
    last = len(states) - 1
    attention = cast(Any, model.encoder).transformer.layer[last].attention
    state = states[last]
    weights = ((m.weight, m.bias) for m in (attention.q_lin, attention.k_lin, attention.v_lin))
    return [F.linear(state, weight, bias) for weight, bias in weights]  # without calling the hooks
