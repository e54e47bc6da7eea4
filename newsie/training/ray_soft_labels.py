"""Soft labels on a Ray cluster, with one task per shard and the same store.

The driver sends each task the token ids of its shard and receives logits, so the machines of the cluster
need no shared folder. If a worker or a node fails, Ray restarts its tasks elsewhere, and only their shards
are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from newsie.errors import MissingExtraError, TrainingError
from newsie.training.batches import TokenStore
from newsie.training.progress import Progress
from newsie.training.soft_labels import (
    SoftLabelsHeader,
    compute_logits,
    missing_shards,
    open_store,
    write_shard,
)

__all__ = ["compute_soft_labels_on_ray", "connect"]

AHEAD = 2
"""The number of waiting tasks per running task. More would only fill Ray's memory with tokens."""


def connect(address: str) -> float:
    """Connect to a cluster, and return the number of GPUs per task: one if the cluster has any, else 0.

    Args:
        address: "auto" for the cluster that this machine belongs to, "local" for a new one on this machine,
            or "ray://HOST:10001".

    Raises:
        TrainingError: there is no such cluster.
        MissingExtraError: Ray is not installed.
    """
    ray = _ray()
    try:
        ray.init(address, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"there is no Ray cluster at {address!r}: {error}; start one with  ray start --head  or "
            "give local"
        ) from error
    return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0


def compute_soft_labels_on_ray(
    teachers: Sequence[nn.Module],
    tokens: TokenStore,
    header: SoftLabelsHeader,
    directory: Path,
    *,
    autocast: bool = False,
    cpus: float = 1,
    gpus: float = 0,
    progress: Progress | None = None,
) -> None:
    """Compute soft labels as `compute_soft_labels` does, on the connected cluster.

    Args:
        teachers: models of the same label space; several are averaged as probabilities.
        tokens: the articles in the header's view.
        header: the inputs of the soft labels.
        directory: the folder of this store alone, on the driver's machine.
        autocast: run in bf16.
        cpus, gpus: the resources of a task.
        progress: advanced by the number of articles done.

    Raises:
        FingerprintError: the directory holds soft labels of other inputs.
        TrainingError: a task fails and retrying does not help.
        MissingExtraError: Ray is not installed.
    """
    ray = _ray()
    open_store(header, directory)
    shards = missing_shards(header, directory)
    if progress is not None:
        progress.resume(header.articles - sum(map(len, shards.values())))
    # Tasks of a lost machine are retried without limit; exceptions of our own code are not retried.
    answer: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(_answer)
    models = ray.put([model.cpu() for model in teachers])
    slots = max(1, int(ray.cluster_resources().get("CPU", 1) / max(cpus, 1e-9)))
    waiting = iter(shards.items())
    running: dict[Any, int] = {}
    while True:
        for shard, rows in _take(waiting, slots * (1 + AHEAD) - len(running)):
            part = tokens.take(np.asarray(rows))
            running[answer.remote(models, part, header.max_tokens, autocast, cpus)] = shard
        if not running:
            return
        (ready, *_), _ = ray.wait(list(running))
        shard = running.pop(ready)
        write_shard(directory, shard, _result(ray, ready))
        if progress is not None:
            progress.advance(len(shards[shard]))


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("soft labels on a cluster", "ray", "ray") from error
    return ray


def _answer(
    teachers: Sequence[nn.Module], part: TokenStore, max_tokens: int, autocast: bool, cpus: float
) -> dict[str, NDArray[np.float32]]:
    """Return the logits of a shard by classification task, (n, C) each. This runs as a Ray task."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(cpus)))
    return compute_logits(
        [model.to(device) for model in teachers],
        part,
        np.arange(len(part)),
        max_tokens=max_tokens,
        device=device,
        autocast=autocast,
    )


def _take(items: Iterator[tuple[int, range]], count: int) -> Iterator[tuple[int, range]]:
    for _ in range(count):
        item = next(items, None)
        if item is None:
            return
        yield item


def _result(ray: Any, reference: Any) -> Mapping[str, NDArray[np.float32]]:
    try:
        found: Mapping[str, NDArray[np.float32]] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, TrainingError):
            raise cause from error
        raise TrainingError(f"soft labels on Ray: a task failed: {cause!r}") from error
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"soft labels on Ray: the cluster is gone ({error}); connect it, and run the same command "
            "again: finished shards are kept"
        ) from error
    return found
