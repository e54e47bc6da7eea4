from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.notebook import Notebook, Rows
from benchmarks.report import circumstances, write_rows


def report(*arguments: str, busy: bool = False) -> dict[str, Any]:
    found = circumstances("tried", arguments)
    found["machine"]["busy"] = busy
    return found


def measured(times: list[str], name: str) -> Rows:
    times.append(name)
    return [{"part": name, "value": 0.5}]


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    times: list[str] = []
    first = Notebook(tmp_path, report(busy=True))
    wanted = first.keep("a", lambda: measured(times, "a"))
    with (tmp_path / "tried.unfinished.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"name": "b", "ro')  # killed while it wrote
    again = report(busy=False)
    notebook = Notebook(tmp_path, again)
    assert again["machine"]["busy"]  # when a was measured
    assert notebook.keep("a", lambda: measured(times, "a")) == wanted
    notebook.keep("b", lambda: measured(times, "b"))
    third = Notebook(tmp_path, report())
    third.keep("b", lambda: measured(times, "b"))
    assert times == ["a", "b"]
    third.close()
    assert not list(tmp_path.iterdir())


def test_another_command_or_student_begins_anew(tmp_path: Path) -> None:
    times: list[str] = []
    for found, student in ((report(), "1"), (report("--draws", "2"), "1"), (report(), "2")):
        Notebook(tmp_path, found, student).keep("a", lambda: measured(times, "a"))
    assert times == ["a", "a", "a"]


def test_rows_stand_raw_beside_the_table(tmp_path: Path) -> None:
    write_rows(tmp_path, report(), [{"value": 0.5}], "# Tried\n", packages=["numpy"])
    found = json.loads((tmp_path / "tried.json").read_text(encoding="utf-8"))
    assert found["measurements"] == [{"value": 0.5}]
    assert found["sides"]["newsie"]["packages"].keys() == {"numpy"}
    assert "# Tried" in (tmp_path / "tried.md").read_text(encoding="utf-8")
