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
    with pytest.raises(LabelError, match="a task needs a name"):
        Task("", ("a", "b"))
    with pytest.raises(LabelError, match="at least one task"):
        LabelSpace(())
    with pytest.raises(LabelError, match="each task once"):
        LabelSpace((SPACE["mood"], SPACE["mood"]))


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(LabelError, match=r"no task 'topic'; there are: section, mood"):
        SPACE["topic"]
    with pytest.raises(LabelError, match=r"has no label 'chess'; it has: arts, sports"):
        SPACE["section"].index("chess")
    assert SPACE["section"].index("sports") == 1
