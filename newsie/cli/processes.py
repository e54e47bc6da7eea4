"""Files into files in several processes: a student computes on all cores of one, but reading, putting
together and writing are Python's, one core's work, which fast students wait for.

Runs may share a folder (see `Bulk.many`), so this one starts more of them. They say nothing: what they cannot
answer this one tries as well, and says.
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
from newsie.runtime import count_threads

__all__ = ["many_in_processes", "share_of_cores"]


def share_of_cores(processes: int) -> int:
    """Threads of each of so many processes, which the tokenizer of this one is told, too."""
    threads = max(count_threads(None) // processes, 1)
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    return threads


def many_in_processes(bulk: Bulk, jobs: Sequence[Job], model: str | None, processes: int) -> None:
    """Answer files into a folder, as `Bulk.many` does, whose errors are raised.

    Args:
        bulk: what answers here, with its share of the cores.
        jobs: the files.
        model: as `Classifier.from_pretrained` takes it.
        processes: how many, this one included.
    """
    options = (bulk.tasks, bulk.top_k, bulk.columns, bulk.strict, bulk.raw)
    arguments = (model, bulk.classifier.threads, options, jobs)
    # Spawned: a forked process would hold the locks of threads that it does not have.
    make = multiprocessing.get_context("spawn").Process
    helpers = [make(target=_help, args=arguments) for _ in range(min(processes, len(jobs)) - 1)]
    for helper in helpers:
        helper.start()
    try:
        bulk.many(jobs)
    finally:
        for helper in helpers:  # all is answered, or nobody wants it any more
            helper.kill()
            helper.join()


def _help(model: str | None, threads: int, options: tuple[Any, ...], jobs: Sequence[Job]) -> None:
    from newsie.classifier import Classifier
    from newsie.errors import NewsieError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and ends this one
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stderr(nowhere),
        suppress(NewsieError, OSError),
    ):
        Bulk(Classifier.from_pretrained(model, threads=threads), *options).many(jobs)


def _end_with_the_first() -> None:
    """However it ends: nobody would know of this process."""
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)
