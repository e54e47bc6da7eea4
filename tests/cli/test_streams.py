"""No control character of foreign text reaches a terminal, and no encoding of the output stops a command."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.cli.app import app
from newsie.cli.streams import CLEAR_LINE, MARKS, PLAINER, Screen, standard_streams
from newsie.data.writers import json_line
from newsie.printable import one_line, printable
from tests.cli.conftest import Outcome, Run
from tests.tiny import LABELS, WORDS

CONTROL = "".join(
    character
    for character in map(chr, range(0x2100))
    if unicodedata.category(character) in ("Cc", "Zl", "Zp")
    or unicodedata.bidirectional(character)
    in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
)
"""Every character that moves a cursor, starts a sequence, ends a line or turns the direction."""

NAME = (
    CONTROL.replace("\0", "").replace("\n", "")
    + "\x1b]0;title\x07\x1b[2J\x9b31m[red]red[/red][link=http://a.example]b[/link]"
)
"""What a hostile file is called."""

HOSTILE = "\n" + NAME

IN_BUNDLE = "".join(character for character in NAME if character not in CONTROL)
"""The part of it that a manifest may hold: markup. A bundle with the rest is refused."""


def escaped(text: str) -> set[str]:
    """The control characters in a text, but the line feeds of our own lines."""
    return set(text) & (set(CONTROL) - {"\n"})


def check(outcome: Outcome, *codes: int) -> None:
    assert outcome.code in codes, outcome.err
    assert not escaped(outcome.out)
    assert not escaped(outcome.err)
    assert "Traceback" not in outcome.err


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with hostile labels and a hostile name."""
    from newsie.bundles.bundle import read_bundle, write_bundle

    space = LABELS.to_json()
    for task in space:
        task["labels"] = [f"{IN_BUNDLE}{label}" for label in task["labels"]]
    given = read_bundle(tiny_bundle)
    manifest = given.manifest
    return write_bundle(
        tmp_path_factory.mktemp("shelf") / "hostile",
        name=f"tiny{IN_BUNDLE}",
        label_space=type(LABELS).from_json(space),
        encoding=manifest.encoding,
        calibration=manifest.calibration,
        model=tiny_bundle / "model.onnx",
        tokenizer=(tiny_bundle / "tokenizer.json").read_text("utf-8"),
        card=given.path.joinpath("README.md").read_text("utf-8"),
    ).path


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    """A file with hostile texts, labels, ids, columns and a hostile name."""
    path = tmp_path / f"{NAME.replace('/', '')}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(60):
            label = ("business", "science", "sports")[number % 3]
            words = " ".join(WORDS[label].split()[number % 5 :][:5])
            row = {
                "id": f"{HOSTILE}{number}",
                "headline": f"{words} {number} {HOSTILE}",
                "body": HOSTILE,
                "section": f"{IN_BUNDLE}{label}",
                "mood": "calm",
                f"column{HOSTILE}": HOSTILE,
            }
            file.write(json.dumps(row) + "\n")
        file.write(f'{{"headline": "broken {NAME}"}}\n')
        file.write(json.dumps({"headline": ""}) + "\n")
    return path


def test_commands_that_read_a_file(
    newsie: Run, bundle: Path, articles: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / f"out{NAME.replace('/', '')}", ("--model", bundle)
    for command in (
        ("classify", HOSTILE + "goal", *model),
        ("classify", "--file", articles, *model),
        ("classify", "--file", articles, *model, "--json"),
        ("classify", "--file", articles, *model, "-o", f"{out}.csv"),
        ("classify", "--file", articles, *model, "-o", f"{out}.csv", "--strict"),
        ("classify", "--file", f"{articles.parent}/*.jsonl", *model, "-o", f"{out}/"),
        ("explain", "--file", articles, *model, "--task", "section"),
        ("explain", "--file", articles, *model, "--json", "--task", "section"),
        ("evaluate", articles, *model),
        ("evaluate", articles, *model, "--json"),
        ("doctor", articles, *model),
        ("doctor", articles, *model, "--json"),
        ("doctor", articles, *model, "--fix", f"{out}.jsonl", "--suspects", f"{out}.s.csv"),
    ):
        check(newsie(*command), 0, 1, 2, 3)


@pytest.mark.slow
def test_the_confusion_report(newsie: Run, bundle: Path, articles: Path, tmp_path: Path) -> None:
    check(newsie("confusion", articles, "-o", tmp_path / "report", "--model", bundle), 0)


def test_bundles_in_a_folder(newsie: Run, bundle: Path, tmp_path: Path) -> None:
    shelf = tmp_path / f"shelf{NAME.replace('/', '')}"
    shutil.copytree(bundle, shelf / f"a{NAME.replace('/', '')}")
    (shelf / f"damaged{NAME.replace('/', '')}").mkdir()
    (shelf / f"damaged{NAME.replace('/', '')}" / "newsie.json").write_text(f'{{"{NAME}": 1}}')
    check(newsie("models", shelf), 0)
    check(newsie("models", shelf, "--json"), 0)
    check(newsie("models", shelf, "--use", f"none{NAME}"), 1)
    check(newsie("rollback", shelf), 1)


@pytest.mark.parametrize(
    "command",
    [
        (f"command{NAME}",),
        (f"--option{NAME}",),
        ("classify", f"--option{NAME}"),
        ("classify", "goal", "--task", NAME),
        ("classify", "goal", "--task", "section", "--top-k", NAME),
        ("classify", "goal", "--model", f"owner/{NAME}"),
        ("classify", "--file", f"{NAME}.csv"),
        ("classify", "--file", f"{NAME}*.csv"),
        ("classify", "goal", "-o", f"{NAME}.txt"),
        ("classify", "goal", "-o", f"no folder{NAME}/a.csv"),
        ("classify", "--file", "a.csv", "--columns", NAME),
        ("classify", "--file", "a.csv", "--columns", f"{NAME}=a, b=c"),
        ("explain", "goal", "--label", NAME),
        ("evaluate", f"{NAME}.csv"),
        ("doctor", f"{NAME}.csv"),
        ("doctor", "a.csv", "--task", NAME),
        ("confusion", f"{NAME}.csv", "-o", "report"),
        ("cascade", NAME, NAME, "-o", NAME, "--run", NAME),
        ("export", f"{NAME}", "--format", NAME),
        ("export", f"{NAME}", "--format", "transformers", "--task", NAME),
        ("push", f"{NAME}"),
        ("retrain", f"{NAME}.csv", "-o", f"{NAME}", "--map", NAME),
        ("retrain", f"{NAME}.csv", "-o", f"{NAME}"),
        ("train", f"{NAME}.toml"),
        ("compare", f"{NAME}.toml", "-o", NAME),
        ("search", f"{NAME}.toml", "-o", NAME, "--max-ms", "1", "--max-mb", NAME),
        ("search", f"{NAME}.toml", "-o", NAME, "--max-ms", "1", "--max-mb", "1"),
        ("serve", "--model", f"{NAME}", "--port", "0"),
        ("serve", "--api-key-file", f"{NAME}", "--port", "0"),
    ],
    ids=lambda command: " ".join(command).replace(NAME, "NAME"),
)
def test_messages_that_quote_what_was_given(
    newsie: Run, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("headline\ngoal\n")
    check(newsie(*command), 1, 2)


def test_a_label_with_a_line_break_breaks_no_table(newsie: Run, bundle: Path) -> None:
    lines = newsie("classify", "goal", "--model", bundle, "--top-k", "1").out.splitlines()
    assert [line.split()[0] for line in lines] == ["goal", "section", "mood"]


def test_on_a_terminal_only_our_own_sequences_are_seen(bundle: Path) -> None:
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "newsie", "classify", f"goal{NAME}", "--model", str(bundle)],
        stdout=theirs,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "", "COLUMNS": "400"},
        check=True,
    )
    os.close(theirs)
    seen = b""
    while chunk := read(ours):
        seen += chunk
    text = seen.decode().replace("\r\n", "\n")
    assert "\x1b[1mgoal" in text
    for code in MARKS:
        text = text.replace(f"\x1b[{code}m", "")
    assert not escaped(text)


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # the other end is closed
        return b""


@given(st.text(st.characters(codec=None), max_size=30))
def test_what_is_printed_can_be_printed(text: str) -> None:
    assert not escaped(printable(text))
    assert not set(one_line(text)) & {"\n", "\t"}
    assert one_line(one_line(text)) == one_line(text)
    for encoding in ("ascii", "cp1252", "latin-1", "utf-8", "utf-16"):
        printable(text).encode(encoding, PLAINER)
    assert printable("Zürich — 中文 🎉") == "Zürich — 中文 🎉"


@given(
    st.recursive(
        st.text(st.characters(codec=None), max_size=20) | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_json_is_exact_and_without_control_characters(value: object) -> None:
    line = json_line(value)
    assert json.loads(line) == value
    assert not escaped(line.decode("utf-8"))


def test_styles_pass_and_foreign_sequences_do_not() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.writelines([f"{MARKS['1']}a\x1b[31mb{MARKS['0']}", f"{CLEAR_LINE}\r\u202e"])
    assert out.getvalue() == "\x1b[1ma\\x1b[31mb\x1b[0m\r\x1b[K\\x0d\\u202e"


def test_a_file_name_that_is_not_utf8_is_shown() -> None:
    assert printable("caf\udce9.csv") == "caf\\xe9.csv"
    assert printable("half \ud83d") == "half \\ud83d"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    "command",
    [
        ("classify", "goal cup – “café” 中"),
        ("classify", "goal – café 中", "--json"),
        ("explain", "goal – café 中", "--task", "section"),
        ("evaluate", "a.csv"),
        ("doctor", "a.csv"),
        ("--help",),
        ("search", "--help"),
    ],
    ids=lambda command: " ".join(command[:1]),
)
def test_an_encoding_without_our_signs(
    command: tuple[str, ...],
    encoding: str,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [f"goal — “{n}” café 中,{('sports', 'science')[n % 2]}\n" for n in range(40)]
    (tmp_path / "a.csv").write_text("headline,section\n" + "".join(rows), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSIE_MODEL", str(tiny_bundle))
    out, err = (io.BytesIO() for _ in range(2))
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding=encoding))
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(err, encoding=encoding))
    with pytest.raises(SystemExit) as ended:
        app(list(command), prog_name="newsie")
    sys.stdout.flush()
    assert ended.value.code in (0, 3)
    if "--json" in command:
        assert json.loads(out.getvalue())["headline"] == "goal – café 中"
    elif command[0] == "classify":
        assert b"####" in out.getvalue()


def test_plainer_signs() -> None:
    text = "█▋▏ → … ✗ · — “é” ½ 中"
    assert text.encode("ascii", PLAINER) == rb'## -> ... x * - "e" \xbd \u4e2d'


# --- streams that are closed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("<&-", 1, "stdin"),
        (">&-", 1, "standard output is closed"),
        ("2>&-", 0, ""),
        (">/dev/full", 1, "No space left on device"),
    ],
)
def test_closed_and_full_streams(
    redirection: str, code: int, message: str, tiny_bundle: Path
) -> None:
    text = "-" if redirection == "<&-" else "goal"
    for style in ("--json", "--task section"):
        done = subprocess.run(
            ["bash", "-c", f'"$0" -m newsie classify {text} {style} {redirection}', sys.executable],
            env={**os.environ, "NEWSIE_MODEL": str(tiny_bundle)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        lines = done.stderr.splitlines()
        assert len(lines) == (1 if message else 0)
        assert message in done.stderr


def test_a_closed_stream_is_not_taken_by_a_file(tiny_bundle: Path, tmp_path: Path) -> None:
    """With descriptors 1 and 2 closed, the next file would get their numbers."""
    command = f'"$0" -m newsie classify goal -o "$1" >&- 2>&-; echo $? > "{tmp_path}/code"'
    subprocess.run(
        ["bash", "-c", command, sys.executable, str(tmp_path / "out.jsonl")],
        env={**os.environ, "NEWSIE_MODEL": str(tiny_bundle)},
        check=True,
    )
    assert (tmp_path / "code").read_text().strip() == "0"
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(line)["headline"] == "goal"


def test_the_streams_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    with standard_streams():
        print("→", file=sys.stdout)
        assert cast(object, sys.stdout) is not out
    assert sys.stdout is out
    assert out.errors == "strict"
    out.seek(0)
    assert out.read() == "->\n"
