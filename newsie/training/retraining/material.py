"""What is learnt from and measured on: the given files, read once and put into one form.

The form is that of a corpus of a recipe, so that the pipeline cleans, splits and encodes it as it does
all others. Which articles are held out depends on their ids or, without ids, on their texts alone:
the same article is a test article whenever the file is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from newsie.atomic import new_directory
from newsie.bundle import Bundle
from newsie.data.articles import Article
from newsie.data.readers import ArticleReader
from newsie.data.writers import open_writer
from newsie.doctor.names import spellings
from newsie.errors import InputError, ReadError
from newsie.labels import LabelRule, LabelSpace
from newsie.training.config import CorpusConfig, DataConfig, TaskConfig
from newsie.training.retraining.questions import (
    MIN_ARTICLES,
    Question,
    extend_labels,
    find_questions,
)
from newsie.training.sources import FIELDS

__all__ = ["Material", "Sources", "gather_material"]

FEW_ARTICLES = 500
"""Below this, more of the articles are held out to calibrate on: a tenth would be a handful."""

HELD_OUT = 0.2
OWN = "the newsroom's own"
ORIGINS = {
    "file": "Articles with labels that it was retrained on.",
    "replay": "Old articles with their labels, so that old tasks are not unlearnt.",
    "unlabelled": "Articles without labels.",
}
"""For the model card."""

GOLD = "gold:"
"""Before the names of the columns of gold labels, which may be called as fields of articles."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """The files that a retraining is given.

    Attributes:
        file: articles with gold labels; rows without are used as text.
        tasks: columns of labels, as COLUMN or TASK=COLUMN; empty means those with a usual name.
        columns: field of the article -> column, where the names do not tell.
        mapping: label in the file -> label of the task.
        replay: files with articles of the tasks that the base has, with their gold labels.
        unlabelled: files with articles whose labels, if any, are not looked at.
        test: a file to measure on; without one, a share of `file` is held out.
    """

    file: Path
    tasks: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    mapping: Mapping[str, str] = field(default_factory=dict)
    replay: Sequence[Path] = ()
    unlabelled: Sequence[Path] = ()
    test: Path | None = None

    def fingerprint(self) -> str:
        """Hex digest of all that decides what is learnt: the bytes of the files, and how they are read."""
        options = [list(self.tasks), dict(self.columns), dict(self.mapping)]
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for role, path in self._files():
            digest.update(f"\0{role} {path.name}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def check(self) -> None:
        """Raise ReadError where a file is not there, or is no file."""
        for _, path in self._files():
            if not path.is_file():
                raise ReadError(path, "there is no such file")

    def _files(self) -> Iterator[tuple[str, Path]]:
        """(what it is for, file)"""
        yield "file", self.file
        yield from (("replay", path) for path in self.replay)
        yield from (("unlabelled", path) for path in self.unlabelled)
        if self.test is not None:
            yield "test", self.test


@dataclass(frozen=True)
class Material:
    """What is learnt from, on disk.

    Attributes:
        directory: of the files; its name holds the fingerprint of the sources.
        questions: the tasks that the file answers.
        labels: the base's label space, extended.
        data: the files and tasks as a recipe names them.
    """

    directory: Path
    questions: Sequence[Question]
    labels: LabelSpace
    data: DataConfig

    @property
    def labelled(self) -> int:
        """Labelled articles of the task that has the most."""
        return max(question.articles for question in self.questions)


def gather_material(sources: Sources, base: Bundle, directory: Path, *, say: Say) -> Material:
    """Read the given files, and write what is in them beside each other.

    Args:
        sources: the files.
        base: the bundle that is retrained.
        directory: where a folder for the material is made, or found where it is complete.
        say: told what was found, in lines for people.

    Raises:
        ReadError, LabelError, InputError: see `find_questions`; or the test file has other labels.
    """
    sources.check()
    space = base.manifest.label_space
    questions = find_questions(
        sources.file, space, tasks=sources.tasks, columns=sources.columns, mapping=sources.mapping
    )
    for question in questions:
        for line in _describe(question):
            say(line)
    labels = extend_labels(space, questions)
    identity = hashlib.sha256(f"{sources.fingerprint()}{space.fingerprint()}".encode())
    target = directory / f"material-{identity.hexdigest()[:12]}"
    if not target.exists():
        with new_directory(target) as aside:
            _write(sources, questions, space, labels, aside, say)
    return Material(target, questions, labels, _data_config(target, questions, labels))


def _describe(question: Question) -> Iterator[str]:
    """What is done with it, and what may not be meant so, in lines for people."""
    yield question.describe()
    if question.rare:
        rare = ", ".join(f"{label} ({n})" for label, n in list(question.rare.items())[:8])
        yield f"  left out, fewer than {MIN_ARTICLES} articles: {rare}"
    if twice := spellings({**question.counts, **question.rare}):
        pairs = ", ".join(f"{a!r} beside {b!r}" for a, b in list(twice.items())[:8])
        yield (
            f"  a label in several spellings: {pairs}. newsie doctor FILE --fix OUT writes them alike, "
            "as does --map theirs=ours"
        )


def _write(
    sources: Sources,
    questions: Sequence[Question],
    space: LabelSpace,
    labels: LabelSpace,
    target: Path,
    say: Say,
) -> None:
    own = {question.name: question.rule for question in questions}
    kept = {task.name: frozenset(task.labels) for task in labels.tasks}
    usual = {task.name: task.rule or LabelRule(task.name) for task in space.tasks}
    file = ArticleReader(sources.file, columns=sources.columns, rules=own)
    say(f"{sources.file}: {file.columns.describe()}")
    answered = {"file": _copy([file], kept, target / "file.jsonl")}
    if summary := file.problems.summary():
        say(summary)
    if sources.test is not None:
        test = ArticleReader(sources.test, columns=sources.columns, rules={**usual, **own})
        answered["test"] = _copy([test], kept, target / "test.jsonl")
        _check_test(sources.test, test, questions, answered["test"], say)
    if sources.replay:
        old = [ArticleReader(path, rules=usual) for path in sources.replay]
        answered["replay"] = _copy(old, kept, target / "replay.jsonl")
        _check_replay(old, answered["replay"])
    if sources.unlabelled:
        texts = [ArticleReader(path) for path in sources.unlabelled]
        answered["unlabelled"] = _copy(texts, kept, target / "unlabelled.jsonl")
    (target / "answered.json").write_text(json.dumps(answered), encoding="utf-8")


def _copy(
    readers: Sequence[ArticleReader], kept: Mapping[str, frozenset[str]], target: Path
) -> dict[str, dict[str, int]]:
    """Write the articles of some files into one; returns task -> label -> number of articles."""
    counts: dict[str, dict[str, int]] = {}
    with open_writer(target) as writer:
        for reader in readers:
            for article in reader:
                row = {name: getattr(article, name) or "" for name in FIELDS}
                row["id"] = article.id or _digest(article)
                for task, label in article.labels.items():
                    found = counts.setdefault(task, {})
                    if label in kept[task]:
                        found[label] = found.get(label, 0) + 1
                        row[GOLD + task] = label
                writer.write(row)
    return counts


def _digest(article: Article) -> str:
    """An id for an article that has none: the same text is the same article."""
    text = f"{article.headline}\0{article.body}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def _check_test(
    path: Path,
    reader: ArticleReader,
    questions: Sequence[Question],
    answered: Mapping[str, Mapping[str, int]],
    say: Say,
) -> None:
    for question in questions:
        found = answered.get(question.name, {})
        missing = sorted(set(question.counts) - set(found))
        if not found:
            raise ReadError(
                path,
                f"no row has a label of the task {question.name!r} that is learnt "
                f"({', '.join(list(question.counts)[:8])}); train and test need the same labels. Its "
                f"columns: {', '.join(reader.column_names)}. Name the column as in the other file, use "
                "--map theirs=ours, or leave --test out: a fifth of the file is then held out",
                column=question.rule.column,
            )
        if missing:
            say(f"task {question.name}: not measured, not in {path}: {', '.join(missing[:8])}")


def _check_replay(
    readers: Sequence[ArticleReader], answered: Mapping[str, Mapping[str, int]]
) -> None:
    if not any(answered.values()):
        reader = readers[0]
        raise InputError(
            f"{reader.path} has no gold label of the tasks that the base has: its columns are "
            f"{', '.join(reader.column_names)}. Give old articles with their labels, or use "
            "--unlabelled for text alone"
        )


def _data_config(target: Path, questions: Sequence[Question], labels: LabelSpace) -> DataConfig:
    """The material as a recipe describes it."""
    answered: dict[str, dict[str, dict[str, int]]] = json.loads(
        (target / "answered.json").read_text(encoding="utf-8")
    )
    test = "test.jsonl" if "test" in answered else ""
    corpora = [
        CorpusConfig(
            name,
            f"{name}.jsonl",
            test if name == "file" else "",
            origin=origin,
            terms=OWN,
        )
        for name, origin in ORIGINS.items()
        if name in answered
    ]
    labelled = {task for tasks in answered.values() for task, found in tasks.items() if found}
    tasks = [
        TaskConfig(task.name, column=GOLD + task.name, min_count=1)
        for task in labels.tasks
        if task.name in labelled
    ]
    few = max(question.articles for question in questions) < FEW_ARTICLES
    return DataConfig(corpora, tasks, validation=0.25 if few else 0.1, held_out=HELD_OUT)
