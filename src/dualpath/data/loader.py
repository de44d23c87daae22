"""Clips to batches, in parallel, the same ones whatever the number of workers.

    train_batches --keys (epoch, index)--> TrainClips --> TrainBatch(indices, frames, labels)
    0, 1, 2 ...   --index----------------> TestClips ---> ViewBatch(indices, frames, labels, unreadable)

The order is a pure function of (seed, epoch) and a worker holds no state: a run resumes in mid-epoch, and with another
number of workers, to the last digit. Batches are uint8 until they are on the device.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from dualpath.data.ahead import fetch_ahead
from dualpath.data.clips import Key, TestClips, TrainClips, Views, rng_for
from dualpath.data.manifest import Video
from dualpath.data.orders import GROUP, epoch_order, rank_batches, shard_order
from dualpath.errors import VideoError
from dualpath.video.fetched import ORIGIN
from dualpath.video.places import find_place

__all__ = [
    "ClipLoader",
    "TestClips",
    "TrainBatch",
    "TrainClips",
    "ViewBatch",
    "Views",
    "epoch_order",
    "rng_for",
    "test_loader",
    "train_batches",
    "train_loader",
]


class TrainBatch(NamedTuple):
    """indices int64 (B,) into the dataset's videos, frames uint8 (B, T, C, S, S), labels int64 (B,)."""

    indices: Tensor
    frames: Tensor
    labels: Tensor


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
    """A DataLoader whose workers suit video decoders, and which raises the VideoError that a worker met.

    DataLoader itself would rebuild a worker's exception from a traceback in text: its path would be lost.
    """

    def __init__(
        self,
        dataset: TrainClips | TestClips,
        *,
        batches: Iterable[list[Any]],
        collate: Callable[[Any], Any],
        workers: int,
        pin_memory: bool,
        persistent: bool,
    ) -> None:
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
        for batch in super().__iter__():
            if isinstance(batch, VideoError):
                raise batch
            yield batch


def train_loader(
    dataset: TrainClips,
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
        VideoError: while it is iterated, a file cannot be decoded.
    """
    found = find_shards(dataset.videos)
    batches = _RunBatches(len(dataset), batch_size, dataset.seed, num_epochs, first_epoch, first_batch, rank, ranks, found)
    # Not persistent: nothing but the pass itself then holds the workers, so they end with it, also when it raises.
    return ClipLoader(
        dataset,
        batches=batches,
        collate=_collate_clips,
        workers=workers,
        pin_memory=pin_memory,
        persistent=False,
    )


def test_loader(
    dataset: TestClips,
    *,
    batch_size: int,
    workers: int = 0,  # noqa: PT028 (it is no test)
    pin_memory: bool = False,  # noqa: PT028 (it is no test)
) -> DataLoader[ViewBatch]:
    """Loads the videos in order, each once; may be iterated again, its workers stay.

    Videos in shards come shard by shard, so that each is fetched once, however small its cache.

    Args:
        dataset: the videos' views.
        batch_size: videos a batch (each has V views).
        workers: spawned processes; 0 reads in this one. The batches do not depend on it.
        pin_memory: for a CUDA device.
    """
    found = find_shards(dataset.videos)
    order: Iterable[int] = range(len(dataset))
    if found is not None:
        order = sorted(order, key=lambda index: found.numbers[index])
    batches = BatchSampler(order, batch_size, drop_last=False)
    return ClipLoader(
        dataset,
        batches=batches,
        collate=partial(_collate_views, shape=dataset.shape),
        workers=workers,
        pin_memory=pin_memory,
        persistent=True,
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


def find_shards(videos: Sequence[Video]) -> Shards | None:
    """The tars that videos are parts of; None if any is a file of its own. Their order does not depend on their folder."""
    places = [find_place(video.path) for video in videos]
    if not places or any(place.size is None for place in places):
        return None
    files = sorted({place.file for place in places}, key=lambda file: (file.name, file))
    number = {file: n for n, file in enumerate(files)}
    return Shards(tuple(number[place.file] for place in places), tuple(files), (files[0].parent / ORIGIN).is_file())


def _collate_clips(items: list[tuple[int, Tensor, int]] | VideoError) -> TrainBatch | VideoError:
    if isinstance(items, VideoError):
        return items
    indices, frames, labels = zip(*items, strict=True)
    return TrainBatch(torch.tensor(indices), torch.stack(frames), torch.tensor(labels))


def _collate_views(items: list[Views], *, shape: tuple[int, ...]) -> ViewBatch:
    """Puts the readable videos into one tensor, (0, *shape) if there are none."""
    good = [item for item in items if item.frames is not None]
    frames = [item.frames for item in items if item.frames is not None]
    return ViewBatch(
        torch.tensor([item.index for item in good], dtype=torch.int64),
        torch.stack(frames) if frames else torch.empty((0, *shape), dtype=torch.uint8),
        torch.tensor([item.label for item in good], dtype=torch.int64),
        tuple(item for item in items if item.frames is None),
    )


def _start_worker(worker: int) -> None:
    # Ctrl-C reaches the whole group: workers go on until the training process, which writes a checkpoint, ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)  # the workers are the parallelism
