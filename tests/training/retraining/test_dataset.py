from __future__ import annotations

import json
from pathlib import Path

import pytest

from newsie.bundles.bundle import Bundle, read_bundle
from newsie.errors import ReadError
from newsie.training.retraining.dataset import Material, Sources, gather_material
from newsie.training.retraining.stages import Depth, Plan, open_retraining
from tests.tiny import tiny_articles
from tests.training.retraining.files import write_rows


@pytest.fixture
def base(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def written(path: Path, labels: list[str], column: str = "category", seed: int = 0) -> Path:
    """Articles with the given labels; an empty one is none."""
    articles = tiny_articles(len(labels), seed)
    rows = [(a.headline, a.body, label) for a, label in zip(articles, labels, strict=True)]
    return write_rows(path, ("headline", "body", column), rows)


def gather(sources: Sources, base: Bundle, tmp_path: Path) -> tuple[Material, str]:
    """The material, and what is said."""
    said: list[str] = []
    found = gather_material(sources, base, tmp_path / "runs", say=said.append)
    return found, "\n".join(said)


def rows(material: Material, name: str) -> list[dict[str, str]]:
    text = (material.directory / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_labels_that_the_file_lacks_are_said(base: Bundle, tmp_path: Path) -> None:
    file = written(tmp_path / "ours.csv", ["sports", "science"] * 8, "section")
    assert (
        "task section: no articles of business to learn" in gather(Sources(file), base, tmp_path)[1]
    )
    rare = written(tmp_path / "rare.csv", ["sports", "science"] * 8 + ["business"], "section")
    found, said = gather(Sources(rare), base, tmp_path)
    assert "left out, fewer than 4 articles: business (1)" in said
    assert "no articles of business to learn" in said
    assert {row.get("gold:section") for row in rows(found, "file")} == {"sports", "science", None}
    old = written(tmp_path / "old.csv", ["business", "sports"] * 4, "section", seed=1)
    assert "no articles of" not in gather(Sources(file, replay=[old]), base, tmp_path)[1]


def test_labels_that_read_like_none_are_said(base: Bundle, tmp_path: Path) -> None:
    file = written(tmp_path / "ours.csv", ["a", "b", "NA", ""] * 6)
    said = gather(Sources(file), base, tmp_path)[1]
    assert "learnt as labels, though they read like none: NA (6); if they are none" in said
    file = written(tmp_path / "good.csv", ["a", "b", "nation", ""] * 6)
    assert "read like none" not in gather(Sources(file), base, tmp_path)[1]


def test_columns_hold_for_every_file_that_has_them(base: Bundle, tmp_path: Path) -> None:
    texts = [(a.headline, "sports") for a in tiny_articles(12)]
    file = write_rows(
        tmp_path / "ours.csv",
        ("Titel", "category"),
        [(text, "ab"[n % 2]) for n, (text, _) in enumerate(texts)],
    )
    old = write_rows(tmp_path / "old.csv", ("Titel", "section"), texts)
    bare = write_rows(tmp_path / "bare.csv", ("headline",), [(text,) for text, _ in texts])
    for name, sources in {
        "replay": Sources(file, columns={"headline": "Titel"}, replay=[old]),
        "unlabelled": Sources(file, columns={"headline": "Titel"}, unlabelled=[old, bare]),
    }.items():
        found = [row["headline"] for row in rows(gather(sources, base, tmp_path)[0], name)]
        assert found[:12] == [text for text, _ in texts]
        assert found[12:] in ([], found[:12])


def test_labels_of_test_articles_that_are_not_learnt(base: Bundle, tmp_path: Path) -> None:
    file = written(tmp_path / "ours.csv", ["a", "b"] * 8)
    few = written(tmp_path / "few.csv", ["a", "b"] * 20 + ["c"], seed=1)
    said = gather(Sources(file, test=few), base, tmp_path)[1]
    assert "1 of the 41 articles with a label of the task 'category' have one that is not" in said
    assert "not learnt: c (1); they are not measured" in said
    many = written(tmp_path / "many.csv", ["a", "b"] * 20 + ["c"] * 4, seed=1)
    with pytest.raises(ReadError, match=r"4 of the 44 .* not learnt: c \(4\).*--map theirs=ours"):
        gather(Sources(file, test=many), base, tmp_path)


def test_texts_without_labels_are_all_learnt_and_copies_measured_once(
    base: Bundle, tmp_path: Path
) -> None:
    file = written(tmp_path / "ours.csv", ["a", "b"] * 40)
    with file.open("a", encoding="utf-8") as again:  # every article three times
        again.write("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[1:]) * 2)
    other = [(a.headline, a.body) for a in tiny_articles(100, seed=1)]
    same = [(a.headline, a.body) for a in tiny_articles(80)]
    texts = write_rows(tmp_path / "texts.csv", ("headline", "body"), [*other, *same])
    found, _ = gather(Sources(file, unlabelled=[texts]), base, tmp_path)
    corpora = open_retraining(found, base, Plan("ours", "quick"), runs=tmp_path / "runs").corpora
    names = {split: corpora.corpus_names(split) for split in ("train", "validation", "test")}
    assert names["train"].count("unlabelled") >= 95  # some of the tiny articles are alike
    assert {*names["validation"], *names["test"]} == {"file"}
    held_out = [(a.headline, a.body) for a in corpora.articles("test")]
    assert len(set(held_out)) == len(held_out)
    learnt = {(a.headline, a.body) for s in ("train", "validation") for a in corpora.articles(s)}
    assert not learnt & set(held_out)
    chosen_on = {(a.headline, a.body) for a in corpora.articles("validation")}
    assert not chosen_on & {(a.headline, a.body) for a in corpora.articles("train")}


@pytest.mark.parametrize(("depth", "use"), [("quick", None), ("student", "training")])
def test_the_lineage_says_what_texts_without_labels_are_for(
    depth: Depth, use: str | None, base: Bundle, tmp_path: Path
) -> None:
    file = written(tmp_path / "ours.csv", ["a", "b"] * 40)
    texts = written(tmp_path / "texts.csv", [""] * 20, seed=1)
    found, _ = gather(Sources(file, unlabelled=[texts]), base, tmp_path)
    lineage = open_retraining(found, base, Plan("ours", depth), runs=tmp_path / "runs").lineage()
    uses = {corpus["name"]: corpus.get("use") for corpus in lineage.recipe["data"]["corpora"]}
    assert uses.get("ours-unlabelled") == use  # heads alone do not learn from them
    assert ("ours-unlabelled" in uses) == (use is not None)
    assert uses["ours-file"] is None


def test_a_folder_of_texts_by_label_is_read_like_a_file(base: Bundle, tmp_path: Path) -> None:
    for number, article in enumerate(tiny_articles(16)):
        path = tmp_path / "ours" / "ab"[number % 2] / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{article.headline}\n{article.body}", encoding="utf-8")
    sources = Sources(tmp_path / "ours")
    found, said = gather(sources, base, tmp_path)
    assert "task label: new, 2 labels (column 'label', 16 articles)" in said
    assert len(rows(found, "file")) == 16
    before = sources.fingerprint()
    (tmp_path / "ours" / "a" / "0.txt").rename(tmp_path / "ours" / "b" / "0.txt")
    assert sources.fingerprint() != before


def test_standard_input_is_refused_for_what_it_is(base: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="stdin: retraining reads a file more than once"):
        gather(Sources(Path("-")), base, tmp_path)


def test_several_labels_in_a_cell_are_said(base: Bundle, tmp_path: Path) -> None:
    file = written(tmp_path / "ours.csv", ["a", "b", "a|b", "b|a"] * 6)
    said = gather(Sources(file), base, tmp_path)[1]
    assert "2 labels are several labels joined by '|' (12 articles), such as" in said


@pytest.mark.parametrize("name", ["a/2024/x.txt", "a/y.TXT"])
def test_a_changed_text_of_a_folder_is_another_source(tmp_path: Path, name: str) -> None:
    text = tmp_path / "folder" / name
    text.parent.mkdir(parents=True)
    text.write_text("Late goal")
    before = Sources(tmp_path / "folder").fingerprint()
    text.write_text("Early goal")
    assert Sources(tmp_path / "folder").fingerprint() != before
