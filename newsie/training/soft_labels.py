"""Soft labels: the teacher's logits for every article, computed once and stored.

Logits are stored instead of probabilities so that any temperature can be applied, and in float16 because its
rounding is far below the student's own noise. Shards are written one by one and never changed, so a killed
run resumes at the shard where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes
from torch import Tensor, nn

from newsie.atomic import new_file, write_text
from newsie.data.encoding import View, pad
from newsie.errors import FingerprintError, TrainingError
from newsie.labels import LabelSpace
from newsie.training.batches import TokenStore
from newsie.training.progress import Progress

__all__ = [
    "SoftLabels",
    "SoftLabelsHeader",
    "average_logits",
    "compute_logits",
    "compute_soft_labels",
    "load_soft_labels",
    "missing_shards",
    "open_store",
    "read_header",
    "write_shard",
]

SHARD_ARTICLES = 16_384
BATCH_TOKENS = 4_096
HEADER_FILE = "soft_labels.json"


@dataclass(frozen=True)
class SoftLabelsHeader:
    """The inputs of stored soft labels. Two sets are interchangeable only if their headers are equal.

    Attributes:
        teacher: the fingerprints of the teachers' weights.
        labels: the names of the labels in order, by task.
        data: the fingerprint of the articles.
        view: the view of each article that the teacher read.
        max_tokens: the longest input in tokens.
        articles: the number of articles.
    """

    teacher: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]
    data: str
    view: View
    max_tokens: int
    articles: int

    def check(self, found: SoftLabelsHeader, directory: Path) -> None:
        """Raise FingerprintError, listing the differences, unless the header `found` equals this one."""
        wanted, given = (json.loads(json.dumps(asdict(header))) for header in (self, found))
        differences = [
            f"  {name}: stored {given[name]!r}, now {wanted[name]!r}"
            for name in wanted
            if wanted[name] != given[name]
        ]
        if differences:
            raise FingerprintError(
                f"the soft labels in {directory} belong to other inputs; delete the folder to compute "
                "them again:\n" + "\n".join(differences)
            )

    @classmethod
    def of(
        cls,
        teachers: Sequence[str],
        labels: LabelSpace,
        data: str,
        view: View,
        max_tokens: int,
        articles: int,
    ) -> SoftLabelsHeader:
        """Return the header of soft labels for a label space."""
        by_task = {task.name: task.labels for task in labels.tasks}
        return cls(tuple(teachers), by_task, data, view, max_tokens, articles)


@dataclass(frozen=True)
class SoftLabels:
    """A teacher's logits for N articles.

    Attributes:
        header: the inputs of the soft labels.
        logits: (N, C_task) float16 by task. For an ensemble, the log of the mean probabilities.
    """

    header: SoftLabelsHeader
    logits: dict[str, NDArray[np.float16]]

    def take(self, rows: NDArray[np.int64]) -> SoftLabels:
        """Return the soft labels of only the given articles."""
        header = replace(self.header, articles=len(rows))
        return SoftLabels(header, {task: logits[rows] for task, logits in self.logits.items()})


def compute_soft_labels(
    teachers: Sequence[nn.Module],
    tokens: TokenStore,
    header: SoftLabelsHeader,
    directory: Path,
    *,
    device: torch.device,
    autocast: bool = False,
    process: int = 0,
    processes: int = 1,
    progress: Progress | None = None,
) -> None:
    """Compute and store the teachers' logits for every article. Existing shards are kept.

    Args:
        teachers: models of the same label space; several are averaged as probabilities.
        tokens: the articles in the header's view.
        header: the inputs of the soft labels.
        directory: the folder of this store alone.
        device: the device of the teachers.
        autocast: run in bf16.
        process, processes: compute every `processes`-th shard, from the number `process` on.
        progress: advanced by the number of articles done.

    Raises:
        FingerprintError: the directory holds soft labels of other inputs.
    """
    open_store(header, directory, main=process == 0)
    missing = missing_shards(header, directory)
    if progress is not None:
        progress.resume(header.articles - sum(map(len, missing.values())))
    for shard, rows in missing.items():
        if shard % processes != process:
            continue
        logits = compute_logits(
            teachers,
            tokens,
            np.asarray(rows),
            max_tokens=header.max_tokens,
            device=device,
            autocast=autocast,
            advance=progress.advance if progress is not None else None,
        )
        write_shard(directory, shard, logits)


def open_store(header: SoftLabelsHeader, directory: Path, *, main: bool = True) -> None:
    """Create a store or check the existing one. Only the `main` process creates it.

    Raises:
        FingerprintError: the directory holds soft labels of other inputs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / HEADER_FILE).exists():
        header.check(read_header(directory), directory)
    elif main:
        write_text(directory / HEADER_FILE, json.dumps(asdict(header)))


def missing_shards(header: SoftLabelsHeader, directory: Path) -> dict[int, range]:
    """Return the article rows of each missing shard, by shard number."""
    starts = enumerate(range(0, header.articles, SHARD_ARTICLES))
    return {
        shard: range(start, min(start + SHARD_ARTICLES, header.articles))
        for shard, start in starts
        if not _shard(directory, shard).exists()
    }


def write_shard(directory: Path, shard: int, logits: Mapping[str, NDArray[np.float32]]) -> None:
    """Write a shard with its checksum, atomically.

    Raises:
        TrainingError: a logit is too large for float16.
    """
    content = save_bytes({task: _as_float16(task, z) for task, z in logits.items()})
    with new_file(_shard(directory, shard)) as aside:
        aside.write_bytes(hashlib.sha256(content).digest() + content)


def _shard(directory: Path, number: int) -> Path:
    return directory / f"{number:05d}.safetensors"


def _as_float16(task: str, logits: NDArray[np.float32]) -> NDArray[np.float16]:
    if np.abs(logits).max(initial=0) > np.finfo(np.float16).max:
        raise TrainingError(
            f"logits of task {task!r} are too large for float16; the teacher diverged"
        )
    return logits.astype(np.float16)


def load_soft_labels(directory: Path) -> SoftLabels:
    """Read a complete store.

    Raises:
        FingerprintError: the store is incomplete or damaged.
    """
    header = read_header(directory)
    shards = []
    for shard in range(-(-header.articles // SHARD_ARTICLES)):
        path = _shard(directory, shard)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise FingerprintError(
                f"soft labels are missing {path.name}; run the stage again: {error}"
            ) from error
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise FingerprintError(f"{path} is damaged; delete it and run the stage again")
        shards.append(load_bytes(content[32:]))
    logits = {task: np.concatenate([shard[task] for shard in shards]) for task in header.labels}
    return SoftLabels(header, logits)


def compute_logits(
    models: Sequence[nn.Module],
    tokens: TokenStore,
    rows: NDArray[np.int64],
    *,
    max_tokens: int,
    device: torch.device,
    autocast: bool = False,
    advance: Callable[[int], None] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return the logits of the given rows, (n, C) by task, in the order of `rows`.

    Several models are averaged as probabilities; their logits are the log of the mean. `advance` is called
    with the number of articles done in each batch.

    Raises:
        TrainingError: a model returns a logit that is not finite.
    """
    lengths = np.minimum(tokens.lengths[rows], max_tokens)
    order = np.argsort(lengths, kind="stable")
    answers: dict[str, NDArray[np.float32]] = {}
    for batch in _token_batches(lengths[order]):
        chosen = order[batch]
        input_ids, attention_mask = (
            torch.from_numpy(array).to(device)
            for array in pad([tokens.row(rows[i], max_tokens) for i in chosen], tokens.pad_id)
        )
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            members = [model.eval()(input_ids, attention_mask) for model in models]
        for task in members[0]:
            values = average_logits([member[task].float() for member in members]).cpu().numpy()
            if not np.isfinite(values).all():
                raise TrainingError(
                    f"a model answers task {task!r} with values that are not numbers"
                )
            if task not in answers:
                answers[task] = np.empty((len(rows), values.shape[1]), np.float32)
            answers[task][chosen] = values
        if advance is not None:
            advance(len(chosen))
    return answers


def average_logits(logits: Sequence[Tensor]) -> Tensor:
    """Return the log of the members' mean probabilities, or the logits of a single member."""
    if len(logits) == 1:
        return logits[0]
    members = torch.stack([torch.log_softmax(member, -1) for member in logits])
    return torch.logsumexp(members, dim=0) - math.log(len(logits))


def _token_batches(lengths: NDArray[np.int64]) -> list[slice]:
    """Split ascending lengths into batches whose padded size stays within BATCH_TOKENS."""
    batches, start = [], 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - start) * lengths[end] > BATCH_TOKENS:
            batches.append(slice(start, end))
            start = end
    return batches


def read_header(directory: Path) -> SoftLabelsHeader:
    """Read the header of the soft labels in a directory.

    Raises:
        FingerprintError: the directory holds no soft labels.
    """
    try:
        content: dict[str, Any] = json.loads((directory / HEADER_FILE).read_text(encoding="utf-8"))
        return SoftLabelsHeader(**content)
    except (OSError, ValueError, TypeError) as error:
        raise FingerprintError(f"{directory} holds no soft labels: {error}") from error
