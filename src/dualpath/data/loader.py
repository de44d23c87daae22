"""Clips to batches, in parallel, the same ones whatever the number of workers.

    train_batches --keys (epoch, index)--> KeyedClips --> TrainBatch(indices, frames, labels, lost)
    0, 1, 2 ...   --index----------------> TestClips ---> ViewBatch(indices, frames, labels, unreadable)

The order is a pure function of (seed, epoch) and a worker holds no state: a run resumes in mid-epoch, and with another
number of workers, to the last digit. Batches are uint8 until they are on the device. A video that cannot be read makes
its batch smaller; one that ends or hangs its worker is the business of `dualpath.data.steady`.
"""

from __future__ import annotations

import multiprocessing
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from dualpath.data.ahead import fetch_ahead
from dualpath.data.clips import Key, KeyedClips, Lost, TestClips, TrainClips, Views, rng_for
from dualpath.data.manifest import Video
from dualpath.data.orders import GROUP, epoch_order, rank_batches, shard_order
from dualpath.errors import DualPathError, FetchError
from dualpath.video.decoding.fetched import ORIGIN
from dualpath.video.decoding.places import find_place

__all__ = [
    "ClipLoader",
    "Lost",
    "TestClips",
    "TrainBatch",
    "TrainClips",
    "ViewBatch",
    "Views",
    "WorkersLost",
    "epoch_order",
    "rng_for",
    "test_loader",
    "train_batches",
    "train_loader",
]


STALL_SECONDS, STALL_SECONDS_A_CLIP = 180.0, 15.0
"""So long may a batch take, the start of the workers included, before they are taken for hanging."""
FETCH_SECONDS = 3600.0
"""So much longer where shards are fetched: fetching has time limits of its own."""


class WorkersLost(DualPathError, RuntimeError):
    """A decoding process crashed, was ended from outside or hung, and no video is to blame."""


class TrainBatch(NamedTuple):
    """indices int64 (B,) into the dataset's videos, frames uint8 (B, T, C, S, S), labels int64 (B,); the others apart."""

    indices: Tensor
    frames: Tensor
    labels: Tensor
    lost: tuple[Lost, ...] = ()


class ViewBatch(NamedTuple):
    """indices int64 (B,), frames uint8 (B, V, T, C, S, S), labels int64 (B,) of the readable; the others apart."""

    indices: Tensor
    frames: Tensor
    labels: Tensor
    unreadable: tuple[Views, ...]


def train_batches(
    count: int,
    *,
    batch_size: int,
    seed: int,
    num_epochs: int,
    first_epoch: int = 0,
    first_batch: int = 0,
    shards: Sequence[int] | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[list[Key]]:
    """Gives the batches of a run in order, from batch `first_batch` of `first_epoch` to the end of the last epoch.

    Args:
        count: samples an epoch. What remains at its end makes a smaller batch; none crosses from epoch to epoch.
        batch_size: samples a batch.
        seed: of the run.
        num_epochs: of the whole run, those before `first_epoch` included.
        first_epoch: counted from 0.
        first_batch: within `first_epoch`, counted from 0.
        shards: of each sample, the number of the shard that it lies in: a few shards are visited at a time.
        rank: of several processes, which one the batches are for, see `orders.rank_batches`.
        ranks: how many processes share an epoch.
    """
    for epoch in range(first_epoch, num_epochs):
        source = {"seed": seed, "epoch": epoch}
        order = epoch_order(count, **source) if shards is None else shard_order(shards, **source)
        batches = rank_batches(order, batch_size=batch_size, rank=rank, ranks=ranks)
        for batch in batches[first_batch if epoch == first_epoch else 0 :]:
            yield [(epoch, index) for index in batch]


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
            # A forked child inherits the locks of threads that it does not have: with decoders it hangs.
            multiprocessing_context="spawn" if workers else None,
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
            except RuntimeError as problem:
                if not re.match(r"DataLoader worker \(pid", str(problem)):
                    raise
                self._end_children()  # the others are of no use without it
                raise WorkersLost(
                    f"a decoding process was ended from outside, crashed or hung ({problem}); look at the memory, lower "
                    "--workers"
                ) from problem
            # DataLoader itself would rebuild a worker's exception from a traceback in text.
            if isinstance(batch, FetchError):
                raise batch
            yield batch

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


def train_loader(
    dataset: KeyedClips,
    *,
    batch_size: int,
    num_epochs: int,
    first_epoch: int = 0,
    first_batch: int = 0,
    workers: int = 0,
    pin_memory: bool = False,
    rank: int = 0,
    ranks: int = 1,
) -> DataLoader[TrainBatch]:
    """Loads all batches of a run, see `train_batches`; one pass over it is the run, so workers start only once.

    Args:
        dataset: the clips; the order is that of its seed.
        batch_size: clips a batch.
        num_epochs: see `train_batches`.
        first_epoch: see `train_batches`.
        first_batch: see `train_batches`.
        workers: spawned processes; 0 reads in this one. The batches do not depend on it.
        pin_memory: for a CUDA device.
        rank: see `train_batches`.
        ranks: see `train_batches`.

    Raises:
        WorkersLost: while it is iterated, a worker crashes or hangs.
        FetchError: while it is iterated, a shard cannot be fetched.
    """
    found = shards_of(dataset.videos)
    batches = _RunBatches(len(dataset), batch_size, dataset.seed, num_epochs, first_epoch, first_batch, rank, ranks, found)
    # Not persistent: nothing but the pass itself then holds the workers, so they end with it, also when it raises.
    return ClipLoader(
        dataset,
        batches=batches,
        collate=partial(_collate_clips, shape=dataset.shape),
        workers=workers,
        pin_memory=pin_memory,
        persistent=False,
        stall=_patience(found) + STALL_SECONDS_A_CLIP * batch_size,
    )


def test_loader(
    dataset: TestClips,
    *,
    batch_size: int,
    first_batch: int = 0,  # noqa: PT028 (it is no test)
    workers: int = 0,  # noqa: PT028 (it is no test)
    pin_memory: bool = False,  # noqa: PT028 (it is no test)
) -> DataLoader[ViewBatch]:
    """Loads the videos in order, each once; may be iterated again, its workers stay.

    Videos in shards come shard by shard, so that each is fetched once, however small its cache.

    Args:
        dataset: the videos' views.
        batch_size: videos a batch (each has V views).
        first_batch: those before it are left out.
        workers: spawned processes; 0 reads in this one. The batches do not depend on it.
        pin_memory: for a CUDA device.
    """
    batches = BatchSampler(test_order(dataset)[first_batch * batch_size :], batch_size, drop_last=False)
    return ClipLoader(
        dataset,
        batches=batches,
        collate=partial(_collate_views, shape=dataset.shape),
        workers=workers,
        pin_memory=pin_memory,
        persistent=True,
        stall=_patience(shards_of(dataset.videos)) + STALL_SECONDS_A_CLIP * batch_size * dataset.shape[0],
    )


test_loader.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


@dataclass(frozen=True)
class _RunBatches:
    """`train_batches` with a length, and iterable more than once, as DataLoader wants it."""

    count: int
    batch_size: int
    seed: int
    num_epochs: int
    first_epoch: int
    first_batch: int
    rank: int
    ranks: int
    shards: Shards | None

    def __iter__(self) -> Iterator[list[Key]]:
        if self.shards is None or not self.shards.remote:
            return self._batches()
        return fetch_ahead(self._batches(), self._batches(), self.shards.numbers, self.shards.files, window=GROUP)

    def _batches(self) -> Iterator[list[Key]]:
        return train_batches(
            self.count,
            batch_size=self.batch_size,
            seed=self.seed,
            num_epochs=self.num_epochs,
            first_epoch=self.first_epoch,
            first_batch=self.first_batch,
            shards=None if self.shards is None else self.shards.numbers,
            rank=self.rank,
            ranks=self.ranks,
        )

    def __len__(self) -> int:
        an_epoch = len(rank_batches(range(self.count), batch_size=self.batch_size, rank=self.rank, ranks=self.ranks))
        return max(0, (self.num_epochs - self.first_epoch) * an_epoch - self.first_batch)


@dataclass(frozen=True)
class Shards:
    """Where samples lie that are parts of tars.

    Attributes:
        numbers: of each sample, its tar.
        files: of each tar, where it is or will be.
        remote: they are fetched from a URL.
    """

    numbers: tuple[int, ...]
    files: tuple[Path, ...]
    remote: bool


def shards_of(videos: Sequence[Video]) -> Shards | None:
    """The tars that videos are parts of; None if any is a file of its own. Their order does not depend on their folder."""
    places = [find_place(video.path) for video in videos]
    if not places or any(place.size is None for place in places):
        return None
    files = sorted({place.file for place in places}, key=lambda file: (file.name, file))
    number = {file: n for n, file in enumerate(files)}
    return Shards(tuple(number[place.file] for place in places), tuple(files), (files[0].parent / ORIGIN).is_file())


def _patience(shards: Shards | None) -> float:
    """How long a batch may take, besides its clips, before its workers are said to hang."""
    return STALL_SECONDS + (FETCH_SECONDS if shards is not None and shards.remote else 0)


def test_order(dataset: TestClips) -> list[int]:
    """The order in which test videos come: as they are; in shards, shard by shard, so that each is fetched once."""
    found = shards_of(dataset.videos)
    order = range(len(dataset))
    return list(order) if found is None else sorted(order, key=lambda index: found.numbers[index])


test_order.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def _collate_clips(
    items: list[tuple[int, Tensor, int] | Lost] | FetchError, *, shape: tuple[int, ...]
) -> TrainBatch | FetchError:
    """Puts the clips into one tensor, (0, *shape) if there are none."""
    if isinstance(items, FetchError):
        return items
    good = [item for item in items if not isinstance(item, Lost)]
    frames = [clip for _, clip, _ in good]
    return TrainBatch(
        torch.tensor([index for index, _, _ in good], dtype=torch.int64),
        torch.stack(frames) if frames else torch.empty((0, *shape), dtype=torch.uint8),
        torch.tensor([label for _, _, label in good], dtype=torch.int64),
        tuple(item for item in items if isinstance(item, Lost)),
    )


def _collate_views(items: list[Views] | FetchError, *, shape: tuple[int, ...]) -> ViewBatch | FetchError:
    """Puts the readable videos into one tensor, (0, *shape) if there are none."""
    if isinstance(items, FetchError):
        return items
    good = [item for item in items if item.frames is not None]
    frames = [item.frames for item in items if item.frames is not None]
    return ViewBatch(
        torch.tensor([item.index for item in good], dtype=torch.int64),
        torch.stack(frames) if frames else torch.empty((0, *shape), dtype=torch.uint8),
        torch.tensor([item.label for item in good], dtype=torch.int64),
        tuple(item for item in items if item.frames is None),
    )


def _calm(before: Any) -> None:
    """Takes back the handler by which torch tells of a worker's death: it would do so in the midst of an optimizer step."""
    handler = signal.getsignal(signal.SIGCHLD)
    torchs = getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"
    if torchs and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before if handler is not before and before is not None else signal.SIG_DFL)


def _start_worker(worker: int) -> None:
    # Ctrl-C reaches the whole group: workers go on until the training process, which writes a checkpoint, ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)  # the workers are the parallelism
