"""How this process and its children get memory: a tensor's pages are kept for the next one, and are large.

A forward pass of ViT-B makes tensors of some 12 MB and drops them. glibc gives each back to the system at once, and the
next one's pages are cleared and mapped anew: a quarter of the time of an inference here (EXPERIMENTS.md).
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

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
