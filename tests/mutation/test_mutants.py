"""The mutants fit the source, and the runner tells a fault that is noticed from one that is not.

No mutant of newsie is run here: that takes most of an hour. Run `python -m tests.mutation`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.mutation.__main__ import main
from tests.mutation.catalogue import (
    ROOT,
    Mutant,
    StaleMutantError,
    read_mutants,
    select,
)
from tests.mutation.table import Store, as_json, as_markdown, share_killed
from tests.mutation.trials import Outcome, Tree, Trial, fingerprint, try_mutant

ABOUT = {"commit": "abc", "date": "2026-01-01", "command": "python -m tests.mutation"}


def mutant(old: str = "a + b", new: str = "a - b", *, test: str = "test_sum") -> Mutant:
    return Mutant("sums.add", "sums.py", old, new, "wrong sums", (f"test_sums.py::{test}",))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A source file of one function, with tests that notice much, nothing, and too much."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "test_sums.py").write_text(
        "from sums import add\n\n"
        "def test_sum():\n    assert add(2, 1) == 3\n\n"
        "def test_nothing():\n    assert add(2, 0) == 2\n\n"
        "def test_that_fails():\n    assert add(2, 1) == 4\n"
    )
    return Tree(root, tmp_path)


def test_every_mutant_applies_and_its_tests_exist() -> None:
    mutants = read_mutants()
    for entry in mutants:
        entry.check(ROOT)
    assert [name for name, count in Counter(m.name for m in mutants).items() if count > 1] == []
    assert len(mutants) >= 160


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        (mutant(), "killed"),
        (mutant(test="test_nothing"), "survived"),
        (mutant(test="test_that_fails"), "tests fail anyway"),
        (mutant("a + b", "(a + b"), "does not run"),
        (mutant("return", "while True: pass\n    return"), "timed out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_outcomes_of_real_trials(tree: Tree, changed: Mutant, outcome: Outcome) -> None:
    before = (tree.root / "sums.py").read_text()
    seconds = 3 if outcome == "timed out" else 60
    assert try_mutant(tree, changed, seconds).outcome == outcome
    assert (tree.root / "sums.py").read_text() == before


def test_a_fault_of_the_same_length_in_the_same_second_is_not_hidden_by_compiled_files(
    tree: Tree,
) -> None:
    outcomes = [try_mutant(tree, m, 60).outcome for m in (mutant(), mutant("a + b", "b + a"))]
    assert outcomes == ["killed", "survived"]


@pytest.mark.parametrize(
    ("stale", "message"),
    [
        (mutant("a * b"), "occurs 0 times in sums.py"),
        (mutant("a"), "occurs 3 times in sums.py"),
        (mutant("a + b", "a + b"), "are the same"),
        (mutant(test="test_gone"), r"there is no test test_sums.py::test_gone"),
        (Mutant("x", "gone.py", "a", "b", "", ("test_sums.py",)), "there is no file gone.py"),
        (Mutant("x", "sums.py", "a + b", "b", "", ()), "names no test"),
    ],
)
def test_a_stale_mutant_is_an_error(tree: Tree, stale: Mutant, message: str) -> None:
    with pytest.raises(StaleMutantError, match=message):
        stale.check(tree.root)


def test_results_are_kept_until_the_source_the_tests_or_the_fault_change(tree: Tree) -> None:
    store = Store(tree.scratch / "results" / "unfinished.jsonl")
    key = fingerprint(tree.root, mutant())
    store.add(key, Trial("killed", 1.5))
    with store.path.open("a") as file:
        file.write('{"fingerprint": "cut off')
    assert Store(store.path).get(key) == Trial("killed", 1.5)
    keys = {key, fingerprint(tree.root, mutant(new="b - a"))}
    for name in ("sums.py", "test_sums.py"):
        with (tree.root / name).open("a") as file:
            file.write("# changed\n")
        keys.add(fingerprint(tree.root, mutant()))
    assert len(keys) == 4


def test_the_table_counts_what_a_test_noticed() -> None:
    mutants = [Mutant(name, "sums.py", "a", "b", f"why {name}", ("t",)) for name in "wxyz"]
    outcomes: list[Outcome] = ["killed", "killed", "survived", "timed out"]
    trials = {m.name: Trial(o, 1.0) for m, o in zip(mutants, outcomes, strict=True)}
    assert share_killed(trials) == 0.5
    text = as_markdown(mutants, trials, ABOUT)
    assert "2 of 4 mutants were killed (50.0 %)" in text
    assert "| sums.py | 4 | 2 | 1 | 1 |" in text
    assert "- `y` (survived): why y" in text
    content = json.loads(as_json(mutants, trials, ABOUT))
    assert content["outcomes"] == {"killed": 2, "survived": 1, "timed out": 1}
    assert content["results"][2]["outcome"] == "survived"


def test_a_pattern_chooses_by_name_or_file(capsys: pytest.CaptureFixture[str]) -> None:
    entries = [mutant(), Mutant("other.x", "newsie/x.py", "", "", "", ())]
    assert select(entries, "newsie/*") == entries[1:]
    assert select(entries, "sums.*") == entries[:1]
    assert main(["--only", "nothing-*"]) == 2
    assert "no mutant matches 'nothing-*'" in capsys.readouterr().err
