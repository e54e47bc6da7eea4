"""The app with all commands, and its error handling."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from newsie.cli.cascade import cascade
from newsie.cli.classify import classify
from newsie.cli.compare import compare
from newsie.cli.confusion import confusion
from newsie.cli.doctor import doctor
from newsie.cli.evaluate import evaluate
from newsie.cli.explain import explain
from newsie.cli.export import export
from newsie.cli.models import models, rollback
from newsie.cli.push import push
from newsie.cli.retrain import retrain
from newsie.cli.search import search
from newsie.cli.serve import serve
from newsie.cli.streams import standard_streams
from newsie.cli.terminal import note
from newsie.cli.train import train
from newsie.errors import NewsieError
from newsie.printable import printable
from newsie.version import __version__

__all__ = ["app"]

INTERRUPTED = 130

ADVICE = {
    errno.ENOSPC: "free some space, and type the same command again",
    errno.EDQUOT: "free some space, and type the same command again",
    errno.EROFS: "name a folder that can be written to",
    errno.EACCES: "name another one, or have its permissions changed",
    errno.EPERM: "name another one, or have its permissions changed",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
}
"""Advice by the number of a system error."""

WRAPPED = re.compile(r"\b(?:os error |code: |Errno )(\d+)\b")
"""The forms in which libraries with error types of their own, such as Safetensors, quote system errors."""

RESUMABLE = ("train", "compare", "search")
"""The commands that can be continued. `classify` and `retrain` report themselves what they keep."""

_UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
"""The base class of all usage errors. Typer provides it under changing names."""


class Commands(TyperGroup):
    """The group of all commands, which turns errors into a message and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # Rich's bars move the cursor, which no text from outside may do.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        with standard_streams():
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _printable_usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _printable_usage_errors():
                result = super().invoke(ctx)
                sys.stdout.flush()  # while its errors are still caught
                return result
        except BrokenPipeError:
            # The reader of the output has stopped ("| head"). The buffered rest must not be flushed
            # into the closed pipe when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            if ctx.invoked_subcommand in RESUMABLE:
                note("what is finished is kept; type the same command again to go on")
            note("newsie: interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            message = _describe(error)
            if message is None or os.environ.get("NEWSIE_DEBUG", "0") not in ("", "0"):
                raise
            note(f"newsie: {message}")
            raise typer.Exit(getattr(error, "exit_code", NewsieError.exit_code)) from error


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Escape control characters in usage errors, which Typer prints itself."""
    try:
        yield
    except _UsageError as error:
        error.message = printable(error.message)  # type: ignore[attr-defined]
        raise


def _describe(error: Exception) -> str | None:
    """Return the message of an error, or None for a bug in the program.

    The message of a system error has the file, the reason and what to do.
    """
    if isinstance(error, NewsieError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return place + _with_advice(error.errno or 0, error.strerror)
    number = WRAPPED.search(str(error))
    if number and int(number[1]) in ADVICE:
        return _with_advice(int(number[1]), os.strerror(int(number[1])))
    return str(error) if isinstance(error, OSError) else None


def _with_advice(number: int, reason: str) -> str:
    return f"{reason}; {ADVICE[number]}" if number in ADVICE else reason


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Classify news articles, and measure and train the models that do it.\n\n"
    'Try: newsie classify "Late goal wins the cup"',
)
app.command()(classify)
app.command()(compare)
app.command()(cascade)
app.command()(confusion)
app.command()(doctor)
app.command()(evaluate)
app.command()(explain)
app.command()(export)
app.command()(models)
app.command()(push)
app.command()(retrain)
app.command()(rollback)
app.command()(search)
app.command()(train)
app.command()(serve)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"newsie {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options before the command."""
