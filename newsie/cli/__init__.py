"""The command line: `newsie COMMAND`. stdout is data, stderr is everything else.

Exit codes: 0 done, 1 failure, 2 wrong usage, 3 quality gate failed, 130 interrupted.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script."""
    from newsie.cli.app import app

    app(prog_name="newsie")
