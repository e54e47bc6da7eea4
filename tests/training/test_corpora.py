from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from newsie.data.articles import Article
from newsie.data.encoding import view_text
from newsie.errors import FingerprintError, InputError, ReadError, RecipeError
from newsie.labels import IGNORE
from newsie.training.config import DataConfig, recipe_from
from newsie.training.corpora import Corpora, load_corpora, prepare_corpora
from newsie.training.sources import data_fingerprint
from tests.tiny import tiny_articles


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows_of(count: int, seed: int = 0) -> list[dict[str, str]]:
    return [
        {
            "id": a.id,
            "headline": a.headline,
            "body": f"{a.body} {a.id}",
            "section": a.labels["section"],
        }
        for a in tiny_articles(count, seed, answered=1.0)
    ]


def config(**data: Any) -> DataConfig:
    corpora = [{"name": "tiny", "train": "train.jsonl", "test": "test.jsonl"}]
    content = {"corpora": corpora, "tasks": [{"name": "section", "min_count": 5}]} | data
    return recipe_from({"name": "test", "data": content}).data


def prepare(directory: Path, config: DataConfig, said: list[str] | None = None) -> Corpora:
    lines: list[str] = [] if said is None else said
    return prepare_corpora(config, directory, directory / "prepared", say=lines.append)


def ids(corpora: Corpora, split: str) -> list[str]:
    return [article.id for article in corpora.articles(split)]


def test_splits_share_nothing_and_lose_nothing(tmp_path: Path) -> None:
    train, test = rows_of(300), rows_of(60, seed=1)
    copy = {**test[0], "id": "copy"}  # a training article that is also in test
    twin = {**train[0], "id": "twin"}
    write(tmp_path / "train.jsonl", [*train, copy, twin])
    write(tmp_path / "test.jsonl", test)
    corpora = prepare(tmp_path, config(validation=0.2))
    assert ids(corpora, "test") == [row["id"] for row in test]
    rest = ids(corpora, "train") + ids(corpora, "validation")
    assert sorted(rest) == sorted(row["id"] for row in train)
    assert 30 < len(ids(corpora, "validation")) < 90
    assert corpora.report["duplicates_dropped"]["shared_with_test"] == 1
    assert sum(corpora.report["duplicates_dropped"].values()) == 2


def test_copies_that_were_edited_or_signed_are_in_one_split(tmp_path: Path) -> None:
    train, test = rows_of(300), rows_of(60, seed=1)
    for row in (*train[:40], *test[:40]):
        row["headline"] += " - Sky News"
        row["publisher"] = "Sky News"
    signed = {**train[100], "headline": test[0]["headline"].removesuffix(" - Sky News")}
    signed |= {"id": "signed", "body": test[0]["body"]}
    words = "one long lede of many words that differ from each other as ledes of newspapers do here"
    test[50]["body"] = f"{words} {words.upper()[::-1]}"
    near = {**test[50], "id": "near", "headline": test[50]["headline"] + " again"}
    write(tmp_path / "train.jsonl", [*train, signed, near])
    write(tmp_path / "test.jsonl", test)
    corpora = prepare(tmp_path, config(validation=0.2))
    rest = ids(corpora, "train") + ids(corpora, "validation")
    assert sorted(rest) == sorted(row["id"] for row in train)
    assert corpora.report["duplicates_dropped"]["shared_with_test"] == 2
    assert corpora.site_suffixes == ("Sky News",)
    assert next(iter(corpora.articles("test"))).headline.endswith(" - Sky News")


def test_near_duplicates_share_a_split_that_is_drawn(tmp_path: Path) -> None:
    rows = rows_of(200)
    for row in rows[:100]:
        row["body"] = f"{row['body']} {' '.join(row['id'] + str(i) for i in range(20))}"
    copies = [
        {**row, "id": f"{row['id']}-copy", "body": row["body"] + " more"} for row in rows[:100]
    ]
    write(tmp_path / "train.jsonl", [*rows, *copies])
    only = config(corpora=[{"name": "tiny", "train": "train.jsonl"}], validation=0.3, held_out=0.3)
    corpora = prepare(tmp_path, only)
    where = {i: split for split in corpora.splits for i in ids(corpora, split)}
    assert {row["id"] for row in rows} <= where.keys()
    both = [row["id"] for row in rows[:100] if f"{row['id']}-copy" in where]
    assert all(where[i] == where[f"{i}-copy"] == "test" for i in both)
    assert both  # test articles stay as they are, copies and all


def test_a_corpus_without_a_test_file_holds_articles_out(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(300))
    only = config(corpora=[{"name": "tiny", "train": "train.jsonl"}], held_out=0.2)
    corpora = prepare(tmp_path, only)
    everything = [i for split in corpora.splits for i in ids(corpora, split)]
    assert sorted(everything) == sorted(row["id"] for row in rows_of(300))
    assert 30 < len(ids(corpora, "test")) < 90


def test_a_corpus_is_split_by_date(tmp_path: Path) -> None:
    rows = rows_of(200)
    for number, row in enumerate(rows):
        row["published"] = f"2024-0{1 + number % 4}-15"
    write(tmp_path / "train.jsonl", rows)
    only = config(corpora=[{"name": "tiny", "train": "train.jsonl", "test_from": "2024-04-01"}])
    corpora = prepare(tmp_path, only)
    assert {a.published for a in corpora.articles("test")} == {"2024-04-15"}
    assert len(ids(corpora, "test")) == 50
    assert max(a.published or "" for a in corpora.articles("train")) < "2024-04"


def test_a_split_by_date_needs_dates(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(50))
    only = config(corpora=[{"name": "tiny", "train": "train.jsonl", "test_from": "2024-04-01"}])
    with pytest.raises(InputError, match=r"has no date; needed: ISO 8601"):
        prepare(tmp_path, only)


def test_rare_and_unseen_labels_are_unlabelled_and_reported(tmp_path: Path) -> None:
    train, test = rows_of(200), rows_of(20, seed=1)
    train[0]["section"] = "chess"  # fewer than min_count
    test[0]["section"] = "gardening"  # never seen in training
    train[1]["section"] = ""
    write(tmp_path / "train.jsonl", train)
    write(tmp_path / "test.jsonl", test)
    said: list[str] = []
    corpora = prepare(tmp_path, config(), said)
    assert corpora.labels["section"].labels == ("business", "science", "sports")
    assert corpora.report["dropped_labels"] == {"section": {"chess": 1}}
    assert any(
        "1 label(s) left out, of fewer than min_count articles: chess (1)" in s for s in said
    )
    assert corpora.report["unseen_labels"] == {"section": {"gardening": 1}}
    assert corpora.targets("test")["section"][0] == IGNORE
    assert (corpora.targets("test")["section"][1:] != IGNORE).all()


def test_tasks_of_one_column_share_a_label_set(tmp_path: Path) -> None:
    rows = rows_of(300)
    for row in rows:
        row["press"] = "tabloid" if row["section"] != "science" else "broadsheet"
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    tasks = [
        {"name": "section"},
        {"name": "tabloid", "column": "section", "where": {"press": "tabloid"}},
        {"name": "broadsheet", "column": "section", "where": {"press": "broadsheet"}},
    ]
    corpora = prepare(tmp_path, config(tasks=tasks))
    assert len({task.labels for task in corpora.labels.tasks}) == 1
    targets = corpora.targets("train")
    assert ((targets["tabloid"] == IGNORE) != (targets["broadsheet"] == IGNORE)).all()
    known = targets["tabloid"] != IGNORE
    assert (targets["tabloid"][known] == targets["section"][known]).all()


def test_what_one_task_drops_does_not_come_back_through_another(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(300))
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    tasks = [
        {"name": "section"},
        {"name": "narrow", "column": "section", "drop": ["sports"]},
        {"name": "narrow_too", "column": "section", "drop": ["sports", "sports"]},
    ]
    labels = prepare(tmp_path, config(tasks=tasks)).labels
    assert labels["section"].labels == ("business", "science", "sports")
    assert labels["narrow"].labels == labels["narrow_too"].labels == ("business", "science")


def test_what_gives_no_label_is_said_and_reported(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(300))
    unlabelled = [{k: v for k, v in row.items() if k != "section"} for row in rows_of(10, seed=1)]
    write(tmp_path / "test.jsonl", unlabelled)
    tasks: list[dict[str, Any]] = [
        {"name": "section", "merge": {"science": "nature", "sprots": "sports"}, "drop": ["chess"]},
        {"name": "broadsheet", "column": "section", "where": {"id": "nobody"}},
    ]
    said: list[str] = []
    with pytest.raises(RecipeError, match="'broadsheet' has 0 label"):
        prepare(tmp_path, config(tasks=tasks), said)
    corpora = prepare(tmp_path, config(tasks=tasks[:1]), said)
    assert corpora.report["unmet_labels"] == {"section": ["chess", "sprots"]}
    assert corpora.report["corpora"]["tiny/test"]["missing_columns"] == {"section": "section"}
    assert corpora.report["corpora"]["tiny/train"]["missing_columns"] == {}
    text = "\n".join(said)
    assert "tiny train: no row gives the task broadsheet a label; check column 'section'" in text
    assert "tiny test: no column 'section', so nothing answers the task section" in text
    assert "task section: merge or drop names ['chess', 'sprots'], which no row has" in text


def test_a_strict_reader_stops_at_the_first_bad_row(tmp_path: Path) -> None:
    rows = rows_of(200)
    rows[3] |= {"headline": "", "body": ""}
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    with pytest.raises(ReadError, match=r"train\.jsonl, row 4: no text"):
        prepare(tmp_path, config(strict=True))
    prepared = prepare(tmp_path, config())
    assert prepared.report["corpora"]["tiny/train"]["problems"] == {"no text": 1}


def test_limit_takes_a_stable_sample(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(300))
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    corpora = [{"name": "tiny", "train": "train.jsonl", "test": "test.jsonl", "limit": 100}]
    prepared = prepare(tmp_path, config(corpora=corpora))
    assert len(ids(prepared, "train")) + len(ids(prepared, "validation")) == 100


@pytest.mark.parametrize(
    ("section", "message"), [("", "has 0 label"), ("sports", r"has 1 label.*it needs 2")]
)
def test_a_task_without_two_labels_is_refused(section: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [{**row, "section": section} for row in rows_of(100)])
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    with pytest.raises(RecipeError, match=message):
        prepare(tmp_path, config())


def test_fingerprint_follows_bytes_and_settings(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(10))
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    first = data_fingerprint(config(), tmp_path)
    assert data_fingerprint(config(), tmp_path) == first
    assert data_fingerprint(config(validation=0.2), tmp_path) != first
    write(tmp_path / "train.jsonl", rows_of(11))
    assert data_fingerprint(config(), tmp_path) != first


def test_fingerprint_leaves_out_what_only_weighs(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(10))
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    first = data_fingerprint(config(), tmp_path)
    heavy = [{"name": "section", "min_count": 5, "weight": 0.5}]
    assert data_fingerprint(config(tasks=heavy, sampling_temperature=2.0), tmp_path) == first
    fewer = [{"name": "section", "min_count": 6}]
    assert data_fingerprint(config(tasks=fewer), tmp_path) != first
    hubs = [config(corpora=[{"name": "tiny", "train": f"hub:owner/{name}"}]) for name in "ab"]
    assert len({data_fingerprint(hub, tmp_path) for hub in hubs}) == 2


def test_a_split_without_articles_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(30))
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    with pytest.raises(RecipeError, match=r"left for validation: .*raise data\.validation"):
        prepare(tmp_path, config(validation=0.001))


def test_articles_come_back_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows_of(200))
    write(tmp_path / "test.jsonl", rows_of(10, seed=1))
    corpora = prepare(tmp_path, config())
    again = load_corpora(corpora.directory)
    assert list(again.articles("test")) == list(corpora.articles("test"))
    assert again.labels == corpora.labels
    np.testing.assert_array_equal(
        again.targets("test")["section"], corpora.targets("test")["section"]
    )
    with pytest.raises(FingerprintError, match="holds no prepared articles"):
        load_corpora(tmp_path)


def test_half_a_surrogate_pair_stops_nothing(tmp_path: Path) -> None:
    train, test = rows_of(200), rows_of(10, seed=1)
    odd = {"id": "x\ud800", "headline": "caf\u00e9 \U0001f600 goal\ud800striker <b\udfff>"}
    for row in train[:10]:
        row["section"] = "caf\u00e9 \udc00"
    test[0] |= odd | {"publisher": "\ud800"}
    for name, rows in (("train", train), ("test", test)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)  # escapes what is not ASCII
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="ascii")
    corpora = prepare(tmp_path, config())
    first = next(iter(corpora.articles("test")))
    assert (first.id, first.publisher) == ("x\\ud800", "\\ud800")
    given = Article(odd["headline"], test[0]["body"])
    assert "\U0001f600" in first.headline
    assert view_text(first, "full") == view_text(given, "full")
    assert corpora.labels["section"].labels[1] == "caf\u00e9 \\udc00"
