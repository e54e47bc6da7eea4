"""A small Ray cluster in a process of its own, until its standard input ends.

python -m tests.serving.ray_cluster BUNDLE PORT
"""

from __future__ import annotations

import sys

import ray
from ray import serve

from serving.ray_serve import app


def main(model: str, port: int) -> None:
    ray.init(
        address="local",  # and not one that another test has started
        num_cpus=2,
        object_store_memory=80_000_000,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(app({"model": model, "replicas": "2"}), name="newsie")
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
