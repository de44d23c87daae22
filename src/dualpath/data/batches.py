"""Which samples make which batch: of a whole run, of one process's part of it, and from any place in it on.

    Course(batch_size, num_epochs, ...) --train_batches--> keys (epoch, index), batch by batch

The order is a pure function of (seed, epoch); samples in shards come a few shards at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualpath.data.ahead import fetch_ahead
from dualpath.data.clips import Key, TestClips
from dualpath.data.manifest import Video
from dualpath.data.orders import GROUP, balanced_draw, epoch_order, rank_batches, shard_order
from dualpath.errors import DualPathError
from dualpath.video.decoding.fetched import ORIGIN
from dualpath.video.decoding.places import find_place


@dataclass(frozen=True)
class Course:
    """The batches of a run that one process reads, from some place on.

    Attributes:
        batch_size: samples a batch. What remains at an epoch's end makes a smaller one; none crosses into the next epoch.
        num_epochs: of the whole run, those before `first_epoch` included.
        first_epoch: counted from 0.
        first_batch: within `first_epoch`, counted from 0.
        rank: of several processes, which one the batches are for, see `orders.rank_batches`.
        ranks: how many processes share an epoch.
        balanced: an epoch has equally many clips of each class, see `orders.balanced_draw`, instead of each sample once.
    """

    batch_size: int
    num_epochs: int
    first_epoch: int = 0
    first_batch: int = 0
    rank: int = 0
    ranks: int = 1
    balanced: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 <= self.rank < self.ranks:
            raise DualPathError(f"rank {self.rank} of {self.ranks} with batches of {self.batch_size} cannot be")
        if min(self.num_epochs, self.first_epoch, self.first_batch) < 0:
            told = f"batch {self.first_batch} of epoch {self.first_epoch} of {self.num_epochs}"
            raise DualPathError(f"there is no {told}; these numbers must be at least 0")

    def epoch_of(self, order: Sequence[int]) -> list[list[int]]:
        """The batches of an epoch whose samples come in this order."""
        return rank_batches(order, batch_size=self.batch_size, rank=self.rank, ranks=self.ranks)

    def an_epoch(self, count: int) -> int:
        """How many batches an epoch of so many samples has."""
        return len(self.epoch_of(range(count)))

    def after(self, done: int, count: int) -> Course:
        """The rest, when `done` of its batches of epochs of `count` samples are behind."""
        an_epoch = max(1, self.an_epoch(count))
        epoch, batch = divmod(self.first_epoch * an_epoch + self.first_batch + done, an_epoch)
        return replace(self, first_epoch=epoch, first_batch=batch)


REPEAT = 1_000_000
"""Added to the epoch of a key for each time that its sample came before in this epoch, so that its clips differ."""


def train_batches(
    labels: Sequence[int], course: Course, *, seed: int, shards: Sequence[int] | None = None
) -> Iterator[list[Key]]:
    """Gives the batches of a run in order, from where `course` begins to the end of the last epoch.

    Args:
        labels: of the samples of an epoch.
        course: which batches.
        seed: of the run.
        shards: of each sample, the number of the shard that it lies in: a few shards are visited at a time.
    """
    for epoch in range(course.first_epoch, course.num_epochs):
        source = {"seed": seed, "epoch": epoch}
        drawn = balanced_draw(labels, **source) if course.balanced else [(sample, 0) for sample in range(len(labels))]
        lying = None if shards is None else [shards[sample] for sample, _ in drawn]
        order = epoch_order(len(labels), **source) if lying is None else shard_order(lying, **source)
        for batch in course.epoch_of(order)[course.first_batch if epoch == course.first_epoch else 0 :]:
            yield [(epoch + REPEAT * drawn[place][1], drawn[place][0]) for place in batch]


@dataclass(frozen=True)
class RunBatches:
    """`train_batches` with a length, and iterable more than once, as DataLoader wants it; shards are fetched ahead."""

    labels: Sequence[int]
    course: Course
    seed: int
    shards: Shards | None

    def __iter__(self) -> Iterator[list[Key]]:
        if self.shards is None or not self.shards.remote:
            return self._batches()
        return fetch_ahead(self._batches(), self._batches(), self.shards.numbers, self.shards.files, window=GROUP)

    def _batches(self) -> Iterator[list[Key]]:
        numbers = None if self.shards is None else self.shards.numbers
        return train_batches(self.labels, self.course, seed=self.seed, shards=numbers)

    def __len__(self) -> int:
        epochs = self.course.num_epochs - self.course.first_epoch
        return max(0, epochs * self.course.an_epoch(len(self.labels)) - self.course.first_batch)


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


def test_order(dataset: TestClips) -> list[int]:
    """The order in which test videos come: as they are; in shards, shard by shard, so that each is fetched once."""
    found = shards_of(dataset.videos)
    order = range(len(dataset))
    return list(order) if found is None else sorted(order, key=lambda index: found.numbers[index])


test_order.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]
