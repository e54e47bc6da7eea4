"""The command line: `newsie COMMAND`. stdout carries data, stderr everything else.

Exit codes: 0 done, 1 failure, 2 wrong usage, 3 quality gate failed, 130 interrupted.
"""

from __future__ import annotations

import os

__all__ = ["main"]


def main() -> None:
    """Run the console script."""
    # The threads of numpy's OpenBLAS spin for a tenth of a second when numpy is imported, and would
    # take a core from those that classify. 2^24 clock cycles are some milliseconds.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "24")
    from newsie.cli.app import app

    app(prog_name="newsie")
