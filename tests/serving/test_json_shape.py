from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.serving.json_shape import BLOCK_BYTES, JsonShape

BYTES = st.lists(st.sampled_from(list(b'"""\\\\\\\\[]{},:ax')), max_size=60).map(bytes)


def shape_of(body: bytes, block_bytes: int = BLOCK_BYTES) -> tuple[int, int]:
    shape = JsonShape.of(body, block_bytes)
    return shape.depth, shape.commas


def read_byte_by_byte(body: bytes) -> tuple[int, int]:
    depth = level = commas = place = 0
    in_string = False
    while place < len(body):
        byte = body[place : place + 1]
        if byte == b"\\" and body[place + 1 : place + 2] in (b"\\", b'"'):
            place += 1
        elif byte == b'"':
            in_string = not in_string
        elif not in_string:
            level += (byte in b"[{") - (byte in b"]}")
            depth, commas = max(depth, level), commas + (byte == b",")
        place += 1
    return depth, commas


@given(BYTES, st.integers(1, 9))
def test_it_is_what_a_reader_of_single_bytes_finds(body: bytes, block_bytes: int) -> None:
    assert shape_of(body, block_bytes) == shape_of(body) == read_byte_by_byte(body)


def values(depth: int) -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.text()
    if depth == 0:
        return leaves
    inner = values(depth - 1)
    return leaves | st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)


def count(value: Any) -> tuple[int, int]:
    """Depth and commas of a value as JSON."""
    if not isinstance(value, list | dict):
        return 0, 0
    parts = [count(one) for one in (value.values() if isinstance(value, dict) else value)]
    deepest, commas = max((d for d, _ in parts), default=0), sum(c for _, c in parts)
    return 1 + deepest, commas + max(0, len(parts) - 1)


@given(values(4), st.booleans(), st.integers(1, 9))
def test_of_json_it_is_the_shape_of_the_value(value: Any, is_ascii: bool, block: int) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    assert shape_of(body, block) == count(value)


@pytest.mark.parametrize(
    ("body", "depth", "commas"),
    [
        (b"", 0, 0),
        (b'{"a": [1, [2], {"b": "]]["}]}', 3, 2),
        (b'"[[[[\\"[[[,"', 0, 0),
        (b'"\\\\"[', 1, 0),
        (b"]]]][[", 0, 0),
        (b'["never closed [[[,', 1, 0),
    ],
)
def test_examples(body: bytes, depth: int, commas: int) -> None:
    assert shape_of(body) == (depth, commas)


@pytest.mark.parametrize(
    "unit", [b'\\"', b"\\", b'"', b"[", b"{}", b'"\\', b"[,", b"a", b'\\\\"', b"\xff"]
)
def test_the_time_grows_with_the_bytes_only(unit: bytes) -> None:
    """A string that never closes took 15 seconds for 64 kB while strings were found by backtracking."""
    body = b"[" * 33 + b'"' + unit * (2_000_000 // len(unit))
    started = time.perf_counter()
    JsonShape.of(body)
    assert time.perf_counter() - started < 1
