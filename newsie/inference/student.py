"""The student at run time: its graph, and the batching of articles.

One session per graph, one thread per call. Several calls run at once, each on its own batch: that is
faster than one call on several threads, and one session serves them all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from newsie.cores import count_cores
from newsie.data.encoding import pad
from newsie.errors import BundleError, InputError
from newsie.graph.graph import Graph
from newsie.inference.openvino import Session, choose_session
from newsie.labels import LabelSpace

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = [
    "BATCH_TOKENS",
    "Ids",
    "Logits",
    "Model",
    "Running",
    "Student",
    "count_threads",
    "import_onnxruntime",
    "open_onnxruntime",
    "plan_batches",
    "preload_onnxruntime",
]

MAX_BATCH_TOKENS = 1_024
"""The tokens of a batch, padding included. Activations of a larger batch exceed the processor's caches."""

BATCH_TOKENS = "newsie.batch_tokens"
"""The metadata key of a graph for another batch size in tokens, if it computes little for each."""

MIN_WINDOW_ARTICLES, MAX_WINDOW_ARTICLES = 1_024, 4_096
"""The bounds of how many articles are sorted by length and computed together, and so held in memory."""

Ids = Sequence[Sequence[int]]
Logits = dict[str, NDArray[np.float32]]


class Running:
    """Predictions that are being computed.

    Args:
        parts: the computations.
        finish: returns the logits after all parts are computed.
    """

    def __init__(self, parts: Sequence[Future[None]], finish: Callable[[], Logits]) -> None:
        self._parts, self._finish = parts, finish
        self._left = list(parts)

    def done(self) -> bool:
        """Return True if `result` would not wait."""
        while self._left and self._left[-1].done():
            self._left.pop()
        return not self._left

    def result(self) -> Logits:
        """Wait for the logits by task, (N, C), and return them. Errors are those of `Model.run_batch`."""
        try:
            for part in self._parts:
                part.result()
        finally:
            self.cancel()
        return self._finish()

    def cancel(self) -> None:
        """Cancel the parts that have not started."""
        for part in self._parts:
            part.cancel()

    def then(self, change: Callable[[Logits], Logits]) -> Running:
        """Return the same computation with its result changed by a function."""
        return Running(self._parts, lambda: change(self._finish()))


class Model(Protocol):
    """The interface of a model that computes logits from token ids: a student, or a cascade of two."""

    @property
    def window_articles(self) -> int:
        """The most articles of a stream that should be sorted and computed together."""
        ...

    def run_batch(self, ids: Ids, tasks: Sequence[str]) -> Logits:
        """Return logits by task, (B, C), of B articles in one batch, ideally of similar length."""
        ...

    def start(self, ids: Ids, tasks: Sequence[str]) -> Running:
        """Start computing the logits by task, (N, C), of any number of articles, in batches, on all threads.

        With one thread or a single batch, they are computed at once.
        """
        ...

    def run(self, ids: Ids, tasks: Sequence[str]) -> Logits:
        """Compute the logits as `start` does, and wait for them."""
        ...


class Student:
    """A single graph, ready to run. Safe to use from several threads at once.

    Args:
        graph: the graph, which is not kept; its inputs are input_ids and attention_mask, (B, T) int64, and
            its outputs are named after the tasks.
        labels: the tasks that it must predict.
        pad_id: the token id that pads shorter rows.
        threads: the number of threads that `run` computes with.

    Raises:
        BundleError: the graph cannot be used, or does not fit the label space.
        InputError, MissingExtraError: see `choose_session`.
    """

    def __init__(self, graph: Graph, labels: LabelSpace, *, pad_id: int, threads: int) -> None:
        self._path, self._labels = graph.path, labels
        self._pad_id, self._threads = pad_id, threads
        self._session, self._batch_tokens = _open_session(graph, labels, threads)
        self._kept: tuple[int, Executor] | None = None

    @property
    def window_articles(self) -> int:
        """The window size; see `Model.window_articles`.

        In a larger window more articles of a batch have the same length, and less is computed for padding:
        0.9 % with 1,024 articles and batches of 1,024 tokens, 0.3 % with 4,096. Larger batches need larger
        windows for the same share, and belong to faster graphs, which deliver them as soon.
        """
        return min(max(self._batch_tokens, MIN_WINDOW_ARTICLES), MAX_WINDOW_ARTICLES)

    def run_batch(self, ids: Ids, tasks: Sequence[str]) -> Logits:
        """Return logits by task; see `Model.run_batch`.

        Raises:
            BundleError: the graph fails, or returns NaN or infinity.
        """
        logits = dict(zip(tasks, self._call(ids, tasks), strict=True))
        for task, answer in logits.items():
            if not np.isfinite(answer).all():
                raise BundleError(
                    f"bundle {self._path.parent}: the model's answer to task {task!r} is not a "
                    "number; it was not trained or exported well: use another bundle"
                )
        return logits

    def run(self, ids: Ids, tasks: Sequence[str]) -> Logits:
        """Return logits by task; see `Model.run`. Errors are those of `run_batch`."""
        return self.start(ids, tasks).result()

    def start(self, ids: Ids, tasks: Sequence[str]) -> Running:
        """Start computing logits; see `Model.start`."""
        logits = {
            task: np.empty((len(ids), len(self._labels[task].labels)), np.float32) for task in tasks
        }
        batches = plan_batches([len(row) for row in ids], self._threads, self._batch_tokens)

        def compute(rows: NDArray[np.int64]) -> None:
            for task, answer in self.run_batch([ids[row] for row in rows], tasks).items():
                logits[task][rows] = answer

        parts: list[Future[None]] = []
        # The longest batches come first, so that none of them is left over at the end.
        if self._threads > 1 and len(batches) > 1:
            submit = self._executor().submit
            parts = [submit(compute, rows) for rows in reversed(batches)]
        else:
            for rows in reversed(batches):
                compute(rows)
        return Running(parts, lambda: logits)

    def _executor(self) -> Executor:
        """Return the student's threads, which are kept because OpenVINO keeps a request for each.

        A forked process does not have them, and starts its own.
        """
        from concurrent.futures import ThreadPoolExecutor

        process = os.getpid()
        if self._kept is None or self._kept[0] != process:
            self._kept = process, ThreadPoolExecutor(self._threads, thread_name_prefix="newsie")
        return self._kept[1]

    def _call(self, ids: Ids, tasks: Sequence[str]) -> list[NDArray[np.float32]]:
        input_ids, attention_mask = pad(ids, self._pad_id)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        try:
            return list(self._session.run(list(tasks), inputs))
        except Exception as error:  # runtime errors have no common base but Exception
            raise BundleError(
                f"bundle {self._path.parent}: the model cannot compute {len(ids)} article(s) of "
                f"{input_ids.shape[1]} tokens: {error}"
            ) from error


def plan_batches(
    lengths: Sequence[int], threads: int, max_tokens: int = MAX_BATCH_TOKENS
) -> list[NDArray[np.int64]]:
    """Group rows of similar length, shortest first, into batches within a token budget, padding included.

    The budget is smaller if there is little to do, so that every thread has work.
    """
    budget = min(max_tokens, -(-sum(lengths) // threads))
    batches, start = [], 0
    order = np.argsort(lengths, kind="stable")
    for end, row in enumerate(order):
        if end > start and (end + 1 - start) * lengths[row] > budget:
            batches.append(order[start:end])
            start = end
    if start < len(order):
        batches.append(order[start:])
    return batches


def count_threads(threads: int | None) -> int:
    """Return the number of threads to compute with: `threads`, or OMP_NUM_THREADS, or one for each core.

    Raises:
        InputError: `threads` is below 1.
    """
    if threads is None:
        given = os.environ.get("OMP_NUM_THREADS", "")
        return int(given) if given.isdecimal() and int(given) else count_cores()
    if threads < 1:
        raise InputError(f"threads is {threads}; at least 1, or None for all cores")
    return threads


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off; return the module.

    From version 1.29 on, the library looks up a host of its maker and writes an identifier of the machine to
    the user's home folder as soon as it is loaded, unless this variable is set. This is therefore the only
    place that imports it. A value that the user has set is kept.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Imported here, because it takes a tenth of a second, which reading a manifest should not cost.
    import onnxruntime

    return onnxruntime


def preload_onnxruntime() -> None:
    """Import ONNX Runtime ahead of its first use, which reports an error if the import fails."""
    with suppress(Exception):
        import_onnxruntime()


def open_onnxruntime(graph: Graph) -> Any:
    """Open an ONNX Runtime session, which computes each call on one thread.

    Raises:
        BundleError: ONNX Runtime cannot run the graph, or the graph needs other files.
    """
    graph.check()
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A memory plan would be kept for ever for each batch shape, and there are thousands of shapes.
    options.enable_mem_pattern = False
    # The graph is exported in its best form: optimising it here makes it no faster and takes a
    # twelfth of the startup time.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            graph.content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        raise BundleError(f"bundle {graph.path.parent}: {graph.path.name}: {error}") from error
    session._model_bytes = b""  # kept for other providers; an unneeded copy of the weights
    return session


def _open_session(graph: Graph, labels: LabelSpace, threads: int) -> tuple[Session, int]:
    """Open a session; return it, and the batch size in tokens."""
    session = open_onnxruntime(graph)
    _check_outputs(graph.path, labels, {o.name: o.shape[-1] for o in session.get_outputs()})
    tokens = session.get_modelmeta().custom_metadata_map.get(BATCH_TOKENS, str(MAX_BATCH_TOKENS))
    if not tokens.isdecimal():
        raise BundleError(
            f"bundle {graph.path.parent}: {graph.path.name}: {BATCH_TOKENS} is {tokens!r} in its metadata; "
            "a number of tokens is expected: export it again"
        )
    return choose_session(session, graph, threads), int(tokens)


def _check_outputs(path: Path, labels: LabelSpace, found: Mapping[str, int]) -> None:
    wanted = {task.name: len(task.labels) for task in labels.tasks}
    if found != wanted:
        raise BundleError(
            f"bundle {path.parent}: the outputs of {path.name} (name: labels) are {dict(found)}, the "
            f"label space asks for {wanted}"
        )
