"""Clips to batches, in parallel, the same ones whatever the number of workers.

    batches.train_batches --keys (epoch, index)--> KeyedClips --> TrainBatch(indices, frames, labels, lost)
    0, 1, 2 ... ------------index----------------> TestClips ---> ViewBatch(indices, frames, labels, unreadable)

The order is a pure function of (seed, epoch) and a worker holds no state: a run resumes in mid-epoch, and with another
number of workers, to the last digit. Batches are uint8 until they are on the device. A video that cannot be read makes
its batch smaller; one that ends or hangs its worker is the business of `dualpath.data.steady`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from dualpath.data.batches import Course, RunBatches, shards_of, test_order
from dualpath.data.clips import KeyedClips, Lost, TestClips, Views
from dualpath.data.watched import ClipLoader, patience
from dualpath.errors import FetchError


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
    damaged: tuple[tuple[int, str], ...] = ()


def train_loader(dataset: KeyedClips, course: Course, *, workers: int = 0, pin_memory: bool = False) -> DataLoader[TrainBatch]:
    """Loads all batches of a course; one pass over it is the run, so workers start only once.

    Args:
        dataset: the clips; the order is that of its seed.
        course: which batches.
        workers: spawned processes; 0 reads in this one. The batches do not depend on it.
        pin_memory: for a CUDA device.

    Raises:
        WorkersLost: while it is iterated, a worker crashes or hangs.
        FetchError: while it is iterated, a shard cannot be fetched.
    """
    found = shards_of(dataset.videos)
    # Not persistent: nothing but the pass itself then holds the workers, so they end with it, also when it raises.
    return ClipLoader(
        dataset,
        batches=RunBatches([video.label for video in dataset.videos], course, dataset.seed, found),
        collate=partial(_collate_clips, shape=dataset.shape),
        workers=workers,
        pin_memory=pin_memory,
        persistent=False,
        stall=patience(course.batch_size, found, seconds=dataset.seconds),
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
        stall=patience(batch_size * dataset.shape[0], shards_of(dataset.videos), seconds=dataset.seconds),
    )


test_loader.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


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
        tuple((item.index, item.damage) for item in good if item.damage is not None),
    )
