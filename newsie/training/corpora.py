"""From the files that a recipe names to articles on disk, ready to train on and to measure with."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from newsie.atomic import new_directory
from newsie.data.articles import Article
from newsie.data.cleaning import clean_text, learn_site_suffixes, strip_site_suffix
from newsie.data.duplicates import duplicate_groups
from newsie.data.readers import ArticleReader
from newsie.data.splits import split_by_date, split_by_hash
from newsie.errors import FingerprintError, RecipeError
from newsie.labels import IGNORE, LabelRule, LabelSpace, Task
from newsie.training.config import DataConfig, TaskConfig
from newsie.training.progress import Progress

__all__ = ["Corpora", "data_fingerprint", "load_corpora", "prepare_corpora"]

SPLITS = ("train", "validation", "test")
FIELDS = ("id", "headline", "body", "publisher", "published", "url")
DESCRIPTIONS = ("origin", "terms", "limits")
"""What CorpusConfig says to people; the articles are the same whatever it is."""

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
SUBSTITUTE = "\x1a"
"""Unicode's character in place of one that is damaged; `clean_text` treats it as it treats the half of a
surrogate pair, so that a model is shown the same text."""


@dataclass(frozen=True)
class Corpora:
    """Articles on disk, memory-mapped.

    Attributes:
        directory: where they are.
        labels: the tasks, with the labels that have enough articles.
        site_suffixes: outlets' names at the end of headlines, learnt from the training articles.
        splits: "train", "validation" and "test", each a `datasets.Dataset` with the fields of an article,
            `corpus`, and a column `label:TASK` for each task.
        report: what was read, dropped and why.
    """

    directory: Path
    labels: LabelSpace
    site_suffixes: tuple[str, ...]
    splits: dict[str, Any]
    report: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the directory, which holds the fingerprint of the articles."""
        return self.directory.name

    def articles(self, split: str) -> Iterable[Article]:
        """The articles of a split, in order."""
        names = self.labels.names
        for row in self.splits[split]:
            labels = {n: row[f"label:{n}"] for n in names if row[f"label:{n}"] is not None}
            yield Article(**{field: row[field] for field in FIELDS}, labels=labels)

    def corpus_names(self, split: str) -> list[str]:
        """(N,) name of the corpus of each article."""
        return cast(list[str], list(self.splits[split]["corpus"]))

    def targets(self, split: str) -> dict[str, NDArray[np.int64]]:
        """(N,) class index by task, IGNORE where there is none."""
        result = {}
        for task in self.labels.tasks:
            index = {label: i for i, label in enumerate(task.labels)} | {None: IGNORE}
            result[task.name] = np.array(
                [index[label] for label in self.splits[split][f"label:{task.name}"]], np.int64
            )
        return result


def data_fingerprint(config: DataConfig, root: Path) -> str:
    """Hex digest of all that decides the prepared articles: of the recipe, and the bytes of its files.

    What only weighs articles and tasks while a model is fitted is left out. Of a hub dataset the name
    counts and not the content, which is not looked at: delete the folder to read a changed one again.
    """
    content = asdict(config)
    del content["sampling_temperature"]
    for corpus in content["corpora"]:
        for name in DESCRIPTIONS:
            del corpus[name]
    for task in content["tasks"]:
        del task["weight"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for source in config.corpora:
        for name in filter(None, (source.train, source.test)):
            if name.startswith("hub:"):
                continue
            path = find_file(root, name)
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def find_file(root: Path, name: str) -> Path:
    """A corpus file in the data folder."""
    path = root / name
    if not path.exists():
        raise RecipeError(
            f"the recipe wants {name}, which is not in the data folder {root}; name the folder with "
            "--data or the environment variable NEWSIE_DATA"
        )
    return path


def prepare_corpora(
    config: DataConfig, root: Path, directory: Path, *, say: Callable[[str], None], seed: int = 0
) -> Corpora:
    """Read, clean, drop duplicates, split, and write everything to a new directory.

    Test articles stay as they are; training articles that duplicate one are dropped, so that no article is
    in two splits. The report counts everything that was left out.

    Raises:
        RecipeError: a file is missing, a task is left with fewer than two labels, or a split with no
            articles.
        ReadError: a file cannot be read; with `config.strict` also a row.
    """
    report: dict[str, Any] = {"corpora": {}}
    articles, given, corpora = _read_all(config, root, report, say, seed)
    groups = _find_duplicates(articles, config.near_duplicates, say)
    assigned = _assign_splits(config, articles, given, corpora, groups, seed)
    kept = {name: _first_of_group(assigned == name, groups) for name in ("train", "validation")}
    kept["test"] = np.flatnonzero(assigned == "test")
    report["duplicates_dropped"] = {
        name: int((assigned == name).sum()) - len(kept[name]) for name in SPLITS
    } | {"shared_with_test": int((assigned == "").sum())}
    labels = build_label_space(config.tasks, [articles[i] for i in kept["train"]], report)
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
    say(f"kept {report['articles']}; {report['duplicates_dropped']} duplicates left out")
    with new_directory(directory) as aside:
        for name, rows in kept.items():
            _dataset([articles[i] for i in rows], [corpora[i] for i in rows], labels).save_to_disk(
                str(aside / name)
            )
        content = {"labels": labels.to_json(), "site_suffixes": suffixes, "report": report}
        (aside / "corpora.json").write_text(
            json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8"
        )
    return load_corpora(directory)


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


def build_label_space(
    tasks: Sequence[TaskConfig], articles: Sequence[Article], report: dict[str, Any]
) -> LabelSpace:
    """The tasks with all labels that have at least `min_count` articles, in alphabetical order.

    Tasks that read the same column with the same merges and drops share one label set, so that their
    answers can be compared label by label.
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
            # The same article may answer several siblings, so the largest count is what there is.
            for label, count in counts[sibling.name].items():
                if label is not None and count >= sibling.min_count:
                    total[label] = max(total[label], count)
        rare = {label: n for label, n in counts[task.name].items() if label and label not in total}
        if rare:
            report["dropped_labels"][task.name] = rare
        if len(total) < 2:
            raise RecipeError(
                f"task {task.name!r} has {len(total)} label(s) with at least {task.min_count} articles "
                f"each in column {task.rule.column!r}: {dict(counts[task.name].most_common(5))}; it needs "
                "2. Check the column and `where`, or lower min_count"
            )
        built.append(Task(task.name, tuple(sorted(total)), task.rule))
    return LabelSpace(tuple(built))


def _unseen_labels(labels: LabelSpace, articles: Sequence[Article]) -> dict[str, dict[str, int]]:
    """Labels of the given articles that no task holds, with their counts; the articles stay, unlabelled."""
    unseen = {
        task.name: Counter(a.labels[task.name] for a in articles if task.name in a.labels)
        for task in labels.tasks
    }
    for task in labels.tasks:
        for label in task.labels:
            del unseen[task.name][label]
    return {task: dict(counts) for task, counts in unseen.items() if counts}


@dataclass(frozen=True)
class _WatchedRule(LabelRule):
    """A rule that knows which labels it merges or drops have not been met in any row: misspelt ones.

    Attributes:
        unmet: the labels that have not.
    """

    unmet: set[str] = field(default_factory=set)

    def label(self, row: Mapping[str, str]) -> str | None:
        self.unmet.discard(row.get(self.column, "").strip())
        return super().label(row)


def _watch(rule: LabelRule) -> _WatchedRule:
    labels = {*rule.merge, *rule.drop}
    return _WatchedRule(rule.column, rule.where, rule.merge, rule.drop, labels)


def _read_all(
    config: DataConfig, root: Path, report: dict[str, Any], say: Callable[[str], None], seed: int
) -> tuple[list[Article], NDArray[np.str_], list[str]]:
    """All articles; (N,) the split of the file that each comes from; and N names of corpora."""
    articles: list[Article] = []
    splits: list[str] = []
    corpora: list[str] = []
    rules = {task.name: _watch(task.rule) for task in config.tasks}
    for corpus in config.corpora:
        asked = {
            t.name: rules[t.name]
            for t in config.tasks
            if corpus.name in (t.corpora or [corpus.name])
        }
        for split, name in (("train", corpus.train), ("test", corpus.test)):
            if not name:
                continue
            source = name if name.startswith("hub:") else find_file(root, name)
            reader = ArticleReader(
                source, columns=corpus.columns, rules=asked, strict=config.strict
            )
            found = [_storable(article) for article in reader]
            _report_reading(f"{corpus.name}/{split}", reader, report, say)
            if split == "train":
                found = _sample(found, corpus.limit, seed)
            report["corpora"][f"{corpus.name}/{split}"]["articles"] = len(found)
            articles += found
            splits += [split] * len(found)
            corpora += [corpus.name] * len(found)
    report["unmet_labels"] = {t: sorted(rule.unmet) for t, rule in rules.items() if rule.unmet}
    for task, unmet in report["unmet_labels"].items():
        say(
            f"task {task}: merge or drop names {unmet}, which no row has in column "
            f"{rules[task].column!r}; check the spelling"
        )
    return articles, np.array(splits), corpora


def _sample(articles: list[Article], limit: int, seed: int) -> list[Article]:
    """At most `limit` of the articles, chosen at random, in their order; 0 means all."""
    if not 0 < limit < len(articles):
        return articles
    chosen = np.random.default_rng(seed).permutation(len(articles))[:limit]
    return [articles[i] for i in sorted(chosen)]


def _report_reading(
    name: str, reader: ArticleReader, report: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Say and record what a reader found in a file, and what it did not."""
    count = reader.rows - len(reader.problems)
    key, name = name, name.replace("/", " ")
    say(f"{name}: {count:,} articles; {reader.columns.describe()}")
    if reader.problems:
        say(reader.problems.summary())
    for task, column in reader.missing_rules.items():
        say(f"{name}: no column {column!r}, so nothing answers the task {task}")
    for task, column in reader.empty_rules.items():
        say(f"{name}: no row gives the task {task} a label; check column {column!r} and `where`")
    report["corpora"][key] = {
        "rows": reader.rows,
        "problems": dict(reader.problems.counts),
        "missing_columns": reader.missing_rules,
        "without_labels": reader.empty_rules,
    }


def _storable(article: Article) -> Article:
    """The article without halves of surrogate pairs, which UTF-8 cannot hold.

    JSON can name them alone. In what a model reads they are substituted, elsewhere escaped, so that
    different ids stay different.
    """
    texts = [getattr(article, field) or "" for field in FIELDS]
    whole = "".join([*texts, *article.labels.values()])
    if whole.isascii() or not LONE_SURROGATE.search(whole):
        return article
    return Article(
        headline=LONE_SURROGATE.sub(SUBSTITUTE, article.headline),
        body=LONE_SURROGATE.sub(SUBSTITUTE, article.body),
        id=_escape(article.id),
        publisher=_escape(article.publisher),
        published=_escape(article.published or "") or None,
        url=_escape(article.url),
        labels={task: _escape(label) for task, label in article.labels.items()},
    )


def _escape(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _find_duplicates(
    articles: Sequence[Article], threshold: float, say: Callable[[str], None]
) -> NDArray[np.int64]:
    """(N,) group of each article. Copies may differ in the outlet's name at the end of the headline."""
    # Learnt from test articles too, to compare with and not to train with.
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
    seed: int,
) -> NDArray[np.str_]:
    """(N,) the split of each article; "" for a training article that duplicates a test article."""
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
        elif not corpus.test:
            test[own] = held_out[own] == "test"
    split = np.where(test, "test", part)
    return np.where(~test & np.isin(groups, groups[test]), "", split)


def _first_of_group(chosen: NDArray[np.bool_], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the chosen articles, one of each group of duplicates."""
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
