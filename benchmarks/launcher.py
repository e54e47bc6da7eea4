"""Run a command and write what it took to a file: python -I -S launcher.py REPORT COMMAND...

A process of its own, and a small one: on Linux, a process starts with the peak memory of the one
that started it, so that a large one would be measured instead of the command.
"""

import json
import os
import sys
import time
from pathlib import Path


def main(report: str, *command: str) -> int:
    """Write the report; the exit code is the command's."""
    started = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    content = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        # Linux counts in KiB, macOS in bytes.
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    Path(report).write_text(json.dumps(content), encoding="utf-8")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
