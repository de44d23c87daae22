"""How this process and its children get memory: a tensor's pages are kept for the next one, and are large; modules stay.

A forward pass of ViT-B makes tensors of some 12 MB and drops them. glibc gives each back to the system at once, and the
next one's pages are cleared and mapped anew: a quarter of the time of an inference here (EXPERIMENTS.md).

Importing torch and what a prediction needs beside it makes 600,000 objects. Python searches them for garbage again and
again while they become more, and once more at its end: 0.6 s, in which nothing is found.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

KEPT = {
    "MALLOC_MMAP_THRESHOLD_": 1 << 25,  # the most that glibc takes: larger ones still come and go
    "MALLOC_TRIM_THRESHOLD_": (1 << 31) - 1,
}
"""glibc's variables for the children, in bytes."""
_PARAMETERS = {"MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_TRIM_THRESHOLD_": -1}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h


def keep_memory() -> None:
    """For processes that are ours, before torch is imported. What the user has set stays; without glibc nothing happens."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch asks Linux for huge pages
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, size in KEPT.items():
            if name not in os.environ:
                os.environ[name] = str(size)
                mallopt(_PARAMETERS[name], size)


@contextmanager
def paused_collection() -> Iterator[None]:
    """While a million rows become as many objects, which all stay: the search for garbage would take a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.enable() if was_on else None


@contextmanager
def uncollected() -> Iterator[None]:
    """For the imports of a process that is ours: what is made inside is never searched for garbage.

    Once torch is there nothing changes: a second time, garbage of the first would be kept with the rest.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
