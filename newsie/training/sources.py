"""Reading of a recipe's data files, with a report of problems."""

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
"""The descriptive fields of CorpusConfig, which do not affect the articles."""

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
SUBSTITUTE = "\x1a"
"""The Unicode control character for a damaged character. `clean_text` treats it like a lone surrogate, so
that a model sees the same text."""


def data_fingerprint(config: DataConfig, root: Path) -> str:
    """Return a hex digest of the inputs of the prepared articles: recipe settings and file contents.

    Settings that only weight articles and tasks during fitting are left out. A hub dataset is identified by
    its name and not by its content: delete the folder to read a changed dataset again.
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
    """Return the path of a corpus file in the data folder. Raise RecipeError if it does not exist."""
    path = root / name
    if not path.exists():
        raise RecipeError(
            f"the recipe wants {name}, which is not in the data folder {root}; name the folder with "
            "--data or the environment variable NEWSIE_DATA"
        )
    return path


@dataclass(frozen=True)
class _WatchedRule(LabelRule):
    """A rule that records the merged or dropped labels that occur in no row and so may be misspelt.

    Attributes:
        unmet: the labels that have not occurred yet.
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
    """Read all N articles. Return them, the split of each one's file, (N,), and each one's corpus name."""
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
    """Return at most `limit` of the articles, chosen at random, in their order; 0 means all."""
    if not 0 < limit < len(articles):
        return articles
    chosen = np.random.default_rng(seed).permutation(len(articles))[:limit]
    return [articles[i] for i in sorted(chosen)]


def _report_reading(
    name: str, reader: ArticleReader, report: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Print and record the articles, problems and missing labels that a reader met in a file."""
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
    """Return the article without lone surrogates, which UTF-8 cannot encode.

    JSON can contain them as escapes. They are replaced in headline and body, and escaped elsewhere, so that
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
