"""What every benchmark's command does with an error that its user can mend."""

from __future__ import annotations

import os
from collections.abc import Callable

from newsie.errors import NewsieError

__all__ = ["run_command"]


def run_command(main: Callable[[], None]) -> None:
    """Run a benchmark; a file that is missing or cannot be read ends it with one line and exit code 1.

    With NEWSIE_DEBUG=1 the traceback is shown, as by the command newsie.
    """
    try:
        main()
    except (NewsieError, OSError) as error:
        if os.environ.get("NEWSIE_DEBUG", "0") not in ("", "0"):
            raise
        raise SystemExit(f"newsie: {error}") from error
