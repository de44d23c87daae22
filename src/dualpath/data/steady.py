"""Batches to the end, whatever their workers meet: a video that crashes or hangs its process costs nothing but itself.

    loader dies --> the videos that were not delivered, one by one in child processes --> the culprit is marked --> go on

Batches keep their places: one without its culprit is smaller, all others are as they would have been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

from dualpath.data.batches import Course, shards_of, test_order, train_batches
from dualpath.data.clips import Key, KeyedClips, TestClips
from dualpath.data.loader import TrainBatch, ViewBatch, test_loader, train_loader
from dualpath.data.scan import Refusal, ask
from dualpath.data.watched import WorkersLost


def steady_train(
    dataset: KeyedClips,
    course: Course,
    *,
    workers: int = 0,
    pin_memory: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[TrainBatch]:
    """As `train_loader`; a video that ends or hangs its worker is put into `dataset.lost` and told in its batch.

    Args:
        dataset: the clips.
        course: which batches; of several ranks each looks after its own.
        workers: with 0 this very process reads, and nothing can be done for it.
        pin_memory: for a CUDA device.
        stopped: whether the user has asked to stop: then nothing is searched for.

    Raises:
        WorkersLost: workers were ended from outside, twice at the same place.
    """
    shards = shards_of(dataset.videos)

    def load(done: int) -> Iterable[TrainBatch]:
        return train_loader(dataset, course.after(done, len(dataset)), workers=workers, pin_memory=pin_memory)

    def ahead(done: int) -> list[Key]:
        rest = course.after(done, len(dataset))
        labels = [video.label for video in dataset.videos]
        batches = train_batches(labels, rest, seed=dataset.seed, shards=shards and shards.numbers)
        return [key for keys in islice(batches, _in_flight(workers)) for key in keys]

    return _steady(dataset, load, ahead, index=lambda key: key[1], workers=workers, stopped=stopped)


def steady_test(
    dataset: TestClips,
    *,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[ViewBatch]:
    """As `test_loader`; a video that ends or hangs its worker is put into `dataset.lost` and told as unreadable.

    Args:
        dataset: the videos' views.
        batch_size: see `test_loader`, as the next two.
        workers: with 0 this very process reads, and nothing can be done for it.
        pin_memory: for a CUDA device.
        stopped: whether the user has asked to stop: then nothing is searched for.

    Raises:
        WorkersLost: workers were ended from outside, twice at the same place.
    """

    order = test_order(dataset)

    def load(done: int) -> Iterable[ViewBatch]:
        return test_loader(dataset, batch_size=batch_size, first_batch=done, workers=workers, pin_memory=pin_memory)

    def ahead(done: int) -> Sequence[int]:
        return order[done * batch_size : (done + _in_flight(workers)) * batch_size]

    return _steady(dataset, load, ahead, index=int, workers=workers, stopped=stopped)


def _in_flight(workers: int) -> int:
    """Batches that workers may have begun: DataLoader hands each two at a time; one more is on its way."""
    return 2 * workers + 1


def _steady(
    dataset: KeyedClips | TestClips,
    load: Callable[[int], Iterable[Any]],
    ahead: Callable[[int], Sequence[Any]],
    *,
    index: Callable[[Any], int],
    workers: int,
    stopped: Callable[[], bool],
) -> Iterator[Any]:
    done, unexplained = 0, False
    while True:
        try:
            for batch in load(done):
                yield batch
                done += 1
                unexplained = False
            return
        except WorkersLost:
            if stopped():
                raise
            suspects = [key for key in ahead(done) if index(key) not in dataset.lost]
            culprits = {index(key): reason for key, reason in _culprits(dataset, suspects, workers)}
            if not culprits and unexplained:  # from outside, or for want of memory
                raise
            unexplained = not culprits
            dataset.lost.update(culprits)


def _culprits(dataset: KeyedClips | TestClips, keys: Sequence[Any], workers: int) -> list[tuple[Any, str]]:
    """Those of the keys whose reading ends its process or does not end, and why."""
    # A little more than a video has by itself: one that only takes long says so.
    with closing(ask(keys, partial(_read, dataset), workers=max(1, workers), seconds=dataset.seconds + 5)) as answers:
        return [(keys[place], told.reason) for place, told in answers if isinstance(told, Refusal) and told.lethal]


def _read(dataset: KeyedClips | TestClips, key: Any) -> None:
    """What a worker does for one key, without handing the clip over."""
    dataset[key]
