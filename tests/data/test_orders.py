"""Orders and parts: every sample once an epoch, over shards, batches and processes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath.data.batches import Course, RunBatches, train_batches
from dualpath.data.orders import balanced_draw, epoch_order, rank_batches, shard_groups, shard_order
from dualpath.errors import DualPathError

placements = st.lists(st.integers(0, 9), min_size=1, max_size=80)


@given(placements, st.integers(0, 9), st.integers(0, 9), st.integers(1, 5))
def test_every_sample_once_a_few_shards_at_a_time(shards, seed, epoch, group):
    groups = shard_groups(shards, seed=seed, epoch=epoch, group=group)
    assert sorted(place for part in groups for place in part) == list(range(len(shards)))
    seen: set[int] = set()
    for number, part in enumerate(groups):
        here = {shards[place] for place in part}
        assert len(here) <= group
        assert len(here) == group or number == len(groups) - 1
        assert not here & seen, "a shard is visited twice"
        seen |= here
    order = shard_order(shards, seed=seed, epoch=epoch, group=group)
    assert order == [place for part in groups for place in part]


def test_orders_differ_between_epochs_and_seeds_and_mix_the_group():
    shards = [place // 50 for place in range(400)]
    orders = {(seed, epoch): shard_order(shards, seed=seed, epoch=epoch, group=4) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(map(tuple, orders.values()))) == 4
    assert orders[0, 1] == shard_order(shards, seed=0, epoch=1, group=4)
    first = [shards[place] for place in orders[0, 0][:200]]
    assert len(set(first)) == 4
    counts = [first[:100].count(shard) for shard in set(first)]
    assert min(counts) >= 10, "the four are mixed, not one after another"
    assert {frozenset(shards[place] for place in order[:200]) for order in orders.values()} != {frozenset(range(4))}


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 200))
def test_processes_share_an_epoch_exactly(batch_size, ranks, more):
    count = ranks + more
    order = epoch_order(count, seed=3, epoch=1)
    parts = [rank_batches(order, batch_size=batch_size, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert sorted(sample for part in parts for batch in part for sample in batch) == list(range(count))
    assert len({len(part) for part in parts}) == 1, "all make as many steps"
    for step in zip(*parts, strict=True):
        sizes = [len(batch) for batch in step]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size + 1
    # A step is the same samples as one process would take at once, where nothing is left over.
    whole = rank_batches(order, batch_size=batch_size * ranks)
    for step, batch in zip(list(zip(*parts, strict=True))[:-1], whole, strict=False):
        assert sorted(sample for part in step for sample in part) == sorted(batch)


def test_parts_by_hand():
    assert rank_batches(range(10), batch_size=2, rank=0, ranks=2) == [[0, 2], [4, 6], [8]]
    assert rank_batches(range(10), batch_size=2, rank=1, ranks=2) == [[1, 3], [5, 7], [9]]
    assert rank_batches(range(9), batch_size=2, rank=0, ranks=2) == [[0, 2], [4, 6, 8]]
    assert rank_batches(range(9), batch_size=2, rank=1, ranks=2) == [[1, 3], [5, 7]]
    assert rank_batches(range(5), batch_size=2) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(("rank", "ranks", "batch_size"), [(2, 2, 1), (-1, 2, 1), (0, 0, 1), (0, 1, 0)])
def test_numbers_that_cannot_be(rank, ranks, batch_size):
    with pytest.raises(DualPathError, match=f"rank {rank} of {ranks} with batches of {batch_size} cannot be"):
        rank_batches([0, 1, 2], batch_size=batch_size, rank=rank, ranks=ranks)


def test_fewer_samples_than_processes():
    with pytest.raises(DualPathError, match="3 samples are too few for 4 processes"):
        rank_batches([0, 1, 2], batch_size=1, rank=0, ranks=4)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_over_shards_resumes_anywhere(ranks):
    shards = [place % 20 for place in range(47)]
    for rank in range(ranks):
        course = Course(3, 3, rank=rank, ranks=ranks)
        whole = list(train_batches([0] * 47, course, seed=5, shards=shards))
        an_epoch = len(whole) // 3
        for at in (0, 1, an_epoch - 1, an_epoch, 2 * an_epoch + 2):
            epoch, batch = divmod(at, an_epoch)
            assert course.after(at, 47) == Course(3, 3, first_epoch=epoch, first_batch=batch, rank=rank, ranks=ranks)
            assert list(train_batches([0] * 47, course.after(at, 47), seed=5, shards=shards)) == whole[at:]


@given(
    st.integers(0, 40), st.integers(1, 5), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9), st.integers(1, 3), st.data()
)
def test_the_rest_of_a_course(count, batch_size, epochs, first, done, ranks, data):
    ranks = min(ranks, max(1, count))
    course = Course(batch_size, epochs, first_batch=first, rank=data.draw(st.integers(0, ranks - 1)), ranks=ranks)
    rest, whole = course.after(done, count), list(train_batches([0] * count, course, seed=1))
    assert list(train_batches([0] * count, rest, seed=1)) == whole[done:] or first > course.an_epoch(count)
    assert len(RunBatches([0] * count, rest, 1, None)) == len(list(RunBatches([0] * count, rest, 1, None)))
    assert rest.first_batch < max(1, rest.an_epoch(count))


@pytest.mark.parametrize("wrong", ["num_epochs", "first_epoch", "first_batch", "batch_size", "rank"])
def test_courses_that_cannot_be(wrong):
    with pytest.raises(DualPathError, match=r"cannot be|must be at least 0"):
        Course(**({"batch_size": 1, "num_epochs": 1} | {wrong: -1}))  # pyright: ignore[reportArgumentType]


@given(st.lists(st.sampled_from([0, 0, 0, 0, 1, 2]), min_size=1, max_size=60), st.integers(0, 5))
def test_a_balanced_draw_has_equally_many_of_each_class(labels, epoch):
    drawn = balanced_draw(labels, seed=3, epoch=epoch)
    assert drawn == balanced_draw(labels, seed=3, epoch=epoch)
    assert len(drawn) == len(labels) == len(set(drawn))
    counts = Counter(labels[sample] for sample, _ in drawn)
    assert set(counts) == set(labels)
    assert max(counts.values()) - min(counts.values()) <= 1
    times = Counter(sample for sample, _ in drawn)
    for label in set(labels):
        of_class = [times[sample] for sample, other in enumerate(labels) if other == label]
        assert max(of_class) - min(of_class) <= 1
    assert all({n for s, n in drawn if s == sample} == set(range(count)) for sample, count in times.items())


def test_balanced_batches_resume_anywhere_and_repeat_no_clip():
    labels, course = [0] * 20 + [1] * 2, Course(4, 3, balanced=True)
    batches = list(train_batches(labels, course, seed=1))
    keys = [key for batch in batches for key in batch]
    assert len(keys) == len(set(keys)) == 66
    assert [sum(labels[index] for _, index in keys[22 * e : 22 * (e + 1)]) for e in range(3)] == [11, 11, 11]
    for done in (1, 5, 6, 7, 17):
        assert list(train_batches(labels, course.after(done, 22), seed=1)) == batches[done:]
    shards = [index // 5 for index in range(22)]
    in_shards = [key for batch in train_batches(labels, course, seed=1, shards=shards) for key in batch]
    assert sorted(in_shards) == sorted(keys)
    plain = [key for batch in train_batches(labels, Course(4, 1), seed=1) for key in batch]
    assert sorted(plain) == [(0, index) for index in range(22)]
