from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from newsie.cli.streams import standard_streams
from newsie.cli.terminal import bar, counted, shorten, width_of
from newsie.errors import NewsieError, QualityGateError
from newsie.version import __version__

COMMAND = [sys.executable, "-c", "from newsie.cli import main; main()"]


@pytest.fixture
def environment(tiny_bundle: Path) -> dict[str, str]:
    return {**os.environ, "NEWSIE_MODEL": str(tiny_bundle), "PYTHONUNBUFFERED": "1"}


def test_version(newsie: Any) -> None:
    assert newsie("--version") == (0, f"newsie {__version__}\n", "")


def test_help_lists_the_commands(newsie: Any) -> None:
    code, out, _ = newsie("--help")
    assert code == 0
    for command in ("classify", "evaluate", "train"):
        assert command in out
        assert newsie(command, "--help").code == 0
        assert newsie(command, "-h").out == newsie(command, "--help").out
    assert newsie("-h").out == out


def test_help_shows_the_defaults(newsie: Any) -> None:
    out = newsie("classify", "--help").out
    for default in ("bundled", "all", "3 in tables, 1 in CSV and Parquet, all in JSON"):
        assert f"(default: {default})" in out


def test_no_command_is_wrong_usage(newsie: Any) -> None:
    code, out, err = newsie()
    assert code == 2
    assert "classify" in out + err
    assert newsie("clasify").code == 2


def test_each_error_has_its_exit_code(newsie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, code in ((NewsieError("no"), 1), (QualityGateError("not good enough"), 3)):

        def fail(*_: Any, error: NewsieError = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("newsie.inference.classifier.Classifier.from_pretrained", fail)
        assert newsie("classify", "goal") == (code, "", f"newsie: {error}\n")


def test_errors_of_the_machine_are_told_in_a_line(
    newsie: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "out.jsonl")

    monkeypatch.setattr("newsie.inference.classifier.Classifier.from_pretrained", fail)
    message = (
        "newsie: out.jsonl: No space left on device; free some space, and type the same command "
        "again\n"
    )
    assert newsie("classify", "goal") == (1, "", message)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "out"), "out: Permission denied; name another"),
        (OSError(30, "Read-only file system", b"out"), "out: Read-only file system; name a folder"),
        (OSError("Cannot seek"), "Cannot seek"),
        (
            RuntimeError('I/O error: Os { code: 28, kind: StorageFull, message: "No space" }'),
            "No space left on device; free some space, and type the same command again",
        ),
        (ValueError("[Errno 30] Error writing bytes"), "Read-only file system; name a folder"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_errors_of_the_system_say_what_to_do(
    newsie: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("newsie.inference.classifier.Classifier.from_pretrained", fail)
    code, out, err = newsie("classify", "goal")
    assert (code, out) == (1, "")
    assert err.startswith(f"newsie: {message}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["train", "compare", "search"])
def test_an_interrupt_says_that_the_same_command_goes_on(
    newsie: Any, monkeypatch: pytest.MonkeyPatch, command: str, tmp_path: Path
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("newsie.training.config.read_recipe", stop)
    options = ["-o", tmp_path] if command != "train" else []
    options += ["--max-ms", "1", "--max-mb", "1"] if command == "search" else []
    code, out, err = newsie(command, "recipe.toml", *options)
    assert (code, out) == (130, "")
    assert err.splitlines() == [
        "what is finished is kept; type the same command again to go on",
        "newsie: interrupted",
    ]


def test_without_modules_of_posix(environment: dict[str, str], tmp_path: Path) -> None:
    """Windows has neither: files are still classified."""
    (tmp_path / "a.jsonl").write_text('{"headline": "goal"}\n')
    hidden = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))"
    command = [sys.executable, "-c", f"{hide}; {COMMAND[-1]}"]
    for arguments in (
        ["classify", "-f", "a.jsonl", "-o", "out.jsonl"],
        ["classify", "goal", "-o", "text.csv"],
        ["explain", "goal", "--task", "section"],
        ["models", "."],
    ):
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text())["headline"] == "goal"
    done = subprocess.run(
        [*command, "serve", "--port", "0"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("newsie: newsie serve runs on Linux and macOS; on Windows use")
    assert len(done.stderr.splitlines()) == 1


def test_tracebacks_are_for_debugging(
    newsie: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [*COMMAND, "classify", "goal", "--model", str(tmp_path / "nothing")]
    for debug, lines in (("1", True), ("0", False)):
        result = subprocess.run(
            command, env=environment | {"NEWSIE_DEBUG": debug}, capture_output=True, text=True
        )
        assert result.returncode == 1
        assert ("Traceback" in result.stderr) is lines
        assert "allowed are a directory" in result.stderr


def test_a_reader_that_has_seen_enough(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("the cup says new\n" * 20_000)
    command = [*COMMAND, "classify", "-f", str(path), "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["headline"] == "the cup says new"
        process.stdout.close()
        assert process.stderr.read() == "columns: headline <- 'headline'\n"
        assert process.wait(60) == 0


def test_an_interrupt_leaves_no_file(environment: dict[str, str], tmp_path: Path) -> None:
    command = [*COMMAND, "classify", "-", "-o", str(tmp_path / "out.jsonl")]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Tests that were started in the background do not hear it, and so nor would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"the cup says new\n" * 300)
        process.stdin.flush()
        until = time.monotonic() + 60
        while not list(tmp_path.glob(".out.jsonl*")) and time.monotonic() < until:
            time.sleep(0.05)
        assert list(tmp_path.glob(".out.jsonl*"))  # it is writing aside
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read().decode().splitlines()[-1] == "newsie: interrupted"
    assert list(tmp_path.iterdir()) == []


def test_stdout_is_data_only(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,headline\n1,goal\n2,\n3," + "cup " * 50 + "\n")
    result = subprocess.run(
        [*COMMAND, "classify", "-f", str(path), "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["1", "3"]
    assert "columns:" in result.stderr
    assert "skipped" in result.stderr
    assert "longer than the model reads (32 tokens)" in result.stderr
    assert "\r" not in result.stderr  # no progress where there is no terminal


def test_the_module_can_be_run(environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "newsie", "--version"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"newsie {__version__}\n"


def test_classifying_loads_neither_rich_nor_training(environment: dict[str, str]) -> None:
    code = (
        "import sys, atexit; from newsie.cli import main;"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "classify", "goal"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(result.stderr.split())
    assert "onnxruntime" in loaded
    assert not {"rich", "torch", "pyarrow", "newsie.training", "huggingface_hub"} & loaded


# --- what a person sees ---------------------------------------------------------------------------


def test_bars() -> None:
    assert bar(0.5, 10) == "█████"
    assert bar(1.0, 4) == bar(2.0, 4) == "████"
    assert bar(0.3125, 4) == "█▎"
    assert bar(0.0, 4) == bar(-1, 4) == ""


def test_widths() -> None:
    assert [width_of(text) for text in ("abc", "中文", "e\u0301", "🎉")] == [3, 4, 1, 2]
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "ab…"
    assert shorten("中文字", 5) == "中文…"


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted(range(3), "articles")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("newsie.cli.terminal.UPDATE_SECONDS", -1.0)
    with standard_streams():
        assert list(counted(range(2), "articles")) == [0, 1]
    err = capsys.readouterr().err
    assert "2 articles" in err
    assert err.endswith("\r\x1b[K")  # it wipes itself away
