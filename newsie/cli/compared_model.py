"""The other side of `newsie confusion --against`: a bundle, the teacher of a run, or a prediction file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from newsie.cli.answered import Answerer
from newsie.cli.sources import is_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from newsie.data.articles import Article
    from newsie.data.records import Row
    from newsie.inference.prediction import Prediction

__all__ = ["AnswerFile", "Other", "open_other"]

Scores = Mapping[str, Mapping[str, float]]  # task -> label -> probability


class Other(NamedTuple):
    """Another model or its predictions: the display name, the fingerprint, and the source of predictions."""

    name: str
    fingerprint: str
    answerer: Answerer


def open_other(given: str) -> Other:
    """Open a file of predictions, a folder of `newsie train` (its teacher), or a bundle.

    Raises:
        ReadError: the file is missing or holds no predictions.
        InputError: the run is not finished.
        BundleError: it is none of these.
        MissingExtraError: a teacher is named and a package for training is not installed.
    """
    if is_file(given):
        with Path(given).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return Other(Path(given).name, digest, AnswerFile(Path(given)))
    if any(Path(given).glob("teacher-*/model")):
        from newsie.cli.training import quiet_training_libraries

        quiet_training_libraries("asking a teacher")
        from newsie.training.teacher_predictor import open_teacher

        teacher = open_teacher(Path(given))
        return Other("teacher", teacher.fingerprint, teacher)
    from newsie.data.formats import SUFFIXES
    from newsie.errors import ReadError
    from newsie.inference.classifier import Classifier

    if Path(given).suffix.lower() in SUFFIXES and not Path(given).exists():
        raise ReadError(given, "there is no such file")
    classifier = Classifier.from_pretrained(given)
    return Other(classifier.bundle.manifest.name, classifier.bundle.fingerprint, classifier)


class AnswerFile:
    """Predictions for the articles of a file, in its order, as written by `newsie classify -o FILE.jsonl`.

    Each row has `predictions`, task -> [{"label", "score"}] of all labels, and optionally `id` and
    `headline`.

    Attributes:
        labels: the tasks of the first row, with labels in alphabetical order.

    Raises:
        ReadError: the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        from newsie.data.formats import open_records
        from newsie.data.readers import MAX_FIELD_CHARS
        from newsie.errors import ReadError
        from newsie.labels import LabelSpace, Task

        self.path = path
        self._records = open_records(path, max_field_chars=MAX_FIELD_CHARS)
        with closing(self._rows()) as rows:
            number, _, first = next(rows)  # opening the file has found one
        for task, scores in first.items():
            if len(scores) < 2:
                reason = f"it gives {task} {len(scores)} label(s) {list(scores)}; {_ALL}"
                raise ReadError(path, reason, row=number, column="predictions")
        self.labels = LabelSpace(tuple(Task(task, tuple(sorted(first[task]))) for task in first))

    def classify_stream(
        self, articles: Iterable[Article], *, tasks: Sequence[str] | None = None
    ) -> Iterator[tuple[Article, Prediction]]:
        """Yield the articles, each with its prediction from the file.

        Raises:
            ReadError: a row is about another article, has other labels than the first row, or holds no
                probabilities.
            InputError: the numbers of articles and rows differ.
        """
        from newsie.errors import InputError
        from newsie.inference.prediction import Prediction

        count, names = 0, tasks or self.labels.names
        with closing(self._rows()) as rows:
            for count, article in enumerate(articles, 1):
                number, row, scores = next(rows, (0, {}, {}))
                if not number:
                    raise InputError(f"{self.path} answers {count - 1:,} articles only; {_SAME}")
                self._check(article, row, number)
                found = {task: self._of(task, scores, number) for task in names}
                yield article, Prediction(self.labels, found, truncated=False)
            if next(rows, None) is not None:
                raise InputError(f"{self.path} answers more than the {count:,} articles; {_SAME}")

    def _rows(self) -> Generator[tuple[int, Row, Scores], None, None]:
        from newsie.data.records import BadRow
        from newsie.errors import ReadError

        records = self._records.read(("id", "headline", "predictions"))
        # Generators keep a file open.
        with closing(records) if isinstance(records, Generator) else nullcontext():
            for number, row in records:
                if isinstance(row, BadRow):
                    raise ReadError(self.path, str(row), row=number, column=row.column)
                yield number, row, self._scores(row, number)

    def _scores(self, row: Row, number: int) -> Scores:
        from newsie.errors import ReadError

        try:
            return {
                task: {str(answer["label"]): float(answer["score"]) for answer in answers}
                for task, answers in json.loads(row.get("predictions", "")).items()
            }
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            reason = (
                'must hold {"TASK": [{"label": ..., "score": ...}, ...]}, as  newsie classify '
                "--file FILE -o answers.jsonl  writes"
            )
            raise ReadError(self.path, reason, row=number, column="predictions") from error

    def _check(self, article: Article, row: Row, number: int) -> None:
        from newsie.errors import ReadError

        pairs = ((row.get("id"), article.id), (row.get("headline"), article.headline))
        told = [(given, wanted) for given, wanted in pairs if given]
        if told and all(given != wanted for given, wanted in told):
            reason = (
                f"it answers {told[0][0][:60]!r}, and the article is {told[0][1][:60]!r}; {_SAME}"
            )
            raise ReadError(self.path, reason, row=number)

    def _of(self, task: str, scores: Scores, number: int) -> NDArray[np.float64]:
        """Return the probabilities of a row, (C,)."""
        import numpy as np

        from newsie.confusion.predictions import fault_of
        from newsie.errors import ReadError

        labels, given = self.labels[task].labels, scores.get(task, {})
        if given.keys() != set(labels):
            reason = (
                f"it gives {task} the labels {', '.join(sorted(given)) or '(none)'}, and the first row "
                f"{', '.join(labels)}; {_ALL}"
            )
            raise ReadError(self.path, reason, row=number, column="predictions")
        found = np.array([given[label] for label in labels])
        if fault := fault_of(found):
            reason = f"the scores of {task} {fault}; give probabilities, not logits"
            raise ReadError(self.path, reason, row=number, column="predictions")
        return found


_ALL = "give all labels in every row: classify without --top-k"
_SAME = "give answers to the same articles, in the same order"
