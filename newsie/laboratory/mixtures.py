"""Mixtures of two articles' word embeddings, labelled by the teacher: mix-up, and boundary samples.

    embeddings = share * E[first] + (1 - share) * E[second]

Teacher and student share a tokenizer, so that a share means the same to both. *Mix-up* draws the share
(Zhang et al. 2018, arXiv 1710.09412). *Boundary samples* (Heo et al. 2019, arXiv 1805.05532) are mixtures on
the border between two labels of the teacher. The paper moves an image along the gradient until its label
changes. Text has no half words, so the share at which the two labels tie is found by bisection instead.
Unlike in the paper, the samples keep their weight to the end. Independent replications found them weaker than
plain soft labels, so measure before you rely on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, cast

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from numpy.typing import NDArray
from torch import Tensor, nn

from newsie.data.encoding import View, pad
from newsie.labels import IGNORE
from newsie.metrics.evaluation import softmax
from newsie.training.batches import MicroBatch, TokenStore, TrainingSet
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import average_logits

__all__ = [
    "MixedBatch",
    "MixedSet",
    "Mixtures",
    "add_mixtures",
    "bisect_shares",
    "boundary_pairs",
    "draw_mixtures",
    "mix_embeddings",
    "mixture_logits",
    "pad_pairs",
]

HALVINGS = 7
"""The number of bisections of the share, which is then known to 1/128."""

BATCH = 64


@dataclass(frozen=True)
class Mixtures:
    """M mixtures of the articles of a training set.

    Attributes:
        first, second: (M,) rows of the two articles.
        share: (M,) share of the first, 0 to 1.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, chosen: NDArray[np.bool_]) -> Mixtures:
        """Return the chosen mixtures."""
        return Mixtures(self.first[chosen], self.second[chosen], self.share[chosen])


@dataclass(frozen=True)
class MixedBatch(MicroBatch):
    """A micro-batch of mixtures.

    Attributes:
        partner_ids: (b, T) token ids of the second articles.
        share: (b,) share of the first articles.
    """

    partner_ids: Tensor = field(default_factory=lambda: torch.empty(0))
    share: Tensor = field(default_factory=lambda: torch.empty(0))

    def logits(self, model: nn.Module) -> dict[str, Tensor]:
        """Return a model's logits for the mixtures by task, (b, C) each."""
        whole: MultiTaskModel = extract_model_from_parallel(model)
        with mix_embeddings(whole, self.partner_ids, self.share):
            return super().logits(model)

    def to(self, device: torch.device) -> Self:
        """Return the same batch on another device."""
        return replace(
            super().to(device),
            partner_ids=self.partner_ids.to(device),
            share=self.share.to(device),
        )


@dataclass(frozen=True)
class MixedSet(TrainingSet):
    """A training set whose articles are mixed with others.

    Attributes:
        partner: (N,) row of the second article of each mixture.
        share: (N,) share of the first article.
    """

    partner: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    share: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def micro_batch(
        self, indices: NDArray[np.int64], headline_only: NDArray[np.bool_], **options: Any
    ) -> MixedBatch:
        """Return the given mixtures as tensors; see `TrainingSet.micro_batch`."""
        own = super().micro_batch(indices, headline_only, **options)
        views: list[View] = ["headline" if alone else "full" for alone in headline_only]
        rows, partners = (
            [
                self.tokens[view].row(row, options["max_tokens"])
                for view, row in zip(views, chosen, strict=True)
            ]
            for chosen in (indices, self.partner[indices])
        )
        ids, partner_ids, mask = pad_pairs(rows, partners, self.tokens["full"].pad_id)
        parts = {part.name: getattr(own, part.name) for part in fields(MicroBatch)}
        parts |= {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return MixedBatch(
            **parts,
            partner_ids=torch.from_numpy(partner_ids),
            share=torch.from_numpy(self.share[indices]),
        )


def pad_pairs(
    first: Sequence[NDArray[np.int32]], second: Sequence[NDArray[np.int32]], pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pad pairs of rows to one length: (input_ids, partner_ids, attention_mask), (B, T) each.

    The mask is 1 where either of the two has a token.
    """
    ids, mask = pad([*first, *second], pad_id)
    count = len(first)
    return ids[:count], ids[count:], np.maximum(mask[:count], mask[count:])


def add_mixtures(
    data: TrainingSet,
    mixtures: Mixtures,
    soft: Mapping[View, Mapping[str, NDArray[np.float16]]],
) -> MixedSet:
    """Return a training set with mixtures of its articles, which have no gold labels.

    Args:
        data: N articles.
        mixtures: M mixtures.
        soft: the teacher's logits for the mixtures, (M, C) by view and task.
    """
    made = replace(
        data.take(mixtures.first),
        labels={task: np.full(len(mixtures), IGNORE) for task in data.labels},
        soft=soft,
    )
    both = data.join(made)
    return MixedSet(
        both.tokens,
        both.labels,
        both.corpus,
        both.soft,
        partner=np.concatenate([np.arange(len(data)), mixtures.second]),
        share=np.concatenate([np.ones(len(data), np.float32), mixtures.share]),
    )


@contextmanager
def mix_embeddings(model: MultiTaskModel, partner_ids: Tensor, share: Tensor) -> Iterator[None]:
    """Mix the model's word embeddings with those of `partner_ids` within the block.

    Args:
        model: the model.
        partner_ids: (b, T), as long as input_ids.
        share: (b,) share of input_ids.
    """
    table = cast(nn.Embedding, model.encoder.get_input_embeddings())
    part = share[:, None, None]

    def mix(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return part * output + (1 - part) * table.weight[partner_ids]

    handle = table.register_forward_hook(mix)
    try:
        yield
    finally:
        handle.remove()


def mixture_logits(
    models: Sequence[MultiTaskModel],
    tokens: TokenStore,
    mixtures: Mixtures,
    *,
    max_tokens: int,
    device: torch.device,
) -> dict[str, NDArray[np.float32]]:
    """Return the logits (M, C) by task; for several models, the log of their mean probabilities."""
    parts: list[dict[str, NDArray[np.float32]]] = []
    for start in range(0, len(mixtures), BATCH):
        at = slice(start, start + BATCH)
        ids, partners, mask = (
            torch.from_numpy(array).to(device)
            for array in pad_pairs(
                [tokens.row(int(row), max_tokens) for row in mixtures.first[at]],
                [tokens.row(int(row), max_tokens) for row in mixtures.second[at]],
                tokens.pad_id,
            )
        )
        share = torch.from_numpy(mixtures.share[at]).to(device)
        members = []
        for model in models:
            with torch.inference_mode(), mix_embeddings(model.eval(), partners, share):
                members.append(model(ids, mask))
        parts.append(
            {t: average_logits([m[t].float() for m in members]).cpu().numpy() for t in members[0]}
        )
    labels = models[0].labels.tasks
    empty = {task.name: np.empty((0, len(task.labels)), np.float32) for task in labels}
    return {task: np.concatenate([empty[task], *(p[task] for p in parts)]) for task in empty}


def draw_mixtures(articles: int, random: np.random.Generator) -> Mixtures:
    """Return mixtures of each of N articles with another one, with uniformly drawn shares (mix-up)."""
    share = random.random(articles).astype(np.float32)
    return Mixtures(np.arange(articles), random.permutation(articles), share)


def boundary_pairs(
    logits: Mapping[str, NDArray[np.floating]],
    labels: Mapping[str, NDArray[np.int64]],
    random: np.random.Generator,
) -> tuple[Mixtures, list[tuple[str, int, int]]]:
    """Return pairs of articles, with shares of 1, and the task and two labels of each pair's border.

    For each article, a task is drawn among those in which the teacher is right. The article is paired with
    one for which the teacher predicts another label, drawn by the teacher's probabilities for the article.

    Args:
        logits: the teacher's logits, (N, C) by task.
        labels: (N,) gold labels by task; IGNORE if there is none.
        random: the random generator.
    """
    tops = {task: z.argmax(axis=1) for task, z in logits.items()}
    first, second, borders = [], [], []
    tasks = list(logits)
    for row in range(len(next(iter(labels.values())))):
        right = [t for t in tasks if labels[t][row] != IGNORE and labels[t][row] == tops[t][row]]
        if not right:
            continue
        task = right[int(random.integers(len(right)))]
        own = int(tops[task][row])
        wanted = softmax(logits[task][row].astype(np.float64))
        # A label that is predicted for no article cannot be mixed in.
        wanted = wanted * np.isin(np.arange(len(wanted)), tops[task])
        wanted[own] = 0
        if wanted.sum() == 0:
            continue
        other = int(random.choice(len(wanted), p=wanted / wanted.sum()))
        first.append(row)
        second.append(int(random.choice(np.flatnonzero(tops[task] == other))))
        borders.append((task, own, other))
    pairs = Mixtures(
        np.array(first, np.int64), np.array(second, np.int64), np.ones(len(first), np.float32)
    )
    return pairs, borders


def bisect_shares(
    models: Sequence[MultiTaskModel],
    tokens: TokenStore,
    pairs: Mixtures,
    borders: Sequence[tuple[str, int, int]],
    *,
    max_tokens: int,
    device: torch.device,
) -> Mixtures:
    """Return the mixtures for which the models tie between the two labels of each border.

    Pairs that do not change from one label to the other are left out. Padding mixed with words can move an
    article over the border by itself.
    """

    def margins(share: NDArray[np.float32]) -> NDArray[np.float32]:
        mixed = Mixtures(pairs.first, pairs.second, share)
        found = mixture_logits(models, tokens, mixed, max_tokens=max_tokens, device=device)
        values = [
            found[t][i, own] - found[t][i, other] for i, (t, own, other) in enumerate(borders)
        ]
        return np.array(values, np.float32)

    low, high = np.zeros(len(pairs), np.float32), np.ones(len(pairs), np.float32)
    crosses = (margins(low) < 0) & (margins(high) > 0)
    for _ in range(HALVINGS):
        middle = _between(low, high)
        above = margins(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return Mixtures(pairs.first, pairs.second, _between(low, high)).take(crosses)


def _between(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    return ((low + high) / 2).astype(np.float32)
