"""The corpora of a recipe: read, cleaned, split and stored on disk for training and evaluation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from newsie.atomic import new_directory
from newsie.data.articles import Article
from newsie.data.cleaning import clean_text, learn_site_suffixes, strip_site_suffix
from newsie.data.duplicates import duplicate_groups
from newsie.data.splits import split_by_date, split_by_hash
from newsie.errors import FingerprintError, RecipeError
from newsie.labels import IGNORE, LabelSpace, Task
from newsie.training.config import DataConfig, TaskConfig
from newsie.training.fingerprints import digest
from newsie.training.progress import Progress
from newsie.training.sources import FIELDS, data_fingerprint, read_sources
from newsie.training.store import Workspace, stage

__all__ = ["Corpora", "DataSource", "load_corpora", "prepare_corpora", "read_corpora"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DataSource:
    """The data files of a recipe and the folder that holds them.

    Attributes:
        config: the corpora and tasks.
        root: the folder of the corpora.
    """

    config: DataConfig
    root: Path

    def fingerprint(self) -> str:
        """Return a digest of the files and of all settings that affect how they are read."""
        return data_fingerprint(self.config, self.root)


@dataclass(frozen=True)
class Corpora:
    """Memory-mapped articles on disk.

    Attributes:
        directory: the folder of the articles.
        labels: the tasks, with the labels that have enough articles.
        site_suffixes: outlets' names at the end of headlines, learnt from the training articles.
        splits: "train", "validation" and "test", each a `datasets.Dataset` with the fields of an article,
            `corpus`, and a column `label:TASK` for each task.
        report: counts of what was read and dropped, and why.
    """

    directory: Path
    labels: LabelSpace
    site_suffixes: tuple[str, ...]
    splits: dict[str, Any]
    report: dict[str, Any]

    def fingerprint(self) -> str:
        """Return a digest of the articles and of the suffixes removed from their headlines."""
        return digest(self.directory.name, self.site_suffixes)

    def articles(self, split: str) -> Iterable[Article]:
        """Yield the articles of a split, in order."""
        names = self.labels.names
        for row in self.splits[split]:
            labels = {n: row[f"label:{n}"] for n in names if row[f"label:{n}"] is not None}
            yield Article(**{field: row[field] for field in FIELDS}, labels=labels)

    @property
    def summary(self) -> str:
        """The number of articles in each split, as a line of text."""
        train, validation, test = (len(self.splits[split]) for split in SPLITS)
        copies = sum(self.report["duplicates_dropped"].values())
        return (
            f"{train:,} articles to learn from, {validation:,} to choose and calibrate on, {test:,} to "
            f"measure on; {copies:,} duplicates left out"
        )

    def corpus_names(self, split: str) -> list[str]:
        """Return the name of each article's corpus, (N,)."""
        return cast(list[str], list(self.splits[split]["corpus"]))

    def targets(self, split: str) -> dict[str, NDArray[np.int64]]:
        """Return the class indices by task, (N,); IGNORE where an article has no label."""
        result = {}
        for task in self.labels.tasks:
            index = {label: i for i, label in enumerate(task.labels)} | {None: IGNORE}
            result[task.name] = np.array(
                [index[label] for label in self.splits[split][f"label:{task.name}"]], np.int64
            )
        return result


def prepare_corpora(
    config: DataConfig,
    root: Path,
    directory: Path,
    *,
    say: Callable[[str], None],
    seed: int = 0,
    labels: LabelSpace | None = None,
    learnt_whole: Collection[str] = (),
    test_once: bool = False,
) -> Corpora:
    """Read, clean, deduplicate and split the articles, and write them to a new directory.

    Duplicates among test articles are kept, unless `test_once`. Training articles that duplicate a test
    article are dropped, so that no article is in two splits. The report counts all dropped articles.

    Args:
        config: the corpora and tasks.
        root: the folder of the corpora.
        directory: the folder to write, which must not exist.
        say: called with lines that report progress.
        seed: the seed of the splits, and of the sample of a limited corpus.
        labels: the label space; None builds one from the labels of the training articles.
        learnt_whole: corpora used entirely for training; none of their articles is held out.
        test_once: keep only the first of several duplicate test articles.

    Raises:
        RecipeError: a file is missing, a task has fewer than two labels left, or a split has no articles.
        ReadError: a file cannot be read or, with `config.strict`, a row.
    """
    report: dict[str, Any] = {"corpora": {}}
    articles, given, corpora = read_sources(config, root, report, say, seed)
    groups = _find_duplicates(articles, config.near_duplicates, say)
    assigned = _assign_splits(config, articles, given, corpora, groups, learnt_whole, seed)
    kept = {name: _first_of_group(assigned == name, groups) for name in SPLITS}
    if not test_once:
        kept["test"] = np.flatnonzero(assigned == "test")
    report["duplicates_dropped"] = {
        name: int((assigned == name).sum()) - len(kept[name]) for name in SPLITS
    } | {"shared_with_test": int((assigned == "").sum())}
    if labels is None:
        labels = build_label_space(config.tasks, [articles[i] for i in kept["train"]], report)
        for task, rare in report["dropped_labels"].items():
            some = ", ".join(f"{label} ({count})" for label, count in Counter(rare).most_common(10))
            say(
                f"task {task}: {len(rare):,} label(s) left out, of fewer than min_count articles: {some}"
            )
    report["unseen_labels"] = _unseen_labels(labels, [articles[i] for i in kept["test"]])
    suffixes = learn_site_suffixes(
        [articles[i].headline for i in kept["train"]],
        [articles[i].publisher for i in kept["train"]],
    )
    report["articles"] = {name: len(rows) for name, rows in kept.items()}
    if empty := [name for name, rows in kept.items() if not len(rows)]:
        raise RecipeError(
            f"no articles are left for {' and '.join(empty)}: {report['articles']}; give more articles, or "
            "raise data.validation or data.held_out"
        )
    with new_directory(directory) as aside:
        for name, rows in kept.items():
            _dataset([articles[i] for i in rows], [corpora[i] for i in rows], labels).save_to_disk(
                str(aside / name)
            )
        content = {"labels": labels.to_json(), "site_suffixes": suffixes, "report": report}
        (aside / "corpora.json").write_text(
            json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8"
        )
    written = load_corpora(directory)
    say(written.summary)
    return written


def load_corpora(directory: Path) -> Corpora:
    """Open what `prepare_corpora` wrote, memory-mapped."""
    from datasets import load_from_disk

    try:
        content = json.loads((directory / "corpora.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FingerprintError(
            f"{directory} holds no prepared articles; delete it: {error}"
        ) from error
    return Corpora(
        directory,
        LabelSpace.from_json(content["labels"]),
        tuple(content["site_suffixes"]),
        {name: load_from_disk(str(directory / name)) for name in SPLITS},
        content["report"],
    )


@stage("data", opens=load_corpora)
def read_corpora(
    work: Workspace,
    source: DataSource,
    seed: int,
    *,
    labels: LabelSpace | None = None,
    learnt_whole: Sequence[str] = (),
    test_once: bool = False,
    quiet: bool = False,
) -> None:
    """Read, clean and split the articles of a recipe; see `prepare_corpora`. `quiet` reports no progress."""
    prepare_corpora(
        source.config,
        source.root,
        work.folder,
        say=(lambda _text: None) if quiet else work.store.say,
        seed=seed,
        labels=labels,
        learnt_whole=learnt_whole,
        test_once=test_once,
    )


def build_label_space(
    tasks: Sequence[TaskConfig], articles: Sequence[Article], report: dict[str, Any]
) -> LabelSpace:
    """Return the tasks with all labels that have at least `min_count` articles, in alphabetical order.

    Tasks that read the same column with the same merges and drops share one label set, so that their
    predictions can be compared label by label.
    """

    def key(task: TaskConfig) -> tuple[str, dict[str, str], set[str]]:
        return task.rule.column, task.merge, set(task.drop)

    counts = {task.name: Counter(a.labels.get(task.name) for a in articles) for task in tasks}
    report["dropped_labels"] = {}
    built = []
    for task in tasks:
        siblings = [t for t in tasks if key(t) == key(task)]
        total: Counter[str] = Counter()
        for sibling in siblings:
            # Siblings may share articles, so counts are not added up.
            for label, count in counts[sibling.name].items():
                if label is not None and count >= sibling.min_count:
                    total[label] = max(total[label], count)
        rare = {label: n for label, n in counts[task.name].items() if label and label not in total}
        if rare:
            report["dropped_labels"][task.name] = rare
        if len(total) < 2:
            found = [pair for pair in counts[task.name].most_common(6) if pair[0]][:5]
            raise RecipeError(
                f"task {task.name!r} has {len(total)} label(s) with at least {task.min_count} articles "
                f"each in column {task.rule.column!r}, whose labels are "
                f"{', '.join(f'{n} ({c:,})' for n, c in found) or 'none at all'}; it needs 2. Check the "
                "column and `where`, or lower min_count"
            )
        built.append(Task(task.name, tuple(sorted(total)), task.rule))
    return LabelSpace(tuple(built))


def _unseen_labels(labels: LabelSpace, articles: Sequence[Article]) -> dict[str, dict[str, int]]:
    """Return the counts of labels that are not in the label space; their articles stay, unlabelled."""
    unseen = {
        task.name: Counter(a.labels[task.name] for a in articles if task.name in a.labels)
        for task in labels.tasks
    }
    for task in labels.tasks:
        for label in task.labels:
            del unseen[task.name][label]
    return {task: dict(counts) for task, counts in unseen.items() if counts}


def _find_duplicates(
    articles: Sequence[Article], threshold: float, say: Callable[[str], None]
) -> NDArray[np.int64]:
    """Return each article's group of duplicates, (N,), ignoring outlets' names at the end of headlines."""
    # These suffixes are learnt from test articles too, but serve only to compare headlines.
    suffixes = frozenset(
        learn_site_suffixes([a.headline for a in articles], [a.publisher for a in articles])
    )
    compared = [
        replace(a, headline=strip_site_suffix(clean_text(a.headline), suffixes)) for a in articles
    ]
    say(f"looking for duplicates among {len(articles):,} articles")
    with Progress("duplicates", len(articles)) as progress:
        groups = duplicate_groups(
            compared,
            threshold=threshold,
            progress=lambda done, total: progress.advance(done - progress.done),
        )
        progress.advance(len(articles) - progress.done)  # short ones and exact copies, not compared
    return groups


def _assign_splits(
    config: DataConfig,
    articles: Sequence[Article],
    given: NDArray[np.str_],
    corpora: Sequence[str],
    groups: NDArray[np.int64],
    learnt_whole: Collection[str],
    seed: int,
) -> NDArray[np.str_]:
    """Return the split of each article, (N,); "" for a training article that duplicates a test article."""
    keys = [article.id or str(i) for i, article in enumerate(articles)]
    part = split_by_hash(
        keys,
        {"validation": config.validation, "train": 1 - config.validation},
        seed=seed,
        groups=groups,
    )
    held_out = split_by_hash(
        keys, {"test": config.held_out, "train": 1 - config.held_out}, seed=seed + 1, groups=groups
    )
    names = np.array(corpora)
    test = given == "test"
    for corpus in config.corpora:
        own = np.flatnonzero(names == corpus.name)
        if corpus.test_from:
            dates = [articles[int(i)].published for i in own]
            test[own] = split_by_date(dates, {"train": corpus.test_from, "test": None}) == "test"
        elif corpus.name in learnt_whole:
            others = groups[~np.isin(names, list(learnt_whole))]  # duplicates stay in one split
            part[own[~np.isin(groups[own], others)]] = "train"
        elif not corpus.test:
            test[own] = held_out[own] == "test"
    split = np.where(test, "test", part)
    return np.where(~test & np.isin(groups, groups[test]), "", split)


def _first_of_group(chosen: NDArray[np.bool_], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of the chosen articles, one per group of duplicates."""
    rows = np.flatnonzero(chosen)
    _, first = np.unique(groups[rows], return_index=True)
    return rows[np.sort(first)]


def _dataset(articles: Sequence[Article], corpora: Sequence[str], labels: LabelSpace) -> Any:
    from datasets import Dataset, Features, Value

    columns: dict[str, list[str | None]] = {
        field: [getattr(article, field) for article in articles] for field in FIELDS
    }
    columns["corpus"] = list(corpora)
    for task in labels.tasks:
        known = set(task.labels)
        given = [article.labels.get(task.name) for article in articles]
        columns[f"label:{task.name}"] = [label if label in known else None for label in given]
    return Dataset.from_dict(
        columns, features=Features({name: Value("string") for name in columns})
    )
