"""Articles to measure on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from benchmarks.processes import ROOT
from newsie.data.articles import Article
from newsie.data.readers import ArticleReader
from newsie.data.writers import open_writer

__all__ = ["article_files", "endless_articles", "take_articles", "write_articles", "write_texts"]

SAMPLE = ROOT / "data" / "sample" / "articles.jsonl"


def article_files(data: Path | None) -> list[Path]:
    """The files of the corpus newsapi in a data folder; without one, the project's sample."""
    if data is None:
        return [SAMPLE]
    return [data / "newsapi" / f"{split}.parquet" for split in ("test", "train")]


def take_articles(files: Sequence[Path], count: int) -> list[Article]:
    """The first articles of the files, again from the start when they are used up. Ids are new."""
    articles = islice(endless_articles(files), count)
    return [Article(a.headline, a.body, id=f"a{n}") for n, a in enumerate(articles)]


def endless_articles(files: Sequence[Path]) -> Iterator[Article]:
    """The articles of the files, again and again."""
    while True:
        for file in files:
            reader = ArticleReader(file)
            yield from reader
            if reader.rows == len(reader.problems):
                raise RuntimeError(f"{file} holds no article")


def write_articles(articles: Sequence[Article], path: Path) -> Path:
    """A file that `newsie classify --file` reads."""
    with open_writer(path) as writer:
        for article in articles:
            writer.write({"id": article.id, "headline": article.headline, "body": article.body})
    return path


def write_texts(articles: Sequence[Article], path: Path) -> Path:
    """A JSON list of the articles' texts, for the peers."""
    texts = [f"{article.headline}\n{article.body}".strip() for article in articles]
    path.write_text(json.dumps(texts), encoding="utf-8")
    return path
