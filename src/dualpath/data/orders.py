"""In which order an epoch visits its samples, and which of them each of several processes takes: pure integer maths.

    epoch_order(n, seed, epoch)                any order of n samples
    shard_order(shards, seed, epoch)           the same where samples lie in shards: a few shards at a time
    balanced_draw(labels, seed, epoch)         as many samples as there are, of each class as many
    rank_batches(order, rank, ranks)           one process's batches of an order

An order depends on (seed, epoch) alone, so a run resumes in mid-epoch to the last digit, whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualpath.errors import DualPathError, number_of

GROUP = 8
"""Shards whose samples are mixed with one another."""


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """Gives the order in which an epoch visits its `count` samples."""
    return _source(seed, epoch).permutation(count).tolist()


def balanced_draw(labels: Sequence[int], *, seed: int, epoch: int) -> list[tuple[int, int]]:
    """Draws as many samples as there are, of each class equally many (within one): (sample, how often it came before).

    Of a large class other samples come in each epoch; those of a small one all come, and come again equally often (within
    one).
    """
    source = np.random.default_rng(np.random.SeedSequence((seed, epoch), spawn_key=(2,)))
    members: dict[int, list[int]] = {}
    for sample, label in enumerate(labels):
        members.setdefault(label, []).append(sample)
    classes = sorted(members)
    share, rest = divmod(len(labels), max(1, len(classes)))
    larger = set(source.permutation(len(classes))[:rest].tolist())
    drawn: list[tuple[int, int]] = []
    for place, label in enumerate(classes):
        rounds, more = divmod(share + (place in larger), len(members[label]))
        drawn += [(sample, times) for times in range(rounds) for sample in members[label]]
        drawn += [(members[label][at], rounds) for at in source.permutation(len(members[label]))[:more].tolist()]
    return drawn


def shard_order(shards: Sequence[int], *, seed: int, epoch: int, group: int = GROUP) -> list[int]:
    """Gives the order in which an epoch visits samples that lie in shards.

    Shards come in random order, `group` at a time, and the samples of such a group in random order: a reader needs no
    more than two groups at once, and mixes over `group` shards, whose samples lie in random order already.

    Args:
        shards: of each sample, the number of its shard.
        seed: of the run.
        epoch: from 0.
        group: shards at a time, at least 1; as many as there are make it a plain random order.
    """
    return [place for part in shard_groups(shards, seed=seed, epoch=epoch, group=group) for place in part]


def shard_groups(shards: Sequence[int], *, seed: int, epoch: int, group: int = GROUP) -> list[list[int]]:
    """The samples of each group of shards, as `shard_order` visits them one after another."""
    if group < 1:
        raise DualPathError(f"group is {group}, but it must be 1 or more shards")
    source = _source(seed, epoch)
    samples: dict[int, list[int]] = {}
    for place, shard in enumerate(shards):
        samples.setdefault(shard, []).append(place)
    order = source.permutation(sorted(samples)).tolist()
    groups = [[place for shard in order[at : at + group] for place in samples[shard]] for at in range(0, len(order), group)]
    return [source.permutation(np.array(part, np.int64)).tolist() for part in groups]


def rank_batches(order: Sequence[int], *, batch_size: int, rank: int = 0, ranks: int = 1) -> list[list[int]]:
    """Gives one process's batches of an epoch: over all of them each sample is there once, and all make as many steps.

    A step takes the next `batch_size * ranks` samples, dealt out in turn. Nothing is repeated to make parts even, so
    an epoch is an epoch whatever the number of processes; instead, what remains at its end makes a smaller step whose
    parts differ by one sample at most, or, where fewer remain than there are processes, joins the step before. Because
    parts may differ, a loss must be summed and divided by the samples of all processes, not averaged twice.

    Args:
        order: of the epoch.
        batch_size: samples a process and step; the last step may have one more.
        rank: of this process, from 0.
        ranks: number of processes.

    Raises:
        DualPathError: fewer samples than processes, or numbers that cannot be.
    """
    if batch_size < 1 or not 0 <= rank < ranks:
        raise DualPathError(f"rank {rank} of {ranks} with batches of {batch_size} cannot be")
    if 0 < len(order) < ranks:
        raise DualPathError(f"{number_of(len(order), 'sample is|samples are')} too few for {ranks} processes; use fewer")
    step = batch_size * ranks
    starts = list(range(0, len(order), step))
    if len(starts) > 1 and len(order) - starts[-1] < ranks:
        starts.pop()
    ends = [*starts[1:], len(order)][: len(starts)]  # of nothing there is no batch
    return [list(order[begin + rank : end : ranks]) for begin, end in zip(starts, ends, strict=True)]


def _source(seed: int, epoch: int) -> np.random.Generator:
    # The spawn key keeps it apart from the samples' own sources, which use the same seed and epoch.
    return np.random.default_rng(np.random.SeedSequence((seed, epoch), spawn_key=(1,)))
