"""The classifier: articles in, predictions out, on a CPU and without PyTorch."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from newsie.bundle import Bundle, bundled_path, read_bundle
from newsie.data.articles import Article
from newsie.data.encoding import EncodedArticles, Encoder, pad
from newsie.errors import BundleError, InputError, MissingExtraError
from newsie.evaluation import softmax
from newsie.explanation import MAX_PASSES, Explanation, ExplanationPlan, occlude, split_words
from newsie.labels import LabelSpace

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Classifier", "Prediction"]

MAX_BATCH_TOKENS = 2_048
"""Tokens of a batch, padding included; larger ones fall out of the processor's caches."""

WINDOW_ARTICLES = 4_096
"""Articles of a stream that are sorted by length together, and so held in memory."""

WINDOW_CHARACTERS = 16_000_000
"""A window ends with the article that fills this: 4,096 articles of usual length are within it."""

FIRST_WINDOW_ARTICLES = 256
"""Articles of a stream's first window: the first answers come early, the windows then grow."""

WINDOW_SECONDS = 1.0
"""Windows grow no more once one takes this long, so that answers keep coming on a slow machine."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The answers to one article.

    Attributes:
        labels: the label space of the model.
        probabilities: task -> (C,) float64, summing to 1, in the order of the task's labels.
        truncated: whether the article was longer than the model reads, and its end was cut off.
    """

    labels: LabelSpace
    probabilities: Mapping[str, NDArray[np.float64]]
    truncated: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that were asked for."""
        return tuple(self.probabilities)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Task -> label -> probability, the best first."""
        return {task: dict(self.top(task)) for task in self.probabilities}

    def top(self, task: str, k: int | None = None) -> list[tuple[str, float]]:
        """The k best labels of a task with their probabilities, the best first; None means all."""
        if k is not None and k < 1:
            raise InputError(f"k is {k}; at least 1 label, or None for all")
        names, probabilities = self.labels[task].labels, self._of(task)
        # Stable: equal probabilities keep the order of the labels.
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(names[i], float(probabilities[i])) for i in order]

    def label(self, task: str) -> str:
        """The most probable label of a task."""
        return self.labels[task].labels[int(self._of(task).argmax())]

    def confidence(self, task: str) -> float:
        """The probability of the most probable label of a task."""
        return float(self._of(task).max())

    def to_json(self, k: int | None = None) -> dict[str, list[dict[str, Any]]]:
        """Task -> [{"label", "score"}], the k best (None: all), the best first, for JSON."""
        return {
            task: [{"label": label, "score": score} for label, score in self.top(task, k)]
            for task in self.probabilities
        }

    def _of(self, task: str) -> NDArray[np.float64]:
        self.labels[task]  # raises for a task that the model does not have
        try:
            return self.probabilities[task]
        except KeyError:
            raise InputError(
                f"task {task!r} was not asked for; asked for: {', '.join(self.probabilities)}"
            ) from None


class Classifier:
    """A student, ready to classify. Safe to use from several threads at once.

    Args:
        bundle: the model, verified.
        threads: threads to compute with; None means OMP_NUM_THREADS, or else a thread for each
            core that this process may use.

    Raises:
        BundleError: the graph or the tokenizer cannot be used, or does not fit the label space.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        self.bundle = bundle
        self.threads = _count_threads(threads)
        self._temperatures = dict(bundle.manifest.calibration)
        try:
            self._encoder = Encoder.from_file(bundle.tokenizer_path, bundle.manifest.encoding)
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"bundle {bundle.path}: tokenizer.json: {error}") from error
        self._session = _open_session(bundle)

    @classmethod
    def from_pretrained(
        cls, path: str | Path | None = None, *, threads: int | None = None
    ) -> Classifier:
        """Open a bundle.

        Args:
            path: a directory, or the id of a model on the Hugging Face hub ("owner/name"), which is
                downloaded once; a directory of that name comes first. None means the bundled model.
            threads: see `Classifier`.

        Raises:
            BundleError: there is no such bundle, or it is damaged.
            MissingExtraError: a hub id is given and huggingface_hub is not installed.
        """
        return cls(read_bundle(_find_bundle(path)), threads=threads)

    @property
    def labels(self) -> LabelSpace:
        """The tasks and their labels."""
        return self.bundle.manifest.label_space

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return self.labels.names

    @property
    def max_tokens(self) -> int:
        """The longest input, in tokens; the rest of an article is cut off."""
        return self.bundle.manifest.encoding.max_tokens

    def classify(
        self, articles: Sequence[Article | str], *, tasks: Sequence[str] | None = None
    ) -> list[Prediction]:
        """Classify articles: a list in, a list out, in the same order.

        Args:
            articles: articles or texts; the first line of a text is its headline.
            tasks: the tasks to answer; None means all.

        Raises:
            InputError: an article has no text, or something else than a list is given.
            LabelError: there is no such task.
        """
        if isinstance(articles, str | Article):
            kind = type(articles).__name__
            raise InputError(
                f"classify takes a list of articles, and a single {kind} was given; write "
                "classify([article])[0]"
            )
        return self._predict([_as_article(article) for article in articles], self._chosen(tasks))

    def classify_stream(
        self, articles: Iterable[Article | str], *, tasks: Sequence[str] | None = None
    ) -> Iterator[tuple[Article, Prediction]]:
        """Classify any number of articles in constant memory, in order, each with its article.

        Articles are taken from the source a window at a time, which lets those of like length be
        computed together: 256 at first, then, where that is quick, up to 4,096, of 16 million
        characters in all. Their answers come when the window is full or the source ends.
        Arguments and errors are those of `classify`.
        """
        chosen = self._chosen(tasks)
        source, size, first = map(_as_article, articles), FIRST_WINDOW_ARTICLES, 1
        while window := _take_window(source, size):
            began = time.monotonic()
            predictions = self._predict(window, chosen, first)
            if time.monotonic() - began < WINDOW_SECONDS:
                size = min(4 * size, WINDOW_ARTICLES)
            first += len(window)
            yield from zip(window, predictions, strict=True)

    def explain(
        self,
        article: Article | str,
        *,
        tasks: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        max_passes: int = MAX_PASSES,
    ) -> Explanation:
        """How each word of an article moves its probabilities, by leaving it out.

        One pass for the article and one for each word answer all tasks together, in batches.

        Args:
            article: an article or a text; the first line of a text is its headline.
            tasks: the tasks to explain; None means all.
            labels: task -> the label to explain; where there is none, the most probable one.
            max_passes: neighbouring words are taken together where there are more words than this.

        Raises:
            InputError: the article has no text, or `max_passes` is below 2: headline and body are
                never taken together.
            LabelError: there is no such task or label.
        """
        plan = self.plan_explanation(article, tasks=tasks, labels=labels, max_passes=max_passes)
        return self.finish_explanation(plan, self._logits(plan.ids, plan.tasks))

    def plan_explanation(
        self,
        article: Article | str,
        *,
        tasks: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        max_passes: int = MAX_PASSES,
    ) -> ExplanationPlan:
        """The first step of `explain`: all that has to be computed. Arguments and errors are its."""
        chosen = self._chosen(tasks)
        labels = labels or {}
        for task, label in labels.items():
            self.labels[task].index(label)
            if task not in chosen:
                raise InputError(f"a label is given for {task!r}; asked for: {', '.join(chosen)}")
        if max_passes < 2:
            raise InputError(f"max_passes is {max_passes}; at least 2")
        article = _as_article(article)
        read = self._encoder.read(article)
        words, owners, together = split_words(read, article, max_passes)
        ids = [read.ids, *occlude(read.ids, owners, len(words))]
        return ExplanationPlan(ids, chosen, words, labels, together, read.truncated)

    def finish_explanation(
        self, plan: ExplanationPlan, logits: Mapping[str, NDArray[np.float32]]
    ) -> Explanation:
        """The last step of `explain`, from the logits of `plan.ids` by task, (1 + W, C)."""
        found = self.calibrate(logits)
        return Explanation(
            labels=self.labels,
            words=plan.words,
            probabilities={task: found[task][0] for task in plan.tasks},
            without={task: found[task][1:] for task in plan.tasks},
            chosen={
                task: plan.labels.get(task, self.labels[task].labels[int(rows[0].argmax())])
                for task, rows in found.items()
            },
            words_together=plan.words_together,
            truncated=plan.truncated,
        )

    def logits(self, articles: Sequence[Article | str]) -> dict[str, NDArray[np.float32]]:
        """The model's raw answers by task, (N, C) float32, before calibration.

        Raises:
            InputError: an article has no text.
            BundleError: the model gives something that is not a number.
        """
        return self._logits(self.encode(articles).ids, self.tasks)

    def encode(self, articles: Sequence[Article | str]) -> EncodedArticles:
        """The first step of `classify`: the token ids of articles, in the same order.

        Raises:
            InputError: an article has no text.
        """
        return self._encoder.encode([_as_article(article) for article in articles])

    def run_batch(
        self, ids: Sequence[Sequence[int]], tasks: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """The second step: logits by task, (B, C), of B articles in one call of the model.

        A server that batches the articles of many requests by itself calls this; the answer to an
        article does not depend on the others of its batch.

        Args:
            ids: token ids of each article, as `encode` gives them; best of like length.
            tasks: the tasks to answer.

        Raises:
            BundleError: the model fails, or gives something that is not a number.
        """
        logits = dict(zip(tasks, self._run(ids, tasks), strict=True))
        for task, answer in logits.items():
            if not np.isfinite(answer).all():
                raise BundleError(
                    f"bundle {self.bundle.path}: the model's answer to task {task!r} is not a "
                    "number; it was not trained or exported well: use another bundle"
                )
        return logits

    def calibrate(
        self, logits: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float64]]:
        """The last step: probabilities by task, (B, C), from logits as `run_batch` gives them."""
        return {task: softmax(rows / self._temperatures[task]) for task, rows in logits.items()}

    def _chosen(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        if isinstance(tasks, str):
            raise InputError(f"tasks is the text {tasks!r}; give a list: [{tasks!r}]")
        return self.tasks if tasks is None else tuple(self.labels[task].name for task in tasks)

    def _predict(
        self, articles: Sequence[Article], tasks: tuple[str, ...], first: int = 1
    ) -> list[Prediction]:
        encoded = self._encoder.encode(articles, first=first)
        probabilities = self._probabilities(encoded.ids, tasks)
        return [
            Prediction(
                self.labels, {task: probabilities[task][row] for task in tasks}, bool(truncated)
            )
            for row, truncated in enumerate(encoded.truncated)
        ]

    def _probabilities(
        self, ids: Sequence[Sequence[int]], tasks: tuple[str, ...]
    ) -> dict[str, NDArray[np.float64]]:
        logits = self._logits(ids, tasks)
        return self.calibrate(logits)

    def _logits(
        self, ids: Sequence[Sequence[int]], tasks: tuple[str, ...]
    ) -> dict[str, NDArray[np.float32]]:
        logits = {
            task: np.empty((len(ids), len(self.labels[task].labels)), np.float32) for task in tasks
        }
        batches = _plan_batches([len(row) for row in ids], self.threads)

        def run(rows: NDArray[np.int64]) -> None:
            for task, answer in self.run_batch([ids[row] for row in rows], tasks).items():
                logits[task][rows] = answer

        with _executor(min(self.threads, len(batches))) as executor:
            # The longest batches come first, so that none of them is left over at the end.
            for _ in (executor.map if executor else map)(run, reversed(batches)):
                pass
        return logits

    def _run(self, ids: Sequence[Sequence[int]], tasks: Sequence[str]) -> list[NDArray[np.float32]]:
        input_ids, attention_mask = pad(ids, self._encoder.pad_id)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        try:
            return list(self._session.run(list(tasks), inputs))
        except Exception as error:  # onnxruntime's errors have no common base but Exception
            raise BundleError(
                f"bundle {self.bundle.path}: the model cannot compute {len(ids)} article(s) of "
                f"{input_ids.shape[1]} tokens: {error}"
            ) from error


def _as_article(article: Article | str) -> Article:
    if isinstance(article, str):
        return Article.from_text(article)
    if not isinstance(article, Article):
        raise InputError(
            f"an article is given as {type(article).__name__}; give an Article or a text"
        )
    return article


def _take_window(source: Iterator[Article], size: int) -> list[Article]:
    window, characters = [], 0
    for article in islice(source, size):
        window.append(article)
        characters += len(article.headline) + len(article.body)
        if characters >= WINDOW_CHARACTERS:
            break
    return window


def _find_bundle(path: str | Path | None) -> Path:
    if path is None:
        if not bundled_path().is_dir():
            raise BundleError(
                "this installation of Newsie brings no model; name a directory, or the id of a "
                "model on the Hugging Face hub"
            )
        return bundled_path()
    if str(path) and _is_directory(Path(path)):
        return Path(path)
    if isinstance(path, str) and _HUB_ID.fullmatch(path):
        return _download(path)
    raise BundleError(
        f"there is no model {str(path)!r}; allowed are a directory that holds a newsie.json, or "
        "the id of a model on the Hugging Face hub, written owner/name"
    )


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # longer than any name, or in a directory that may not be entered
        return False


def _download(hub_id: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(
            f"downloading the model {hub_id!r} (there is no directory of that name)",
            "huggingface_hub",
            "hub",
        ) from error
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.onnx", "README.md"]))
    except Exception as error:  # its errors and those of the connection have no other base
        raise BundleError(
            f"there is no directory {hub_id!r}, and the model of that name cannot be downloaded "
            f"from the Hugging Face hub: {error}"
        ) from error


def _open_session(bundle: Bundle) -> Any:
    # Imported here: it takes a tenth of a second, which reading a manifest should not cost.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # One thread a call. Several calls run at once, each on a batch of its own: faster than one
    # call on several threads, and one session serves them all.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Fusing more makes int8 graphs no faster and loading slower.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = onnxruntime.InferenceSession(
            str(bundle.model_path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        raise BundleError(f"bundle {bundle.path}: model.onnx: {error}") from error
    found = {output.name: output.shape[-1] for output in session.get_outputs()}
    wanted = {task.name: len(task.labels) for task in bundle.manifest.label_space.tasks}
    if found != wanted:
        raise BundleError(
            f"bundle {bundle.path}: the outputs of model.onnx (name: labels) are {found}, the "
            f"label space asks for {wanted}"
        )
    return session


def _plan_batches(lengths: Sequence[int], threads: int) -> list[NDArray[np.int64]]:
    """Rows of like length together, shortest first; each batch within a budget of tokens.

    The budget is smaller where there is little to do, so that every thread has something to do.
    """
    budget = min(MAX_BATCH_TOKENS, -(-sum(lengths) // threads))
    batches, start = [], 0
    order = np.argsort(lengths, kind="stable")
    for end, row in enumerate(order):
        if end > start and (end + 1 - start) * lengths[row] > budget:
            batches.append(order[start:end])
            start = end
    if start < len(order):
        batches.append(order[start:])
    return batches


def _count_threads(threads: int | None) -> int:
    if threads is None:
        given = os.environ.get("OMP_NUM_THREADS", "")
        if given.isdecimal() and int(given):
            return int(given)
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if threads < 1:
        raise InputError(f"threads is {threads}; at least 1, or None for all cores")
    return threads


@contextmanager
def _executor(threads: int) -> Iterator[Executor | None]:
    """Threads for the time of a call; None where one is enough."""
    if threads < 2:
        yield None
        return
    from concurrent.futures import ThreadPoolExecutor

    executor = ThreadPoolExecutor(threads, thread_name_prefix="newsie")
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
