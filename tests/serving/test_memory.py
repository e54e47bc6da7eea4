"""What a server does with memory that is free again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# glibc says in mallinfo2 how many bytes lie in mappings of their own.
BLOCK_AFTER_A_LARGER_ONE = """
import ctypes
from newsie.serving.http.process import give_back_memory

class Found(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Found
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

if SETTING:
    give_back_memory()
libc.free(libc.malloc(8_000_000))
before = libc.mallinfo2().hblkhd
libc.malloc(1_000_000)
print(libc.mallinfo2().hblkhd - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
@pytest.mark.parametrize(("setting", "mapped"), [(False, False), (True, True)])
def test_a_block_goes_back_to_the_system_however_large_the_one_before(
    setting: bool, mapped: bool
) -> None:
    script = BLOCK_AFTER_A_LARGER_ONE.replace("SETTING", str(setting))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) >= 1_000_000) == mapped
