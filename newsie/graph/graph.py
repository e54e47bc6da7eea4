"""An ONNX graph as bytes in memory: it is read once, so that what was verified is what runs.

A graph may keep weights in other files, which no manifest lists and no seal covers. Newsie neither writes nor
runs such a graph. The graph is a protocol buffer (https://protobuf.dev/programming-guides/encoding), of which
this module reads just enough to detect this. Weights are skipped, because searching them would take as long
as hashing them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from newsie.errors import BundleError

__all__ = ["Graph"]

# Field numbers in onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14

_EXTERNAL = re.compile(rb"(\x0a|\x8a\x80*\x00)(\x08|\x88\x80*\x00)\Z")
"""The bytes before b"location" that begin an entry's key: field 1, eight bytes. Numbers may be padded."""


class Graph(NamedTuple):
    """An ONNX graph.

    Attributes:
        path: the file that it was read from, for messages.
        content: the content of the file.
    """

    path: Path
    content: bytes

    @classmethod
    def read(cls, path: Path) -> Graph:
        """Read a graph from a file."""
        return cls(path, path.read_bytes())

    def check(self) -> None:
        """Check that the graph needs no other file.

        Raises:
            BundleError: it needs one, or it is not an ONNX graph.
        """
        try:
            external = _has_external_data(memoryview(self.content))
        except ValueError as error:
            raise BundleError(f"bundle {self.path.parent}: {self.path.name}: {error}") from error
        if external:
            raise BundleError(
                f"bundle {self.path.parent}: {self.path.name} keeps weights in another file, which is not "
                "verified and not read; export the model as one file"
            )


def _has_external_data(model: memoryview) -> bool:
    for number, graph in _fields(model):
        if number != _MODEL_GRAPH:
            if _names_location(graph):
                return True
            continue
        for inner, part in _fields(graph):
            found = _is_external(part) if inner == _GRAPH_INITIALIZER else _names_location(part)
            if found:
                return True
    return False


def _is_external(tensor: memoryview) -> bool:
    return any(
        number in (_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION) for number, _ in _fields(tensor)
    )


def _names_location(part: memoryview) -> bool:
    """Return True if the key "location" of external data occurs anywhere in a part of the graph."""
    content = bytes(part)
    start = content.find(b"location")
    while start >= 0:
        if _EXTERNAL.search(content[max(start - 24, 0) : start]):
            return True
        start = content.find(b"location", start + 1)
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the content of each field of a message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            _, end = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            end = position + length
        elif kind in (1, 5):
            end = position + (8 if kind == 1 else 4)
        else:
            raise ValueError("it is not an ONNX graph")
        if end > len(message):
            raise ValueError("it is not an ONNX graph, or it ends early")
        yield key >> 3, message[position:end]
        position = end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it is not an ONNX graph, or it ends early")
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("it is not an ONNX graph")
