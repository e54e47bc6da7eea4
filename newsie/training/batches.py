"""Training sets, and the order in which their articles make up the batches.

Everything here is a pure function of (seed, epoch, step) and keeps no random state. So a killed run
resumes exactly where it stopped, and each of several processes can compute its part of every batch
without communicating.
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
"""The number of batches in a window within which articles are sorted by length: enough for batches of
similar length, few enough to keep an epoch well mixed."""


@dataclass(frozen=True)
class TokenStore:
    """The token ids of N articles in one view, concatenated.

    Attributes:
        ids: (sum of lengths,) all token ids; may be a memory map.
        offsets: (N + 1,) the start of each article, followed by the end of the last one.
        pad_id: the id of the padding token.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pad_id: int

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]], pad_id: int) -> TokenStore:
        """Concatenate N sequences of token ids."""
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        ids = np.fromiter((token for row in rows for token in row), np.int32, count=offsets[-1])
        return cls(ids, offsets, pad_id)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def join(self, other: TokenStore) -> TokenStore:
        """Return these articles, followed by others encoded with the same tokenizer."""
        offsets = np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return TokenStore(np.concatenate([self.ids, other.ids]), offsets, self.pad_id)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each article, (N,)."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> TokenStore:
        """Return only the given articles."""
        ids = [self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])])
        return TokenStore(np.concatenate([*ids, np.empty(0, np.int32)]), offsets, self.pad_id)

    def row(self, index: int, max_tokens: int) -> NDArray[np.int32]:
        """Return the ids of one article, at most `max_tokens`. A truncated one keeps its closing token."""
        start, end = self.offsets[index], self.offsets[index + 1]
        if end - start <= max_tokens:
            return self.ids[start:end]
        return np.append(self.ids[start : start + max_tokens - 1], self.ids[end - 1])


@dataclass(frozen=True)
class MicroBatch:
    """The b articles of one forward and backward pass of a process, out of a batch of `size`.

    Attributes:
        input_ids, attention_mask: (b, T).
        labels: (b,) class indices by task.
        soft: (b, C) teacher logits by task, or None.
        labelled: the number of articles in the whole batch that have a gold label, by task.
        size: the number of articles in the whole batch.
        progress: the share of the run's steps that are done, 0 to 1.
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
        labels: (N,) class indices by task; IGNORE where an article has no label.
        soft: the teacher's logits by view and task, (N, C) float16; None without a teacher.
        corpus: (N,) the index of the corpus that each article comes from.
    """

    tokens: Mapping[View, TokenStore]
    labels: Mapping[str, NDArray[np.int64]]
    corpus: NDArray[np.int64]
    soft: Mapping[View, Mapping[str, NDArray[np.float16]]] | None = None

    def __len__(self) -> int:
        return len(self.corpus)

    def take(self, rows: NDArray[np.int64]) -> TrainingSet:
        """Return only the given articles."""
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
            indices: (b,) the rows of the articles.
            headline_only: (b,) True for articles that are shown without their body.
            max_tokens: the longest input in tokens.
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
        """Return the teacher's logits for the view that is shown of each article, (b, C) by task."""
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
    """The batches of a training set in their order.

    Attributes:
        data: the articles.
        batch_size: the largest number of articles in one optimizer step. An epoch is split into batches
            whose sizes differ by at most one.
        max_tokens: the longest input in tokens.
        headline_share: the share of articles shown without their body, drawn again each epoch.
        sampling_temperature: 1 uses every article once per epoch; for higher values see DataConfig.
        seed: the seed of all random draws.
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
        """The number of optimizer steps in an epoch."""
        return math.ceil(len(self.data) / self.batch_size)

    def epoch(self, epoch: int) -> tuple[list[NDArray[np.int64]], NDArray[np.bool_]]:
        """Return the batches of an epoch, each (size,) article indices, and the (N,) mask of articles
        that are shown without their body."""
        random = np.random.default_rng([self.seed, epoch])
        headline_only = random.random(len(self.data)) < self.headline_share
        lengths = np.where(
            headline_only, self.data.tokens["headline"].lengths, self.data.tokens["full"].lengths
        )
        # The sort is stable, so articles of equal length keep their random order.
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
        # Rounding may draw one or two articles too many, which would not fit into the batches.
        return random.permutation(np.concatenate(drawn))[: len(self.data)]

    def from_step(self, step: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """Yield endless batches from a step of the run on: (article indices, headline only)."""
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
        """Return one process's part of a batch, in micro-batches of at most `micro_batch_size` articles."""
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
