"""Hidden states of a frozen student, computed by the ONNX graph of its bundle.

New heads are therefore fitted on the same numbers that they see when they serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle
from newsie.graph.graph import Graph
from newsie.graph.heads import FIRST, INNER, HeadsGraph
from newsie.inference.student import Student, count_threads
from newsie.labels import LabelSpace, Task

__all__ = ["States", "read_states"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class States:
    """The hidden states of the frozen student for N articles.

    Attributes:
        first: hidden state of the first token, (N, H), the input of all heads.
        inner: task -> relu(x A' + a) of its head, (N, H), for the requested tasks.
    """

    first: Floats
    inner: Mapping[str, Floats]


def read_states(
    bundle: Bundle,
    ids: Sequence[Sequence[int]],
    scratch: Path,
    *,
    tasks: Sequence[str] = (),
    pad_id: int = 0,
) -> States:
    """Return the states of articles, computed by one pass of the student on all cores.

    Args:
        bundle: the student.
        ids: token ids of N articles.
        scratch: a folder for a graph whose outputs are states.
        tasks: the tasks whose inner states are returned as well.
        pad_id: the id of padding.

    Raises:
        BundleError: the graph is not one that this version of Newsie exports.
    """
    graph = HeadsGraph(bundle)
    path = scratch / "states.onnx"
    width = graph.write_states(path, tasks)
    # A state is read in the same way as logits: as the scores of H "labels".
    units = tuple(map(str, range(width)))
    names = (FIRST, *(INNER + task for task in tasks))
    space = LabelSpace(tuple(Task(name, units) for name in names))
    student = Student(Graph.read(path), space, pad_id=pad_id, threads=count_threads(None))
    found = student.run(ids, names)
    return States(found[FIRST], {task: found[INNER + task] for task in tasks})
