"""The articles of the files that a recipe names, and what was found while reading them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.data.readers import ArticleReader
from newsie.errors import RecipeError
from newsie.labels import LabelRule
from newsie.training.config import DataConfig

__all__ = ["FIELDS", "data_fingerprint", "find_file", "read_sources"]

FIELDS = ("id", "headline", "body", "publisher", "published", "url")
DESCRIPTIONS = ("origin", "terms", "limits")
"""What CorpusConfig says to people; the articles are the same whatever it is."""

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
SUBSTITUTE = "\x1a"
"""Unicode's character in place of one that is damaged; `clean_text` treats it as it treats the half of a
surrogate pair, so that a model is shown the same text."""


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


def read_sources(
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
