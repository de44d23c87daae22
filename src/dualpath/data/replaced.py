"""Whether a file is still the one that a training began with.

    look_at(path) --> Seen(size, mtime_ns, edges)    why_replaced(path, seen) --> a reason, or None

With the same size and time of change a file is the same, as for `dualpath data check`. One that was only written again,
as a copied data set is on which a run is resumed, has the same size and the same first and last bytes, too.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

EDGE = 1 << 16
"""Bytes at either end that are compared. There lie the tables that say how long each coded picture is, if anywhere."""
THREADS = 16
"""Files that are looked at together: a disk on a network takes its time for each, and a core has little to do."""


class Seen(NamedTuple):
    """A file when a training began: bytes, time of change, and a hash of its ends, "" where none was made."""

    size: int
    mtime_ns: int
    edges: str = ""


def look_at(path: Path) -> Seen | None:
    """A file as it is now; None for a folder of frames, a part of a shard and what is not there: reading says so."""
    try:
        told = path.stat()
        return Seen(told.st_size, told.st_mtime_ns, _edges(path)) if stat.S_ISREG(told.st_mode) else None
    except OSError:
        return None


def look_at_all(paths: Iterable[Path], progress: Callable[[int, int], None]) -> dict[Path, Seen]:
    """Those that are files; `progress` is told (done, in all) now and then."""
    each = list(dict.fromkeys(paths))
    seen: dict[Path, Seen] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for number, (path, found) in enumerate(zip(each, pool.map(look_at, each), strict=True), 1):
            if found is not None:
                seen[path] = found
            if number % 1000 == 0:
                progress(number, len(each))
    return seen


def why_replaced(path: Path, seen: Seen) -> str | None:
    """What shows that a file is another one by now; None if nothing does."""
    try:
        told = path.stat()
        if not stat.S_ISREG(told.st_mode) or (told.st_size, told.st_mtime_ns) == seen[:2]:
            return None
        if told.st_size == seen.size and (not seen.edges or _edges(path) == seen.edges):
            return None
    except OSError:
        return None
    how = "other content of the same size" if told.st_size == seen.size else f"{seen.size} bytes, now it has {told.st_size}"
    return f"was replaced after the training began: it had {how}; put the first one back, or train into another folder"


def _edges(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        edges = hashlib.blake2b(file.read(EDGE), digest_size=8)
        file.seek(-min(EDGE, file.seek(0, os.SEEK_END)), os.SEEK_END)
        edges.update(file.read(EDGE))
    return edges.hexdigest()
