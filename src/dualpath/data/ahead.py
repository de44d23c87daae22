"""Fetch the shards that a run will want next, while it computes on those it has.

A thread goes through the same batches as the run, a window of shards ahead of it, and has each shard fetched that is not
there yet. It decides nothing: a reader that is faster fetches, or waits, by itself, and a shard that cannot be fetched
is told by the reader that needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from dualpath.data.clips import Key
from dualpath.errors import DualPathError
from dualpath.video.decoding.fetched import fetch


def fetch_ahead(
    batches: Iterable[list[Key]], same: Iterable[list[Key]], shards: Sequence[int], files: Sequence[Path], *, window: int
) -> Iterator[list[Key]]:
    """Yields `batches`, and has the shards of the next ones fetched meanwhile.

    Args:
        batches: of a run.
        same: the same batches once more.
        shards: of each sample, the number of its shard.
        files: of each shard, the file in the cache.
        window: fetch so many shards ahead.
    """
    reached = threading.Semaphore(window)
    stop = threading.Event()

    def run() -> None:
        for shard in _in_turn(same, shards):
            reached.acquire()
            if stop.is_set():
                return
            if not files[shard].exists():
                with suppress(DualPathError, OSError):
                    fetch(files[shard])

    thread = threading.Thread(target=run, daemon=True, name="shards ahead")
    thread.start()
    seen: set[tuple[int, int]] = set()
    try:
        for batch in batches:
            new = {(epoch, shards[index]) for epoch, index in batch} - seen
            seen |= new
            reached.release(len(new)) if new else None
            yield batch
    finally:
        stop.set()
        reached.release()


def _in_turn(batches: Iterable[list[Key]], shards: Sequence[int]) -> Iterator[int]:
    """The shards in the order in which each epoch comes to them."""
    seen: set[tuple[int, int]] = set()
    for batch in batches:
        for epoch, index in batch:
            if (epoch, shards[index]) not in seen:
                seen.add((epoch, shards[index]))
                yield shards[index]
