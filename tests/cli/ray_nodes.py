"""A Ray cluster of two nodes that answers files, and loses one of the nodes.

    python -m tests.cli.ray_nodes BUNDLE IN OUT

The node that is lost holds an actor at that moment. Prints how many nodes there are at the end.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from newsie.classifier import Classifier
from newsie.cli.bulk import Bulk, into_folder
from newsie.cli.on_ray import many_on_ray


def count_nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def main(model: str, source: str, target: str) -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000},
    )
    other = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    lost = threading.Event()

    def lose() -> None:
        """Once an answer is there, so that both nodes are at work."""
        while not any(Path(target).glob("*.csv")) and not lost.wait(0.02):
            pass
        cluster.remove_node(other, allow_graceful=False)
        lost.set()

    files = sorted(str(path) for path in Path(source).glob("*.csv"))
    threading.Thread(target=lose, daemon=True).start()
    bulk = Bulk(Classifier.from_pretrained(model, threads=1), None, None, {}, False)
    many_on_ray(bulk, into_folder(files, Path(target), json_=False), model)
    assert lost.wait(60)
    while (alive := count_nodes()) > 1:
        time.sleep(0.2)
    print("alive", alive, flush=True)
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(*sys.argv[1:])
