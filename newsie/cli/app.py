"""All commands together, and what happens when one fails."""

from __future__ import annotations

import os
import sys
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
from newsie.cli.train import train
from newsie.errors import NewsieError
from newsie.version import __version__

__all__ = ["app"]

INTERRUPTED = 130


class Commands(TyperGroup):
    """The group of all commands; turns what they raise into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NewsieError as error:
            if os.environ.get("NEWSIE_DEBUG", "0") not in ("", "0"):
                raise
            print(f"newsie: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:
            # Whoever read our output has seen enough ("| head"). What is still buffered must not
            # be flushed into the closed pipe when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:  # the disk is full, a file is gone, ...
            if os.environ.get("NEWSIE_DEBUG", "0") not in ("", "0"):
                raise
            print(f"newsie: {error}", file=sys.stderr)
            raise typer.Exit(NewsieError.exit_code) from error
        except KeyboardInterrupt:
            print("newsie: interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
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
