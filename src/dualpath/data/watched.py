"""A DataLoader for video decoders: C code that crashes or hangs ends a worker, and that is noticed, in time and in order."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from dualpath.data.batches import Shards
from dualpath.data.clips import KeyedClips, TestClips
from dualpath.errors import DualPathError, FetchError
from dualpath.processes import child_context
from dualpath.video.decoding.places import SECONDS

STALL_SECONDS, STALL_SECONDS_A_CLIP = 120.0, 15.0
"""So much longer than one file may a batch take, the start of the workers included, before they are taken for hanging."""
FETCH_SECONDS = 3600.0
"""So much longer where shards are fetched: fetching has time limits of its own."""


class WorkersLost(DualPathError, RuntimeError):
    """A decoding process crashed, was ended from outside or hung, and no video is to blame."""


def patience(clips: int, shards: Shards | None, *, seconds: float = SECONDS) -> float:
    """Seconds that a batch of so many clips may take before its workers are said to hang; `seconds` are those of a file."""
    fetching = FETCH_SECONDS if shards is not None and shards.remote else 0
    return STALL_SECONDS + seconds + STALL_SECONDS_A_CLIP * clips + fetching


class ClipLoader(DataLoader[Any]):
    """A DataLoader whose workers suit video decoders, and which notices those that crash or hang.

    While it is iterated it raises WorkersLost for them, at the place where a batch is waited for and nowhere else.
    """

    def __init__(
        self,
        dataset: KeyedClips | TestClips,
        *,
        batches: Iterable[list[Any]],
        collate: Callable[[Any], Any],
        workers: int,
        pin_memory: bool,
        persistent: bool,
        stall: float,
    ) -> None:
        self.stall = stall
        self._children: set[Any] = set()
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=persistent and workers > 0,
            multiprocessing_context=child_context() if workers else None,
            worker_init_fn=_start_worker,
            # DataLoader draws a number at each start: from its own source, or how often a run was resumed would show
            # in the next dropout mask.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        before, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
        batches = super().__iter__()
        self._children |= set(multiprocessing.active_children()) - before
        _calm(handler)
        while True:
            try:
                with self._watched():
                    batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as problem:
                if not self._is_loss(problem):
                    raise
                self._end_children()  # the others are of no use without it
                raise WorkersLost(
                    f"a decoding process was ended from outside, crashed or hung ({str(problem) or type(problem).__name__}); "
                    "look at the memory, lower --workers"
                ) from problem
            # DataLoader itself would rebuild a worker's exception from a traceback in text.
            if isinstance(batch, FetchError):
                raise batch
            yield batch

    def _is_loss(self, problem: Exception) -> bool:
        """Whether a worker has ended: torch says so, or what the worker had announced cannot be fetched from it any more."""
        if isinstance(problem, RuntimeError):
            return str(problem).startswith("DataLoader worker (pid")
        return bool(self._children) and "in DataLoader worker process" not in str(problem)  # raised there and told here

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Ends workers that hang, which is then noticed like a crash."""
        if not self._children:
            yield
            return
        watch = threading.Timer(self.stall, self._end_children)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _end_children(self) -> None:
        for child in self._children:
            child.kill()


def _calm(before: Any) -> None:
    """Takes back the handler by which torch tells of a worker's death: it would do so in the midst of an optimizer step."""
    handler = signal.getsignal(signal.SIGCHLD)
    torchs = getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"
    if torchs and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before if handler is not before and before is not None else signal.SIG_DFL)


def _start_worker(worker: int) -> None:
    del worker
    torch.set_num_threads(1)  # the workers are the parallelism
