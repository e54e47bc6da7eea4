from __future__ import annotations

import pytest

from newsie.data.articles import Article
from newsie.errors import LabelError
from newsie.labels import IGNORE, LabelRule, LabelSpace, Task

SPACE = LabelSpace((Task("section", ("arts", "sports")), Task("mood", ("calm", "loud"))))


def test_encode_gives_class_indices_and_ignores_what_is_unlabelled() -> None:
    articles = [Article("a", labels={"section": "sports"}), Article("b", labels={"mood": "calm"})]
    encoded = SPACE.encode(articles)
    assert encoded["section"].tolist() == [1, IGNORE]
    assert encoded["mood"].tolist() == [IGNORE, 0]
    assert {column.dtype.name for column in encoded.values()} == {"int64"}


def test_an_unknown_label_names_article_task_and_choices() -> None:
    with pytest.raises(
        LabelError, match=r"'a1' is labelled 'chess' in task 'section', which has: arts,"
    ):
        SPACE.encode([Article("a", id="a1", labels={"section": "chess"})])


def test_extend_appends_and_never_reorders() -> None:
    wider = SPACE.extend({"section": ["weather", "arts"], "desk": ["city", "world"]})
    assert wider["section"].labels == ("arts", "sports", "weather")
    assert wider.names == ("section", "mood", "desk")
    assert wider["mood"] == SPACE["mood"]


def test_fingerprint_follows_names_and_order_only() -> None:
    turned = LabelSpace((Task("section", ("sports", "arts")), SPACE["mood"]))
    ruled = LabelSpace((Task("section", ("arts", "sports"), LabelRule("topic")), SPACE["mood"]))
    assert SPACE.fingerprint() != turned.fingerprint()
    assert SPACE.fingerprint() == ruled.fingerprint()


def test_comes_back_from_json() -> None:
    rule = LabelRule("section", {"press": ["tabloid", "free"]}, {"ARTS": "arts"}, ("misc",))
    space = LabelSpace((Task("tabloid", ("arts", "sports"), rule), SPACE["mood"]))
    assert LabelSpace.from_json(space.to_json()) == space


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"section": "ARTS", "press": "tabloid"}, "arts"),
        ({"section": " sports ", "press": "free"}, "sports"),
        ({"section": "sports", "press": "broadsheet"}, None),
        ({"section": "sports"}, None),
        ({"section": "misc", "press": "tabloid"}, None),
        ({"section": "", "press": "tabloid"}, None),
        ({"press": "tabloid"}, None),
    ],
)
def test_rules_choose_rows_merge_and_drop(row: dict[str, str], label: str | None) -> None:
    rule = LabelRule("section", {"press": ["tabloid", "free"]}, {"ARTS": "arts"}, ("misc",))
    assert rule.label(row) == label


def test_tasks_and_labels_are_checked() -> None:
    with pytest.raises(LabelError, match=r"has 1 label\(s\) \['arts'\]; a task needs at least 2"):
        Task("section", ("arts",))
    with pytest.raises(LabelError, match=r"names \['arts'\] more than once"):
        Task("section", ("arts", "sports", "arts"))
    with pytest.raises(LabelError, match="at least one task"):
        LabelSpace(())
    with pytest.raises(LabelError, match="each task once"):
        LabelSpace((SPACE["mood"], SPACE["mood"]))


@pytest.mark.parametrize("name", ["", "a.b", "a b", "Section", "2nd", "_a", "a\n", "größe", "../a"])
def test_names_of_tasks_are_plain(name: str) -> None:
    with pytest.raises(LabelError, match=r"small letters \(a to z\), digits and '_'.*given"):
        Task(name, ("a", "b"))


@pytest.mark.parametrize("name", ["id", "headline", "truncated", "input_ids"])
def test_names_of_tasks_are_free(name: str) -> None:
    with pytest.raises(LabelError, match=rf"cannot be called '{name}': .*choose another name"):
        Task(name, ("a", "b"))


@pytest.mark.parametrize("other", ["mood_2", "mood_score", "mood_10_score"])
def test_no_task_is_called_like_a_column_of_another(other: str) -> None:
    with pytest.raises(LabelError, match=rf"both 'mood' and '{other}'"):
        LabelSpace((Task(other, ("a", "b")), SPACE["mood"]))
    LabelSpace((Task(other.replace("mood", "moods"), ("a", "b")), SPACE["mood"]))


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(LabelError, match=r"no task 'topic'; there are: section, mood"):
        SPACE["topic"]


def test_the_class_index_of_a_label() -> None:
    task = Task("section", ("arts", "sports"))
    assert task.index("sports") == 1
    with pytest.raises(
        LabelError, match="task 'section' has no label 'sport'; it has: arts, sports"
    ):
        task.index("sport")
