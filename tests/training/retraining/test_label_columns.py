from __future__ import annotations

from pathlib import Path

import pytest

from newsie.errors import InputError, LabelError, ReadError
from newsie.labels import LabelRule
from newsie.training.retraining.label_columns import extend_labels, find_questions
from tests.tiny import LABELS
from tests.training.retraining.files import write_rows


def labelled(path: Path, labels: list[str], column: str = "category") -> Path:
    rows = [(f"headline number {n}", label) for n, label in enumerate(labels)]
    return write_rows(path / "articles.csv", ("headline", column), rows)


def test_another_column_is_a_new_task(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["crime"] * 5 + ["court"] * 6 + ["rare"] * 3)
    [question] = find_questions(file, LABELS)
    assert (question.name, question.known) == ("category", ())
    assert question.counts == {"court": 6, "crime": 5}
    assert question.rare == {"rare": 3}
    space = extend_labels(LABELS, [question])
    assert space.tasks[:2] == LABELS.tasks
    assert space["category"].labels == ("court", "crime")
    assert space["category"].rule == LabelRule("category")
    assert "task category: new, 2 labels" in question.describe()


def test_a_column_called_as_a_task_extends_it_behind_what_it_has(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["sports"] * 8 + ["crime"] * 4 + ["arts"] * 4, "section")
    [question] = find_questions(file, LABELS)
    space = extend_labels(LABELS, [question])
    assert space["section"].labels == ("business", "science", "sports", "arts", "crime")
    assert space["section"].rule == LABELS["section"].rule
    assert "task section: extended by arts, crime" in question.describe()


def test_a_column_called_as_a_task_with_other_labels_has_to_be_decided(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["crime"] * 6 + ["court"] * 6 + ["sports"] * 4, "section")
    with pytest.raises(LabelError, match=r"knows the labels of 25%.*--task NAME=section.*--map"):
        find_questions(file, LABELS)
    other = labelled(tmp_path, ["Sports"] * 6 + ["Bussiness"] * 6, "section")
    with pytest.raises(
        LabelError, match=r"\(perhaps --map Bussiness=business --map Sports=sports\)"
    ):
        find_questions(other, LABELS)
    file = labelled(tmp_path, ["crime"] * 6 + ["court"] * 6 + ["sports"] * 4, "section")
    [new] = find_questions(file, LABELS, tasks=["courts=section"])
    assert (new.name, new.known) == ("courts", ())
    [extended] = find_questions(file, LABELS, tasks=["section=section"])
    assert extended.new_labels == ["court", "crime"]


def test_labels_are_merged(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["Sport"] * 6 + ["Football"] * 6 + ["science"] * 4, "section")
    [question] = find_questions(file, LABELS, mapping={"Sport": "sports", "Football": "sports"})
    assert question.counts == {"sports": 12, "science": 4}
    with pytest.raises(InputError, match=r"names the label 'Sports', which no row .* 'Sport'\?"):
        find_questions(file, LABELS, mapping={"Sports": "sports"})


def test_labels_that_are_known_in_another_spelling_are_refused(tmp_path: Path) -> None:
    labels = ["Sports "] * 6 + ["science"] * 8 + ["business"] * 8
    file = labelled(tmp_path, labels, "section")
    with pytest.raises(
        LabelError, match=r"'Sports' would be new .*'sports'.*: --map Sports=sports"
    ):
        find_questions(file, LABELS)
    [question] = find_questions(file, LABELS, mapping={"Sports": "sports"})
    assert question.new_labels == []
    file = labelled(tmp_path, ["Football"] * 6 + ["science"] * 8, "section")
    with pytest.raises(LabelError, match=r"--map Football=sports"):
        find_questions(file, LABELS, mapping={"Football": "SPORTS"})


def test_new_labels_that_may_be_known_ones_are_told(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["bussiness"] * 6 + ["science"] * 12 + ["crime"] * 4, "section")
    [question] = find_questions(file, LABELS)
    [warning] = question.doubtful
    assert "'bussiness' is new, and nearly 'business'" in warning
    assert "--map bussiness=business" in warning
    file = labelled(tmp_path, ["Football"] * 6 + ["science"] * 8, "section")
    [question] = find_questions(file, LABELS, mapping={"Football": "sprots"})
    assert "--map Football=sports" in question.doubtful[0]
    [question] = find_questions(file, LABELS, mapping={"Football": "athletics"})
    [warning] = question.doubtful
    assert "--map names the label 'athletics', which the model does not know" in warning


def test_a_long_tail_of_rare_labels_is_left_out(tmp_path: Path) -> None:
    tail = [f"tag {n}" for n in range(30)]
    file = labelled(tmp_path, ["news"] * 40 + ["sport"] * 40 + tail)
    [question] = find_questions(file, LABELS)
    assert set(question.counts) == {"news", "sport"}
    assert len(question.rare) == 30


def test_labels_that_are_numbers(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["0", "1", "2"] * 5)
    with pytest.raises(ReadError, match=r"the labels are numbers \('0', '1', '2'\).*--map 0=NAME"):
        find_questions(file, LABELS)
    [question] = find_questions(file, LABELS, mapping={"0": "world", "1": "sport", "2": "money"})
    assert set(question.counts) == {"world", "sport", "money"}


def test_one_class(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["news"] * 9 + ["rare"] * 2)
    with pytest.raises(
        ReadError, match=r"1 label\(s\) with 4 articles or more: 'news' \(9\), 'rare'"
    ):
        find_questions(file, LABELS)


def test_five_thousand_classes(tmp_path: Path) -> None:
    file = labelled(tmp_path, [f"label {n % 5_000}" for n in range(20_000)])
    with pytest.raises(
        ReadError, match=r"5,000 different labels in 20,000 articles; at most 1,000"
    ):
        find_questions(file, LABELS)


def test_a_column_chosen_wrongly(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["crime", "court"] * 6)
    with pytest.raises(ReadError, match=r"12 different labels in 12 articles.*--task COLUMN"):
        find_questions(file, LABELS, tasks=["kind=headline"])
    with pytest.raises(LabelError, match="a task cannot be called 'headline'"):
        find_questions(file, LABELS, tasks=["headline"])
    with pytest.raises(ReadError, match=r"no column 'kategory'.*its columns: headline, category"):
        find_questions(file, LABELS, tasks=["kategory"])
    empty = write_rows(tmp_path / "empty.csv", ("headline", "category"), [("a b", "")] * 4)
    with pytest.raises(ReadError, match="no row has a label; is it the right column"):
        find_questions(empty, LABELS)


def test_a_name_that_no_model_can_have(tmp_path: Path) -> None:
    file = labelled(tmp_path, ["crime", "court"] * 6, "type")
    with pytest.raises(LabelError, match=r"called 'type', a name that PyTorch.*--task NAME=type"):
        find_questions(file, LABELS, tasks=["type"])
    assert find_questions(file, LABELS, tasks=["kind=type"])[0].name == "kind"
