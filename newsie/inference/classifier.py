"""The classifier: articles in, predictions out, on a CPU and without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle, open_bundle
from newsie.bundles.hub import find_bundle
from newsie.bundles.manifest import TOKENIZER
from newsie.data.articles import Article, as_article, check_articles
from newsie.data.encoding import EncodedArticles, Encoder
from newsie.errors import BundleError, InputError
from newsie.inference.cascade import Cascade, PassedOn, open_model
from newsie.inference.prediction import Prediction
from newsie.inference.student import Running, count_threads, preload_onnxruntime
from newsie.labels import LabelSpace
from newsie.metrics.evaluation import softmax

if TYPE_CHECKING:
    from newsie.inference.explanation import Explanation, ExplanationPlan

__all__ = ["Classifier"]

WINDOW_CHARACTERS = 16_000_000
"""The characters that fill a window: it ends with the article that reaches this. Bounds memory use."""

FIRST_WINDOW_ARTICLES = 256
"""The number of articles in the first window of a stream, small so that the first predictions come early."""

MAX_PASSES = 128
"""The most passes of an explanation: words of a longer article are grouped to bound its cost."""


class Classifier:
    """A student or a cascade of two, ready to classify. Safe to use from several threads at once.

    Args:
        bundle: the model. Each of its files is read once, and verified.
        threads: threads to compute with; None means OMP_NUM_THREADS, or else one thread for each core that
            this process may use.

    Raises:
        BundleError: the graph or the tokenizer cannot be used, or does not fit the label space.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        self.bundle = bundle
        self.threads = count_threads(threads)
        self._temperatures = dict(bundle.manifest.calibration)
        loading = Thread(
            target=preload_onnxruntime
        )  # runs while files are hashed, without Python's lock
        loading.start()
        try:
            contents = bundle.contents()
        finally:
            loading.join()
        try:
            self._encoder = Encoder.from_text(contents[TOKENIZER], bundle.manifest.encoding)
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"bundle {bundle.path}: tokenizer.json: {error}") from error
        pad_id = self._encoder.pad_id
        self._model = open_model(bundle, contents, pad_id=pad_id, threads=self.threads)

    @classmethod
    def from_pretrained(
        cls, path: str | Path | None = None, *, threads: int | None = None
    ) -> Classifier:
        """Open a bundle.

        Args:
            path: a directory, or the id of a model on the Hugging Face hub ("owner/name"), which is
                downloaded once. A directory of that name takes precedence. None means the bundled model.
            threads: see `Classifier`.

        Raises:
            BundleError: there is no such bundle, or it is damaged.
            MissingExtraError: a hub id is given and huggingface_hub is not installed.
        """
        return cls(open_bundle(find_bundle(path)), threads=threads)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the folder of the bundle, which is opened again; see `_reopen`."""
        return _reopen, (str(self.bundle.path.resolve()), self.threads, self.bundle.fingerprint)

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

    @property
    def passed_on(self) -> PassedOn | None:
        """The number of articles that a cascade passed on to its larger student; None without a cascade."""
        return self._model.passed_on if isinstance(self._model, Cascade) else None

    def classify(
        self, articles: Sequence[Article | str], *, tasks: Sequence[str] | None = None
    ) -> list[Prediction]:
        """Classify articles and return their predictions as a list in the same order.

        Args:
            articles: articles or texts; the first line of a text is its headline.
            tasks: the tasks to predict; None means all.

        Raises:
            InputError: an article has no text, something other than articles or texts is given (a table, a
                dict), or `tasks` is empty.
            LabelError: there is no such task.
        """
        pairs = self.classify_stream(articles, tasks=tasks)
        return [prediction for _, prediction in pairs]

    def classify_stream(
        self, articles: Iterable[Article | str], *, tasks: Sequence[str] | None = None
    ) -> Iterator[tuple[Article, Prediction]]:
        """Classify any number of articles in constant memory, yielding each with its prediction, in order.

        The articles and predictions are those of `classify_windows`, one at a time.
        Arguments and errors are those of `classify`; predictions of windows before an error come first.
        """
        return _flatten(self.classify_windows(articles, tasks=tasks))

    def classify_windows(
        self,
        articles: Iterable[Article | str],
        *,
        tasks: Sequence[str] | None = None,
        done: int = 0,
    ) -> Iterator[list[tuple[Article, Prediction]]]:
        """Classify any number of articles in constant memory, in order, a window at a time.

        A window is a run of articles that are sorted by length and computed together. While one window is
        being computed, the next one is read and encoded. A window is yielded as soon as its predictions are
        ready and the source has given one more article, or has ended.

        Windows depend on the articles alone, never on the clock. The first window has 256 articles; each
        later one has as many as all before it together, up to a limit that the model sets (1,024 for most,
        4,096 for the fastest). A window ends early with the article that fills 16 million characters.

        So the last digits of the probabilities, which depend on what is computed together, are the same in
        every run. A run that was stopped between two windows can be continued: give the remaining articles
        and the number that is `done`, and the predictions are equal, bit for bit, to those of a run that was
        not stopped. This holds for the same bundle, number of threads, runtime and kind of processor.

        Args:
            articles: articles or texts, as for `classify`.
            tasks: the tasks to predict; None means all.
            done: the number of articles of the same source that are already classified: all those of the
                windows yielded before. Error messages also count articles from the start of the source.

        Raises:
            InputError: an article has no text, or `done` is negative, or no task is given.
            LabelError: there is no such task.
        """
        check_articles(articles, "classify")
        if done < 0:
            raise InputError(f"done is {done}; it is a number of articles, 0 or more")
        source = _Source(
            map(as_article, articles, count(done + 1)), done, self._model.window_articles
        )
        return self._windows(source, self._chosen(tasks))

    def _windows(
        self, source: _Source, tasks: tuple[str, ...]
    ) -> Iterator[list[tuple[Article, Prediction]]]:
        running: _Window | None = None
        following: _Window | None = None
        try:
            while running is not None or not source.ended:
                try:
                    full = source.fill(running)
                    following = self._start(source, tasks) if full else None
                except Exception:
                    if running is not None:
                        yield self._finish(running)
                    raise
                if running is not None:
                    yield self._finish(running)
                running = following
        finally:
            for window in (running, following):
                if window is not None:
                    window.logits.cancel()

    def _start(self, source: _Source, tasks: tuple[str, ...]) -> _Window | None:
        """Start computing the buffered articles. Return None if there are none."""
        first, articles = source.take()
        if not articles:
            return None
        encoded = self._encoder.encode(articles, first=first)
        return _Window(articles, encoded.truncated, self._model.start(encoded.ids, tasks))

    def _finish(self, window: _Window) -> list[tuple[Article, Prediction]]:
        """Wait for the predictions of a window; return each article with its prediction."""
        probabilities = self.calibrate(window.logits.result())
        predictions = [
            Prediction(
                self.labels,
                # Copied, because a view would keep the predictions of all others in memory.
                {task: rows[index].copy() for task, rows in probabilities.items()},
                bool(truncated),
            )
            for index, truncated in enumerate(window.truncated)
        ]
        return list(zip(window.articles, predictions, strict=True))

    def explain(
        self,
        article: Article | str,
        *,
        tasks: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        max_passes: int = MAX_PASSES,
    ) -> Explanation:
        """Explain how each word of an article moves its probabilities, by leaving it out.

        The article and each variant without a word take one pass for all tasks together, in batches.

        Args:
            article: an article or a text; the first line of a text is its headline.
            tasks: the tasks to explain; None means all.
            labels: task -> the label to explain; by default the most probable one.
            max_passes: the most passes; neighbouring words are grouped to keep to it.

        Raises:
            InputError: the article has no text, or `max_passes` is below 2: headline and body are never
                grouped.
            LabelError: there is no such task or label.
        """
        plan = self.plan_explanation(article, tasks=tasks, labels=labels, max_passes=max_passes)
        return self.finish_explanation(plan, self._model.run(plan.ids, plan.tasks))

    def plan_explanation(
        self,
        article: Article | str,
        *,
        tasks: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        max_passes: int = MAX_PASSES,
    ) -> ExplanationPlan:
        """Return all that has to be computed: the first step of `explain`, with its arguments and errors."""
        # Imported here and below, because explaining is rare and each start would pay for it.
        from newsie.inference.explanation import ExplanationPlan, occlude, split_words

        chosen = self._chosen(tasks)
        labels = labels or {}
        for task, label in labels.items():
            self.labels[task].index(label)
            if task not in chosen:
                raise InputError(f"a label is given for {task!r}; asked for: {', '.join(chosen)}")
        if max_passes < 2:
            raise InputError(f"max_passes is {max_passes}; at least 2")
        article = as_article(article, 1)
        read = self._encoder.read(article)
        words, owners, together = split_words(read, article, max_passes)
        ids = [read.ids, *occlude(read.ids, owners, len(words))]
        return ExplanationPlan(ids, chosen, words, labels, together, read.truncated)

    def finish_explanation(
        self, plan: ExplanationPlan, logits: Mapping[str, NDArray[np.float32]]
    ) -> Explanation:
        """Return the explanation from the logits of `plan.ids`, (1 + W, C): the last step of `explain`."""
        from newsie.inference.explanation import Explanation

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
        """Return the model's logits by task, (N, C) float32, before calibration.

        Raises:
            InputError: an article has no text.
            BundleError: the model returns NaN or infinity.
        """
        return self._model.run(self.encode(articles).ids, self.tasks)

    def encode(self, articles: Sequence[Article | str], *, first: int = 1) -> EncodedArticles:
        """Return the token ids of articles, in the same order: the first step of `classify`.

        Args:
            articles: articles or texts; the first line of a text is its headline.
            first: number of the first article in error messages.

        Raises:
            InputError: an article has no text.
        """
        check_articles(articles, "encode")
        return self._encoder.encode(list(map(as_article, articles, count(first))), first=first)

    def run_batch(
        self, ids: Sequence[Sequence[int]], tasks: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Return logits by task, (B, C), of B articles in one model call: the second step of `classify`.

        Call this in a server that batches the articles of many requests itself. The prediction for an article
        does not depend on the others of its batch.

        Args:
            ids: token ids of each article, as `encode` returns them, ideally of similar length.
            tasks: the tasks to predict.

        Raises:
            BundleError: the model fails, or returns NaN or infinity.
        """
        return self._model.run_batch(ids, tasks)

    def calibrate(
        self, logits: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return probabilities by task, (B, C), from logits of `run_batch`: the last step of `classify`."""
        return {task: softmax(rows / self._temperatures[task]) for task, rows in logits.items()}

    def _chosen(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        if isinstance(tasks, str):
            raise InputError(f"tasks is the text {tasks!r}; give a list: [{tasks!r}]")
        if tasks is None:
            return self.tasks
        chosen = tuple(self.labels[task].name for task in tasks)
        if not chosen:
            raise InputError("tasks is empty; give at least one, or None for all")
        return chosen


class _Window(NamedTuple):
    """A window: articles that are computed together.

    Attributes:
        articles: N articles.
        truncated: (N,) bool, see `EncodedArticles`.
        logits: their logits, while being computed.
    """

    articles: list[Article]
    truncated: NDArray[np.bool_]
    logits: Running


class _Source:
    """The articles of a stream, taken a window at a time.

    Args:
        articles: the articles.
        done: number of articles of the stream that were classified before.
        limit: the most articles of a window.
    """

    def __init__(self, articles: Iterable[Article], done: int, limit: int) -> None:
        self._articles = iter(articles)
        self._taken, self._limit = done, limit
        self._held: list[Article] = []
        self._characters = 0
        self.ended = False

    def fill(self, until: _Window | None) -> bool:
        """Read a window. Return False if it is not full yet but the predictions of `until` are ready."""
        size = min(max(self._taken, FIRST_WINDOW_ARTICLES), self._limit)
        while not self.ended and len(self._held) < size and self._characters < WINDOW_CHARACTERS:
            if until is not None and until.logits.done():
                return False
            if article := next(self._articles, None):
                self._held.append(article)
                self._characters += len(article.headline) + len(article.body)
            else:
                self.ended = True
        return True

    def take(self) -> tuple[int, list[Article]]:
        """Return the articles that were read, and the number of the first one in the stream."""
        first, held = self._taken + 1, self._held
        self._taken += len(held)
        self._held, self._characters = [], 0
        return first, held


def _reopen(path: str, threads: int, fingerprint: str) -> Classifier:
    """Open a classifier that was pickled or copied.

    Raises:
        BundleError: its folder no longer holds a bundle, or holds another one.
    """
    bundle = open_bundle(path)
    if bundle.fingerprint != fingerprint:
        raise BundleError(
            f"bundle {path} is {bundle.fingerprint} now; the classifier that was pickled or copied was of "
            f"{fingerprint}, which has been replaced: open the new one with Classifier.from_pretrained"
        )
    return Classifier(bundle, threads=threads)


def _flatten(
    windows: Iterator[list[tuple[Article, Prediction]]],
) -> Iterator[tuple[Article, Prediction]]:
    # A generator, unlike itertools.chain, can be closed, which stops the computation.
    for window in windows:
        yield from window
