"""Classification of files into files in several processes.

A student computes on all cores of one process, but reading, collating and writing run in Python on a single
core, which fast students wait for. Runs may share a folder (see `Bulk.many`), so this one starts more of
them. They print nothing: this process retries and reports the files that they cannot classify.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from typing import Any

from newsie.cli.bulk import Bulk, Job
from newsie.inference.student import count_threads

__all__ = ["many_in_processes", "share_of_cores"]


def share_of_cores(processes: int) -> int:
    """Return the number of threads for each process, and set it for the tokenizer of this one too."""
    threads = max(count_threads(None) // processes, 1)
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    return threads


def many_in_processes(bulk: Bulk, jobs: Sequence[Job], model: str | None, processes: int) -> None:
    """Classify files into a folder as `Bulk.many` does, with the same errors.

    Args:
        bulk: the classification in this process, with its share of the cores.
        jobs: the files.
        model: the model, as for `Classifier.from_pretrained`.
        processes: the number of processes, this one included.
    """
    options = (bulk.tasks, bulk.top_k, bulk.columns, bulk.strict, bulk.raw)
    arguments = (model, bulk.classifier.threads, options, jobs)
    # Spawned, because a forked process would hold the locks of threads that it does not have.
    make = multiprocessing.get_context("spawn").Process
    helpers = [make(target=_help, args=arguments) for _ in range(min(processes, len(jobs)) - 1)]
    for helper in helpers:
        helper.start()
    try:
        bulk.many(jobs)
    finally:
        for helper in helpers:  # everything is done, or the run was stopped
            helper.kill()
            helper.join()


def _help(model: str | None, threads: int, options: tuple[Any, ...], jobs: Sequence[Job]) -> None:
    from newsie.errors import NewsieError
    from newsie.inference.classifier import Classifier

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process gets it, and ends this one
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stderr(nowhere),
        suppress(NewsieError, OSError),
    ):
        Bulk(Classifier.from_pretrained(model, threads=threads), *options).many(jobs)


def _end_with_the_first() -> None:
    """End this process when the first one ends, however it ends."""
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)
