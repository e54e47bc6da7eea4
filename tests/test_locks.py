from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from newsie import locks
from newsie.locks import try_lock, unlock


def test_a_lock_has_one_owner_until_it_is_released(tmp_path: Path) -> None:
    one, other = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    try:
        assert try_lock(one) is True
        assert try_lock(other) is False
        unlock(one)
        assert try_lock(other) is True
    finally:
        os.close(one)
        os.close(other)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_is_released_though_a_forked_process_has_the_file_open(tmp_path: Path) -> None:
    one, other = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert try_lock(one)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)  # until the test ends
        os._exit(0)
    try:
        unlock(one)
        assert try_lock(other)
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        for handle in (one, other, reading):
            os.close(handle)


def test_a_file_system_without_locks_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unsupported:
        LOCK_EX, LOCK_NB, LOCK_UN = 2, 4, 8

        @staticmethod
        def flock(handle: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_fcntl", Unsupported)
    assert try_lock(0) is None
    unlock(0)


def test_files_are_written_where_the_system_has_no_locks(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "from newsie.atomic import new_directory, write_text\n"
        "for text in ('old', 'new'):\n"
        "    write_text(Path('note'), text)\n"
        "    with new_directory(Path('folder'), replace=True) as aside:\n"
        "        (aside / text).touch()\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "new", "note"]
