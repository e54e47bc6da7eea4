from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from newsie.cli.streams import Screen
from newsie.cli.terminal import Style
from newsie.inference.classifier import Classifier

TEXT = "goal cup ! the match\nthe league says shares of the keeper"


def stdin(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_table_for_people(newsie: Any, tiny_classifier: Classifier) -> None:
    code, out, err = newsie("explain", TEXT)
    assert (code, err) == (0, "")
    title, section, mood, legend = out.split("\n\n")
    found = tiny_classifier.explain(TEXT)
    assert title == "goal cup ! the match"
    assert legend.startswith("Points by which a word raises (+) or lowers (-)")
    assert legend.rstrip().endswith("all bars of an article are to one scale.")
    tops = [abs(found.strongest(task, 1)[0][1]) for task in ("section", "mood")]
    top = max(tops)
    assert min(tops) < 0.9 * top  # or one scale for each task would show the same
    for task, block in (("section", section), ("mood", mood)):
        first, *rows = block.splitlines()
        assert first == f"{task}  {found.chosen[task]} {100 * found.score(task):.0f} %"
        words = [(word.text, f"{100 * x:+.1f}") for word, x in found.strongest(task, 6)]
        assert [tuple(row.split()[:2]) for row in rows] == words
        # Both tasks to one scale: the strongest word of all fills it, and a word half as strong half of it.
        for row, (_, effect) in zip(rows, found.strongest(task, 6), strict=True):
            assert row.count("█") == int(30 * abs(effect) / top + 1 / 16)
    assert "\x1b" not in out


def test_strength_is_seen_in_colour(
    newsie: Any, tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    (word, effect), *_ = tiny_classifier.explain(TEXT, tasks=["section"]).strongest("section")
    out = newsie("explain", TEXT, "--task", "section").out
    assert f"\x1b[7;1;{36 if effect > 0 else 33}m{word.text}\x1b[0m" in out


@pytest.mark.parametrize(
    ("weight", "code"),
    [(1, "7;1;36"), (-0.6, "7;1;33"), (0.3, "1;36"), (-0.1, "33"), (0.05, ""), (0, "")],
)
def test_weights(weight: float, code: str) -> None:
    style = Style(sys.stdout)
    style._enabled = True
    out = io.StringIO()
    Screen(out).write(style.weigh("goal", weight))
    assert out.getvalue() == (f"\x1b[{code}mgoal\x1b[0m" if code else "goal")


def test_json_is_what_python_gives(newsie: Any, tiny_classifier: Classifier) -> None:
    code, out, err = newsie("explain", TEXT, "cup", "--json")
    assert (code, err) == (0, "")
    assert rows_of(out) == [
        {"id": "", "headline": text.partition("\n")[0], **tiny_classifier.explain(text).to_json()}
        for text in (TEXT, "cup")
    ]


def test_a_label_is_explained_in_the_tasks_that_have_it(newsie: Any) -> None:
    (row,) = rows_of(newsie("explain", TEXT, "--label", "loud", "--json").out)
    assert {task: found["label"] for task, found in row["tasks"].items()} == {"mood": "loud"}


def test_wrong_labels(newsie: Any) -> None:
    code, out, err = newsie("explain", TEXT, "--label", "sport")
    assert (code, out) == (2, "")
    assert (
        "no label 'sport' in section, mood; there are: business, calm, loud, science, sports."
        in err
    )
    assert "Did you mean sports?" in err
    code, _, err = newsie("explain", TEXT, "--label", "loud", "--task", "section")
    assert code == 2
    assert "no label 'loud' in section; there are: business, science, sports." in err


def test_wrong_usage(newsie: Any, tmp_path: Path) -> None:
    assert newsie("explain").code == 2
    assert newsie("explain", "goal", "--file", "x.csv").code == 2
    assert "no task 'sections'" in newsie("explain", "goal", "--task", "sections").err
    assert "there is no such file" in newsie("explain", "articles.csv").err


@pytest.mark.parametrize("text", ["", " ", "\0"])
def test_no_text_is_a_failure(newsie: Any, text: str) -> None:
    code, out, err = newsie("explain", text)
    assert (code, out) == (1, "")
    assert err.startswith("newsie: article number 1 has neither a headline nor a body")


def test_standard_input(newsie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(
        monkeypatch, '{"id": "1", "headline": "goal", "body": "the cup"}\n{"headline": "shares"}\n'
    )
    code, out, _ = newsie("explain", "-", "--json")
    assert code == 0
    assert [(row["id"], len(row["words"])) for row in rows_of(out)] == [("1", 3), ("", 1)]


def test_what_was_not_read_is_told(newsie: Any) -> None:
    code, _, err = newsie("explain", "cup\n" + "goal " * 60, "--json")
    assert code == 0
    assert err == (
        "article 1 is longer than the model reads (32 tokens); what follows 'goal' was not read\n"
    )


def test_control_sequences_do_not_reach_the_terminal(newsie: Any) -> None:
    assert "\x1b" not in newsie("explain", "goal \x1b[31mred\x07 cup\n\x1b[2Jthe").out


def test_nothing_that_the_model_knows(newsie: Any) -> None:
    code, out, _ = newsie("explain", "\ufffd" * 5_000)
    assert code == 0
    assert out.count("no word alone moves it") == 2
