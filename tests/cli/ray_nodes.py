"""A Ray cluster of two nodes that answers files, and loses one of the nodes.

    python -m tests.cli.ray_nodes BUNDLE IN OUT JOURNAL

The node that is lost holds a file then, of which one part is finished. Prints which node that was, and
how many there are at the end.
"""

from __future__ import annotations

import csv
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from newsie.atomic import write_text
from newsie.cli.bulk import Bulk, into_folder
from newsie.cli.on_ray import many_on_ray
from newsie.inference.classifier import Classifier

PART_ROWS = 100
PATIENCE_SECONDS = 180


def count_nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def observe(journal: Path) -> Callable[[], None]:
    """What Ray's workers do first: make small parts, note in the journal which file is opened on which
    node behind which row, and wait behind a file's first part until a node is lost. Those on that node wait
    until they die, which is a little later."""
    lost, rows = journal.with_suffix(".lost"), PART_ROWS

    def set_up() -> None:
        from newsie.bulk import resumable_file as parts

        opened, write = parts.Parts.__enter__, parts.Parts.write

        def open_and_note(self: Any) -> Any:
            found, node = opened(self), ray.get_runtime_context().get_node_id()
            with journal.open("a", encoding="utf-8") as file:
                file.write(f"{self.target.name},{node},{self.done}\n")
            return found

        def wait_and_write(self: Any, number: int, row: Mapping[str, Any]) -> None:
            write(self, number, row)
            node = ray.get_runtime_context().get_node_id()
            while self.done and (not lost.exists() or lost.read_text() == node):
                time.sleep(0.05)

        parts.PART_ROWS = rows
        parts.Parts.__enter__ = open_and_note  # type: ignore[method-assign]
        parts.Parts.write = wait_and_write  # type: ignore[method-assign]

    return set_up


def read_journal(path: Path) -> list[tuple[str, str, int]]:
    """File, node, and the row behind which it was opened, in the order of time."""
    if not path.exists():
        return []
    rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    return [(file, node, int(done)) for file, node, done in rows]


def held_by(node: str, folder: Path, journal: Path) -> str | None:
    """The file with a finished part that a node works at."""
    for file, of, _ in read_journal(journal):
        if of == node and (folder / f".{file}.parts" / "progress.json").exists():
            return file
    return None


def main(model: str, source: str, target: str, journal: str) -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000},
    )
    other = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    ray.init(
        address=cluster.address,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"worker_process_setup_hook": observe(Path(journal))},
    )
    nodes = [node["NodeID"] for node in ray.nodes()]  # type: ignore[no-untyped-call]

    def lose() -> None:
        """Once each node holds a file of which a part is finished."""
        found, until = "none", time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            if all(held_by(node, Path(target), Path(journal)) for node in nodes):
                cluster.remove_node(other, allow_graceful=False)
                found = other.node_id
                break
            time.sleep(0.05)
        write_text(Path(journal).with_suffix(".lost"), found)

    losing = threading.Thread(target=lose)
    losing.start()
    files = sorted(str(path) for path in Path(source).glob("*.csv"))
    os.chdir(Path(model).parent)  # of this process alone: the workers are elsewhere
    name = Path(model).name
    bulk = Bulk(Classifier.from_pretrained(name, threads=1), None, None, {}, False)
    many_on_ray(bulk, into_folder(files, Path(target), json_=False), name)
    losing.join()
    for _ in range(300):
        if (alive := count_nodes()) == 1:
            break
        time.sleep(0.2)
    print("lost", other.node_id)
    print("alive", alive, flush=True)
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(*sys.argv[1:])
