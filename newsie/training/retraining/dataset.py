"""The dataset of a retraining: the given files, read once and written in one form.

The form is that of a recipe's corpus, so the pipeline cleans, splits and encodes it like any other. The
held-out articles are chosen by their ids or, without ids, by their texts alone, so an article that is a test
article stays one each time the file is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from newsie.atomic import new_directory
from newsie.bundles.bundle import Bundle
from newsie.data.articles import Article
from newsie.data.columns import find_column
from newsie.data.folders import find_texts
from newsie.data.formats import is_stream, open_records
from newsie.data.label_names import combined_labels, placeholders, spellings
from newsie.data.readers import MAX_FIELD_CHARS, ArticleReader
from newsie.data.writers import open_writer
from newsie.errors import InputError, ReadError
from newsie.labels import LabelRule, LabelSpace
from newsie.printable import one_line
from newsie.training.config import CorpusConfig, DataConfig, TaskConfig
from newsie.training.retraining.label_columns import (
    MIN_ARTICLES,
    Question,
    extend_labels,
    find_questions,
)
from newsie.training.sources import FIELDS

__all__ = ["UNLABELLED", "Material", "Sources", "gather_material"]

FEW_ARTICLES = 500
"""Below this number a larger share is held out for calibration, since a tenth would be only a handful."""

HELD_OUT = 0.2
MAX_OTHER = 0.05
"""The share of the labelled test articles that may have a label that is not learnt."""

OWN = "the newsroom's own"
UNLABELLED = "unlabelled"
ORIGINS = {
    "file": "Articles with labels that it was retrained on.",
    "replay": "Old articles with their labels, so that old tasks are not unlearnt.",
    UNLABELLED: "Articles without labels.",
}
"""Descriptions of the corpora for the model card."""

GOLD = "gold:"
"""The prefix of columns with gold labels, since a task may have the name of an article's field."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """The input files of a retraining; each may be a folder of texts by label.

    Attributes:
        file: articles with gold labels; rows without a label are used as text.
        tasks: columns of labels, as COLUMN or TASK=COLUMN; empty means those with a usual name.
        columns: field of the article -> column, for columns without a usual name.
        mapping: label in the file -> label of the task.
        replay: files of articles with gold labels of the base's tasks.
        unlabelled: files of articles whose labels, if any, are ignored.
        test: the test file; without one, a share of `file` is held out.
    """

    file: Path
    tasks: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    mapping: Mapping[str, str] = field(default_factory=dict)
    replay: Sequence[Path] = ()
    unlabelled: Sequence[Path] = ()
    test: Path | None = None

    def fingerprint(self) -> str:
        """Return a hex digest of the bytes of the files and of the options to read them with."""
        options = [list(self.tasks), dict(self.columns), dict(self.mapping)]
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for role, path in self._files():
            for part in find_texts(path) if path.is_dir() else [path]:
                name = part.relative_to(path.parent).as_posix()  # in a folder, the label is in it
                digest.update(f"\0{role} {name}\0".encode())
                with part.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def check(self) -> None:
        """Raise ReadError unless every file exists and can be read more than once."""
        for _, path in self._files():
            if is_stream(path):
                name = "stdin" if str(path) == "-" else path
                raise ReadError(name, "retraining reads a file more than once; save and name it")
            if not (path.is_file() or path.is_dir()):
                raise ReadError(path, "there is no such file")

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield the role and the path of each file."""
        yield "file", self.file
        yield from (("replay", path) for path in self.replay)
        yield from (("unlabelled", path) for path in self.unlabelled)
        if self.test is not None:
            yield "test", self.test


@dataclass(frozen=True)
class Material:
    """The dataset of a retraining, on disk.

    Attributes:
        directory: folder of the files; its name holds the fingerprint of the sources.
        questions: the tasks that the file has gold labels for.
        labels: the base's label space, extended.
        data: the files and tasks in the form of a recipe.
    """

    directory: Path
    questions: Sequence[Question]
    labels: LabelSpace
    data: DataConfig

    @property
    def labelled(self) -> int:
        """The number of labelled articles of the task that has the most."""
        return max(question.articles for question in self.questions)


def gather_material(sources: Sources, base: Bundle, directory: Path, *, say: Say) -> Material:
    """Read the given files, and write their articles into one folder.

    Args:
        sources: the files.
        base: the bundle that is retrained.
        directory: parent of the dataset's folder, which is reused if it is complete.
        say: called with lines of progress.

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
    answered = _answered(target)
    for question in questions:
        found = {
            x for role in ("file", "replay") for x in answered.get(role, {}).get(question.name, {})
        }
        if lacking := [label for label in question.known if label not in found]:
            say(
                f"task {question.name}: no articles of {', '.join(lacking)} to learn from; what the old "
                "student answers is kept there. Old articles with these labels (--replay FILE) keep it "
                "better, and show it"
            )
    return Material(target, questions, labels, _data_config(answered, questions, labels))


def _answered(target: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Return role of a file -> task -> label -> number of articles."""
    content: dict[str, dict[str, dict[str, int]]] = json.loads(
        (target / "answered.json").read_text(encoding="utf-8")
    )
    return content


def _describe(question: Question) -> Iterator[str]:
    """Yield lines that describe a task and warn of labels that look like mistakes."""
    yield question.describe()
    if question.rare:
        rare = ", ".join(f"{label} ({n})" for label, n in list(question.rare.items())[:8])
        yield one_line(f"  left out, fewer than {MIN_ARTICLES} articles: {rare}")
    if combined := combined_labels({**question.counts, **question.rare}, question.known):
        yield (
            f"  {combined.describe()}. A task has one label for each article, so each combination counts "
            "as a label of its own; keep one label in each cell, or call it another: --map OLD=NEW"
        )
    if empty := placeholders(question.counts):
        yield (
            f"  learnt as labels, though they read like none: {_some(empty)}; if they are none, leave "
            "these cells empty"
        )
    if twice := spellings({**question.counts, **question.rare}):
        pairs = ", ".join(f"{a!r} beside {b!r}" for a, b in list(twice.items())[:8])
        yield (
            f"  a label in several spellings: {pairs}. newsie doctor FILE --fix OUT writes them alike, "
            "as does --map theirs=ours"
        )
    for line in question.doubtful:
        yield f"  {line}"


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
    # Rare labels are left out, even known ones: almost no article counts for them, and all others against.
    enough = {**kept, **{q.name: kept[q.name] - set(q.rare) for q in questions}}
    answered = {"file": _copy([file], enough, target / "file.jsonl").learnt}
    if summary := file.problems.summary():
        say(summary)
    if sources.test is not None:
        test = _open(sources.test, sources.columns, {**usual, **own})
        copied = _copy([test], kept, target / "test.jsonl")
        answered["test"] = copied.learnt
        _check_test(sources.test, test, questions, copied, say)
    if sources.replay:
        old = [_open(path, sources.columns, usual) for path in sources.replay]
        copied = _copy(old, kept, target / "replay.jsonl")
        answered["replay"] = copied.learnt
        _check_replay(old, answered["replay"])
        for task, other in copied.other.items():
            say(f"task {task}: labels of --replay that are not learnt: {_some(other)}")
    if sources.unlabelled:
        texts = [_open(path, sources.columns, {}) for path in sources.unlabelled]
        answered["unlabelled"] = _copy(texts, kept, target / "unlabelled.jsonl").learnt
    (target / "answered.json").write_text(json.dumps(answered), encoding="utf-8")


def _open(path: Path, columns: Mapping[str, str], rules: Mapping[str, LabelRule]) -> ArticleReader:
    """Return a reader of a file other than the main one; options for columns that it lacks are ignored."""
    names = open_records(path, max_field_chars=MAX_FIELD_CHARS).columns
    there = {name: column for name, column in columns.items() if find_column(names, column)}
    return ArticleReader(path, columns=there, rules=rules)


@dataclass(frozen=True)
class _Copied:
    """The number of articles by task and label: for labels that are learnt, and for others."""

    learnt: dict[str, dict[str, int]]
    other: dict[str, dict[str, int]]


def _copy(
    readers: Sequence[ArticleReader], kept: Mapping[str, frozenset[str]], target: Path
) -> _Copied:
    """Write the articles of some files into one."""
    counts: dict[str, dict[str, int]] = {}
    others: dict[str, dict[str, int]] = {}
    with open_writer(target) as writer:
        for reader in readers:
            for article in reader:
                row = {name: getattr(article, name) or "" for name in FIELDS}
                row["id"] = article.id or _digest(article)
                for task, label in article.labels.items():
                    found = counts.setdefault(task, {})
                    if label in kept[task]:
                        row[GOLD + task] = label
                    else:
                        found = others.setdefault(task, {})
                    found[label] = found.get(label, 0) + 1
                writer.write(row)
    return _Copied(counts, others)


def _digest(article: Article) -> str:
    """Return an id for an article without one, which depends on its text alone."""
    text = f"{article.headline}\0{article.body}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def _check_test(
    path: Path,
    reader: ArticleReader,
    questions: Sequence[Question],
    copied: _Copied,
    say: Say,
) -> None:
    for question in questions:
        found = copied.learnt.get(question.name, {})
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
        _check_other(path, question, found, copied.other.get(question.name, {}), say)


def _check_other(
    path: Path, question: Question, found: Mapping[str, int], other: Mapping[str, int], say: Say
) -> None:
    """Report test articles whose label is not learnt, and raise ReadError if they are more than a few."""
    lost = sum(other.values())
    if not lost:
        return
    total = lost + sum(found.values())
    text = (
        f"{lost:,} of the {total:,} articles with a label of the task {question.name!r} have one that is "
        f"not learnt: {_some(other)}"
    )
    if lost > MAX_OTHER * total:
        raise ReadError(
            path,
            f"{text}. They would not be measured; train and test need the same labels: use --map "
            "theirs=ours, take these rows out, or give more articles of these labels to learn from",
            column=question.rule.column,
        )
    say(f"{path}: {text}; they are not measured")


def _some(counts: Mapping[str, int]) -> str:
    """Return the labels with their numbers of articles, most frequent first, as text."""
    first = sorted(counts.items(), key=lambda item: -item[1])[:8]
    more = f" and {len(counts) - 8:,} more" if len(counts) > 8 else ""
    return ", ".join(f"{label} ({n:,})" for label, n in first) + more


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


def _data_config(
    answered: Mapping[str, Mapping[str, Mapping[str, int]]],
    questions: Sequence[Question],
    labels: LabelSpace,
) -> DataConfig:
    """Return the dataset in the form of a recipe."""
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
