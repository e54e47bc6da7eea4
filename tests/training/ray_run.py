"""Soft labels on a Ray cluster of a head and two nodes in one machine, of which one is killed.

python -m tests.training.ray_run DIRECTORY
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import ray
import torch
from ray.cluster_utils import Cluster
from torch import Tensor, nn

from newsie.training import soft_labels
from newsie.training.ray_soft_labels import compute_soft_labels_on_ray
from newsie.training.soft_labels import SoftLabelsHeader
from tests.tiny import LABELS
from tests.training.tiny_run import tiny_batches, tiny_model

SHARD_ARTICLES = 10


class SlowTeacher(nn.Module):
    """The tiny teacher, so slow that a node is killed while it is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_model().eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        time.sleep(0.4)
        answers: dict[str, Tensor] = self.model(input_ids, attention_mask)
        return answers


def header() -> SoftLabelsHeader:
    articles = len(tiny_batches().data)
    return SoftLabelsHeader.of([tiny_model().fingerprint()], LABELS, "data", "full", 24, articles)


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    soft_labels.SHARD_ARTICLES = SHARD_ARTICLES
    memory = 80_000_000
    head = {"num_cpus": 0, "object_store_memory": memory, "include_dashboard": False}
    cluster = Cluster(True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=memory) for _ in range(2)]
    ray.init(cluster.address, log_to_driver=False, configure_logging=False)

    def kill_one() -> None:
        while len(list(directory.glob("*.safetensors"))) < 2:
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print("killed after", len(list(directory.glob("*.safetensors"))), flush=True)

    killer = threading.Thread(target=kill_one)
    killer.start()
    tokens = tiny_batches().data.tokens["full"]
    compute_soft_labels_on_ray([SlowTeacher()], tokens, header(), directory)
    killer.join()
    until = time.monotonic() + 60  # the cluster finds out by missing its heartbeats
    while (alive := _alive()) > 1 and time.monotonic() < until:
        time.sleep(0.5)
    print("alive", alive, flush=True)
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


def _alive() -> int:
    """Nodes that can compute."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in nodes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
