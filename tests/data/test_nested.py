from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.data.nested import NestedError, NestedText, label_of, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"main": "Rain", "kicker": None}, "Rain"),
        ({"rendered": "Rain"}, "Rain"),
        ({"id": None, "name": "The Example"}, "The Example"),
        ({"$date": {"$numberLong": "1484092800000"}}, "1484092800000"),
        (["One.", "", None, "Two."], "One.\nTwo."),
        ([{"text": "One."}, {"text": ["Two.", "Three."]}], "One.\nTwo.\nThree."),
        ([], ""),
        ({}, ""),
        ([[], {}], ""),
        ([1, 2.5, True], "1\n2.5\ntrue"),
    ],
)
def test_text(value: Any, text: str) -> None:
    assert text_of(NestedText.of(value)) == text


@pytest.mark.parametrize("value", [{"0": "a", "1": "b"}, [{"x": 1}], [[[[[[[[[["deep"]]]]]]]]]]])
def test_what_is_no_text(value: Any) -> None:
    with pytest.raises(NestedError) as error:
        text_of(NestedText.of(value))
    assert error.value.reason == "a nested value that is no text"


def test_plain_text_stays_as_it_is() -> None:
    assert text_of('["a"]') == label_of('["a"]') == '["a"]'


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (["sport"], "sport"),
        (["sport", "sport", ""], "sport"),
        ({"name": "sport", "id": 7}, "sport"),
        ([{"label": "sport"}], "sport"),
        ([], ""),
    ],
)
def test_labels(value: Any, label: str) -> None:
    assert label_of(NestedText.of(value)) == label


def test_several_labels_are_no_label() -> None:
    with pytest.raises(NestedError, match="several labels") as error:
        label_of(NestedText.of(["sport", "politics"]))
    assert error.value.detail == '["sport", "politics"]'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["main", "name", "text", "x"]), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(json_values)
def test_whatever_the_value_its_source_is_never_the_text(value: Any) -> None:
    if not isinstance(value, list | dict):
        return
    cell = NestedText.of(value)
    for read in (text_of, label_of):
        try:
            text = read(cell)
        except NestedError:
            continue
        assert text == "" or text != str(cell)
