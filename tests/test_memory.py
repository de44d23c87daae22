"""Memory is kept for the next tensor, by this process and its children; imports are not searched for garbage."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dualpath.memory import KEPT

PROGRAM = """
import os, resource, sys
if "keep" in sys.argv:
    from dualpath.memory import keep_memory
    keep_memory()
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def round_trip():
    block = libc.malloc(12_000_000)
    ctypes.memset(block, 1, 12_000_000)
    libc.free(block)
round_trip()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    round_trip()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*words: str, **environment: str) -> int:
    run = [sys.executable, "-c", PROGRAM, *words]
    inherited = {name: value for name, value in os.environ.items() if name not in KEPT}
    return int(subprocess.run(run, check=True, capture_output=True, text=True, env=inherited | environment).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_pages_are_mapped_once() -> None:
    pages = 12_000_000 // 4096
    assert faults("keep") < pages / 4
    # What the user has set stays: everything from 4096 bytes on comes and goes.
    assert faults("keep", MALLOC_MMAP_THRESHOLD_="4096", MALLOC_TRIM_THRESHOLD_="4096") > 4 * pages


IMPORT = """
import gc, sys, types
from dualpath.memory import uncollected
def searches():
    return sum(generation["collections"] for generation in gc.get_stats())
def make():
    before = searches()
    made = [[] for _ in range(100_000)]
    return made, searches() - before
kept, searched = make()
told, frozen = [searched > 0], gc.get_freeze_count()  # Python 3.12 begins with some
try:
    with uncollected():
        raise ImportError
except ImportError:
    told += [gc.isenabled(), gc.get_freeze_count() == frozen]
with uncollected():
    kept, searched = make()
told += [searched == 0, gc.isenabled(), gc.get_freeze_count() > frozen + 100_000]
sys.modules["torch"] = types.ModuleType("torch")
frozen = gc.get_freeze_count()
with uncollected():
    more, searched = make()
print(told, searched > 0, gc.get_freeze_count() <= frozen)
"""


def test_imports_are_not_searched_for_garbage() -> None:
    told = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True).stdout
    assert told == f"{[True] * 6} True True\n"
