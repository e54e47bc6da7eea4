"""Which articles, in which view and order, make up each optimizer step.

Everything here is a pure function of (seed, epoch, step): nothing is drawn while training runs, so a
run that was killed goes on exactly where it was, and each of several processes knows its part of every
batch without asking the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from newsie.data.encoding import VIEWS, View, pad
from newsie.errors import TrainingError
from newsie.labels import IGNORE

__all__ = ["Batches", "MicroBatch", "TokenStore", "TrainingSet"]

WINDOW_BATCHES = 50
"""Articles are sorted by length within windows of this many batches: enough for batches of like length,
few enough that an epoch stays well mixed."""


@dataclass(frozen=True)
class TokenStore:
    """Token ids of N articles in one view, end to end.

    Attributes:
        ids: (sum of lengths,) all ids; may be a memory map.
        offsets: (N + 1,) where each article begins; the last one is the end.
        pad_id: the id that fills up shorter rows.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pad_id: int

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]], pad_id: int) -> TokenStore:
        """Put N sequences of token ids end to end."""
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        ids = np.fromiter((token for row in rows for token in row), np.int32, count=offsets[-1])
        return cls(ids, offsets, pad_id)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def join(self, other: TokenStore) -> TokenStore:
        """These articles, then others encoded by the same tokenizer."""
        offsets = np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return TokenStore(np.concatenate([self.ids, other.ids]), offsets, self.pad_id)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each article."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> TokenStore:
        """The given articles alone."""
        ids = [self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])])
        return TokenStore(np.concatenate([*ids, np.empty(0, np.int32)]), offsets, self.pad_id)

    def row(self, index: int, max_tokens: int) -> NDArray[np.int32]:
        """Ids of one article, at most `max_tokens`; a cut one still ends in its closing token."""
        start, end = self.offsets[index], self.offsets[index + 1]
        if end - start <= max_tokens:
            return self.ids[start:end]
        return np.append(self.ids[start : start + max_tokens - 1], self.ids[end - 1])


@dataclass(frozen=True)
class MicroBatch:
    """The b articles that one process works on at once, of a batch of `size`.

    Attributes:
        input_ids, attention_mask: (b, T).
        labels: (b,) class index by task.
        soft: (b, C) logits of the teacher by task, or None.
        labelled: number of articles with a gold label by task, in the whole batch of the step.
        size: number of articles in the whole batch of the step.
        progress: share of the run's steps that are done, 0 to 1.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: dict[str, Tensor]
    soft: dict[str, Tensor] | None
    labelled: dict[str, int]
    size: int
    progress: float = 0.0

    def logits(self, model: nn.Module) -> dict[str, Tensor]:
        """Return a model's logits for these articles by task, (b, C) each."""
        return cast(dict[str, Tensor], model(self.input_ids, self.attention_mask))

    def to(self, device: torch.device) -> Self:
        """Return the same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            labels={task: labels.to(device) for task, labels in self.labels.items()},
            soft=self.soft and {task: logits.to(device) for task, logits in self.soft.items()},
        )


@dataclass(frozen=True)
class TrainingSet:
    """N articles, ready for a model.

    Attributes:
        tokens: token ids by view.
        labels: (N,) class index by task; IGNORE where there is none.
        soft: the teacher's logits by view and task, (N, C) float16; None without a teacher.
        corpus: (N,) number of the corpus that each article comes from.
    """

    tokens: Mapping[View, TokenStore]
    labels: Mapping[str, NDArray[np.int64]]
    corpus: NDArray[np.int64]
    soft: Mapping[View, Mapping[str, NDArray[np.float16]]] | None = None

    def __len__(self) -> int:
        return len(self.corpus)

    def take(self, rows: NDArray[np.int64]) -> TrainingSet:
        """Return the given articles alone."""
        return TrainingSet(
            {view: tokens.take(rows) for view, tokens in self.tokens.items()},
            {task: labels[rows] for task, labels in self.labels.items()},
            self.corpus[rows],
            self.soft
            and {
                view: {task: logits[rows] for task, logits in answers.items()}
                for view, answers in self.soft.items()
            },
        )

    def join(self, other: TrainingSet) -> TrainingSet:
        """Return these articles, followed by others of the same tasks.

        Either both have soft labels, or neither has.
        """
        soft = None
        if self.soft is not None and other.soft is not None:
            soft = {
                view: {
                    task: np.concatenate([logits, other.soft[view][task]])
                    for task, logits in answers.items()
                }
                for view, answers in self.soft.items()
            }
        return TrainingSet(
            {view: tokens.join(other.tokens[view]) for view, tokens in self.tokens.items()},
            {t: np.concatenate([labels, other.labels[t]]) for t, labels in self.labels.items()},
            np.concatenate([self.corpus, other.corpus]),
            soft,
        )

    def micro_batch(
        self,
        indices: NDArray[np.int64],
        headline_only: NDArray[np.bool_],
        *,
        max_tokens: int,
        labelled: dict[str, int],
        size: int,
        progress: float = 0.0,
    ) -> MicroBatch:
        """Return the given articles as tensors.

        Args:
            indices: (b,) which articles.
            headline_only: (b,) True for those shown without their body.
            max_tokens: longest input in tokens.
            labelled, size, progress: see `MicroBatch`.
        """
        rows = [
            self.tokens["headline" if alone else "full"].row(i, max_tokens)
            for i, alone in zip(indices, headline_only, strict=True)
        ]
        input_ids, attention_mask = pad(rows, self.tokens["full"].pad_id)
        return MicroBatch(
            torch.from_numpy(input_ids),
            torch.from_numpy(attention_mask),
            {task: torch.from_numpy(column[indices]) for task, column in self.labels.items()},
            self._soft_labels(indices, headline_only),
            labelled,
            size,
            progress,
        )

    def _soft_labels(
        self, indices: NDArray[np.int64], headline_only: NDArray[np.bool_]
    ) -> dict[str, Tensor] | None:
        """Return the teacher's logits for what is shown of each article, (b, C) by task."""
        if self.soft is None:
            return None
        full, headline = (self.soft[view] for view in VIEWS)
        alone = headline_only[:, None]
        return {
            task: torch.from_numpy(
                np.where(alone, headline[task][indices], full[task][indices]).astype(np.float32)
            )
            for task in full
        }


@dataclass(frozen=True)
class Batches:
    """The order of a training set.

    Attributes:
        data: the articles.
        batch_size: articles in one optimizer step, at most: an epoch is cut into batches of equal
            size, give or take one.
        max_tokens: longest input in tokens.
        headline_share: share of the articles shown without their body, drawn anew each epoch.
        sampling_temperature: 1 takes every article once an epoch; above, see DataConfig.
        seed: of everything drawn.
    """

    data: TrainingSet
    batch_size: int
    max_tokens: int
    headline_share: float = 0.0
    sampling_temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self.data):
            raise TrainingError("there are no articles to train on; see what the reader reported")

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return math.ceil(len(self.data) / self.batch_size)

    def epoch(self, epoch: int) -> tuple[list[NDArray[np.int64]], NDArray[np.bool_]]:
        """The batches of an epoch, each (size,) article indices; and (N,) True: headline only."""
        random = np.random.default_rng([self.seed, epoch])
        headline_only = random.random(len(self.data)) < self.headline_share
        lengths = np.where(
            headline_only, self.data.tokens["headline"].lengths, self.data.tokens["full"].lengths
        )
        # Sorted by length within a window, with the window's order breaking ties.
        order = self._draw(random)
        window = WINDOW_BATCHES * self.batch_size
        for start in range(0, len(order), window):
            part = order[start : start + window]
            cut = np.minimum(lengths[part], self.max_tokens)
            order[start : start + window] = part[np.argsort(cut, kind="stable")]
        batches = np.array_split(order, self.steps)
        return [batches[i] for i in random.permutation(len(batches))], headline_only

    def _draw(self, random: np.random.Generator) -> NDArray[np.int64]:
        if self.sampling_temperature == 1:
            return random.permutation(len(self.data))
        corpora = [np.flatnonzero(self.data.corpus == c) for c in np.unique(self.data.corpus)]
        weights = np.array([len(c) for c in corpora]) ** (1 / self.sampling_temperature)
        wanted = np.round(len(self.data) * weights / weights.sum()).astype(int)
        drawn = [np.resize(random.permutation(c), n) for c, n in zip(corpora, wanted, strict=True)]
        # Rounding may have drawn one or two too many, which would not fit into the batches.
        return random.permutation(np.concatenate(drawn))[: len(self.data)]

    def from_step(self, step: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """Batches without end, from the given step of the run: (article indices, headline only)."""
        while True:
            epoch, offset = divmod(step, self.steps)
            batches, headline_only = self.epoch(epoch)
            for indices in batches[offset:]:
                yield indices, headline_only[indices]
            step = (epoch + 1) * self.steps

    def micro_batches(
        self,
        indices: NDArray[np.int64],
        headline_only: NDArray[np.bool_],
        *,
        micro_batch_size: int,
        process: int = 0,
        processes: int = 1,
        progress: float = 0.0,
    ) -> list[MicroBatch]:
        """One process's part of a batch, in pieces of at most `micro_batch_size` articles."""
        if len(indices) < processes:
            raise TrainingError(
                f"a batch of {len(indices)} articles cannot be shared by {processes} processes; "
                "use fewer processes, more articles or a larger batch_size"
            )
        labelled = {
            task: int((labels[indices] != IGNORE).sum())
            for task, labels in self.data.labels.items()
        }
        mine, mine_headline = indices[process::processes], headline_only[process::processes]
        pieces = (slice(i, i + micro_batch_size) for i in range(0, len(mine), micro_batch_size))
        return [
            self.data.micro_batch(
                mine[piece],
                mine_headline[piece],
                max_tokens=self.max_tokens,
                labelled=labelled,
                size=len(indices),
                progress=progress,
            )
            for piece in pieces
        ]
