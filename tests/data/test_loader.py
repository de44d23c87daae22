"""The loader: the right frames, and the same batches whatever the number of workers and wherever a run resumes."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dualpath.data import clips as clips_module
from dualpath.data.batches import Course, train_batches
from dualpath.data.clips import Lost, TestClips, TrainClips, rng_for
from dualpath.data.loader import test_loader, train_loader
from dualpath.data.manifest import Video
from dualpath.data.orders import epoch_order
from dualpath.errors import VideoError
from dualpath.video.sampling import SamplingConfig, train_indices
from dualpath.video.transforms import TransformConfig
from videos import read_numbers, write_video

LENGTHS = (12, 20, 9, 16, 3)
GREY = 12  # frame i of a clip for training is of this times i: any crop of it tells its number


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> list[Video]:
    folder = tmp_path_factory.mktemp("grey")
    return [
        Video(
            write_video(folder / f"{i}.mp4", [np.full((48, 64, 3), GREY * number, np.uint8) for number in range(n)]),
            f"{i}.mp4",
            i % 3,
            "train",
            num_frames=n,
        )
        for i, n in enumerate(LENGTHS)
    ]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> list[Video]:
    """Square ones, of which a single crop is the whole picture, and one broken in the middle of the list."""
    folder = tmp_path_factory.mktemp("numbered")
    paths = [write_video(folder / f"{i}.mp4", n, width=48, height=48) for i, n in enumerate(LENGTHS)]
    paths[2].write_bytes(paths[2].read_bytes()[:300])
    return [Video(path, path.name, 4 - i, "test") for i, path in enumerate(paths)]


def clips(videos: list[Video], *, seed: int = 7, jitter: float = 0.0) -> TrainClips:
    return TrainClips(
        videos,
        sampling=SamplingConfig(num_frames=4, sampling="segment"),
        transform=TransformConfig(min_scale=0.5, color_jitter=jitter),
        size=24,
        flip=True,
        seed=seed,
    )


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


# --- what is random


def test_rng_is_a_function_of_all_three():
    draws = {key: rng_for(*key).integers(2**62) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]}
    assert len(set(draws.values())) == 5
    assert rng_for(1, 1, 1).integers(2**62) == draws[1, 1, 1]


def test_epoch_order():
    first = epoch_order(50, seed=3, epoch=0)
    assert sorted(first) == list(range(50))
    assert first == epoch_order(50, seed=3, epoch=0)
    assert len({tuple(first), tuple(epoch_order(50, seed=3, epoch=1)), tuple(epoch_order(50, seed=4, epoch=0))}) == 3
    assert first != rng_for(3, 0, 0).permutation(50).tolist()


def test_train_batches_are_whole_epochs_with_a_rest():
    batches = list(train_batches([0] * 5, Course(2, 3), seed=1))
    assert [len(batch) for batch in batches] == [2, 2, 1] * 3
    assert [key for batch in batches for key in batch] == [
        (epoch, index) for epoch in range(3) for index in epoch_order(5, seed=1, epoch=epoch)
    ]


@pytest.mark.parametrize(("epoch", "batch", "done"), [(0, 0, 0), (0, 2, 2), (0, 3, 3), (1, 1, 4), (2, 3, 9), (3, 0, 9)])
def test_train_batches_resume(epoch, batch, done):
    every = list(train_batches([0] * 5, Course(2, 3), seed=1))
    rest = list(train_batches([0] * 5, Course(2, 3, first_epoch=epoch, first_batch=batch), seed=1))
    assert rest == every[done:]


# --- training


def test_a_clip_has_the_frames_its_key_says(grey):
    dataset = clips(grey)
    for epoch, i in [(0, 1), (1, 1), (5, 3), (0, 4)]:
        index, frames, label = dataset[epoch, i]
        wanted = train_indices(LENGTHS[i], dataset.sampling, rng_for(7, epoch, i))
        means = frames.float().mean(dim=(1, 2, 3)) / GREY
        assert (index, label) == (i, i % 3)
        assert frames.shape == (4, 3, 24, 24)
        assert means.round().int().tolist() == wanted.tolist()
    assert wanted.tolist() == [0, 1, 2, 2]  # fewer frames than T


def test_a_clip_is_a_function_of_its_key_and_the_seed(grey):
    dataset = clips(grey, jitter=0.3)
    clip = dataset[2, 1][1]
    torch.manual_seed(99)
    assert torch.equal(dataset[2, 1][1], clip)
    assert not torch.equal(dataset[3, 1][1], clip)
    assert not torch.equal(clips(grey, jitter=0.3, seed=8)[2, 1][1], clip)
    unscanned = clips([replace(video, num_frames=None) for video in grey], jitter=0.3)
    assert torch.equal(unscanned[2, 1][1], clip)


def test_batches_do_not_depend_on_workers_nor_on_a_resume(grey):
    dataset = clips(grey, jitter=0.3)
    torch.manual_seed(5)
    loader = train_loader(dataset, Course(2, 2))
    every = list(loader)
    assert len(loader) == len(every) == 6
    assert torch.initial_seed() == 5
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)  # loading leaves the model's own source of randomness alone
    assert [batch.indices.tolist() for batch in every] == [
        [index for _, index in keys] for keys in train_batches([0] * 5, Course(2, 2), seed=7)
    ]
    assert every[0].frames.shape == (2, 4, 3, 24, 24)
    assert every[2].frames.shape == (1, 4, 3, 24, 24)
    assert [batch.indices.dtype for batch in every[:1]] == [torch.int64] == [every[0].labels.dtype]
    assert every[0].labels.tolist() == [index % 3 for index in every[0].indices.tolist()]
    for workers, epoch, batch, done in [(0, 1, 1, 4), (2, 0, 1, 1)]:
        rest = train_loader(dataset, Course(2, 2, first_epoch=epoch, first_batch=batch), workers=workers)
        found = list(rest)
        assert len(rest) == len(found) == 6 - done
        assert all(same(a, b) for a, b in zip(found, every[done:], strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_in_training_is_named(grey, tmp_path, workers):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(grey[1].path.read_bytes()[:900])
    whole, dataset = clips(grey), clips([grey[0], replace(grey[1], path=broken), *grey[2:]])
    found = list(train_loader(dataset, Course(2, 2), workers=workers))
    assert multiprocessing.active_children() == []
    wanted = list(train_loader(whole, Course(2, 2)))
    told = [(number, lost.index) for number, batch in enumerate(found) for lost in batch.lost]
    assert told == [(number, 1) for number, batch in enumerate(wanted) if 1 in batch.indices]
    assert all(lost.reason.startswith("cannot be read as a video") for batch in found for lost in batch.lost)
    for batch, full in zip(found, wanted, strict=True):
        rest = full.indices != 1
        assert torch.equal(batch.indices, full.indices[rest])
        assert torch.equal(batch.frames, full.frames[rest])
    with pytest.raises(VideoError):
        dataset[0, 1]


def test_a_batch_may_lose_all_its_clips(grey, tmp_path):
    gone = clips([replace(grey[1], path=tmp_path / "gone.mp4")])
    (batch,) = train_loader(gone, Course(2, 1))
    assert batch.frames.shape == (0, 4, 3, 24, 24)
    assert (batch.frames.dtype, batch.labels.dtype, batch.indices.dtype) == (torch.uint8, torch.int64, torch.int64)
    assert [lost.reason for lost in batch.lost] == ["there is no such file"]


def test_whatever_a_library_raises_is_told_of_the_video(grey, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(clips_module, "train_transform", fail)
    monkeypatch.setattr(clips_module, "test_transform", fail)
    reason = "cannot be read as a video: damaged, cut short or something else (RuntimeError: not enough memory)"
    (batch,) = train_loader(clips(grey[:2]), Course(2, 1))
    assert sorted(batch.lost, key=lambda lost: lost.index) == [Lost(0, reason), Lost(1, reason)]
    assert [item.reason for item in map(views(grey[:2]).__getitem__, range(2))] == [reason, reason]


def test_time_is_limited_for_each_video(grey):
    dataset = clips(grey[:2])
    dataset.seconds = -1.0
    (batch,) = train_loader(dataset, Course(2, 1))
    assert {lost.reason for lost in batch.lost} == {"took longer than -1 s to read; --seconds gives it more"}
    assert {item.reason for item in map(views(grey[:2], seconds=-1.0).__getitem__, range(2))} == {batch.lost[0].reason}


def test_a_video_that_is_not_to_be_touched_is_not(grey):
    dataset = clips(grey)
    dataset.lost[3] = "the decoder crashed on it (SIGSEGV)"
    (batch,) = train_loader(dataset, Course(5, 1))
    assert batch.lost == (Lost(3, "the decoder crashed on it (SIGSEGV)"),)
    assert sorted(batch.indices.tolist()) == [0, 1, 2, 4]
    assert clips(grey).lost == {}


# --- testing


def views(videos: list[Video], **options) -> TestClips:
    return TestClips(videos, sampling=SamplingConfig(num_frames=4, sampling="dense", sampling_rate=2), size=48, **options)


def test_views_are_clips_by_crops(tmp_path):
    path = write_video(tmp_path / "wide.mp4", 17, width=96, height=48)
    item = views([Video(path, "wide.mp4", 1, "test")], num_clips=2, num_crops=3)[0]
    assert (item.index, item.label, item.reason) == (0, 1, None)
    assert item.frames is not None
    assert item.frames.shape == (6, 4, 3, 48, 48)
    for clip, numbers in enumerate([[0, 2, 4, 6], [10, 12, 14, 16]]):
        left, _, right = item.frames[clip * 3 : clip * 3 + 3]
        assert read_numbers(torch.cat([left, right], dim=-1)) == numbers  # together they are the whole picture


def test_single_view_and_crop_fraction(numbered):
    item = views(numbered)[1]
    assert item.frames is not None
    assert read_numbers(item.frames[0]) == [6, 8, 10, 12]
    larger = TestClips(numbered, sampling=SamplingConfig(4), size=24, crop_fraction=0.75)[1].frames
    whole = TestClips(numbered, sampling=SamplingConfig(4), size=32)[1].frames
    assert torch.equal(larger, whole[..., 4:28, 4:28])


def test_shuffled_frames_are_the_same_ones_in_another_order(numbered):
    plain, shuffled = views(numbered, num_clips=2), views(numbered, num_clips=2, shuffle_frames=True, seed=3)
    orders = set()
    for i in (0, 1, 3):
        one, other = plain[i].frames, shuffled[i].frames
        for a, b in zip(one, other, strict=True):
            numbers = read_numbers(a)
            orders.add(tuple(numbers.index(number) for number in read_numbers(b)))
            assert sorted(read_numbers(b)) == numbers
    assert len(orders) > 3  # each clip has its own
    assert torch.equal(shuffled[1].frames, views(numbered, num_clips=2, shuffle_frames=True, seed=3)[1].frames)


def test_an_undecodable_video_is_told_and_never_replaced(numbered):
    batches = list(test_loader(views(numbered), batch_size=2))
    assert [batch.indices.tolist() for batch in batches] == [[0, 1], [3], [4]]
    assert [batch.labels.tolist() for batch in batches] == [[4, 3], [1], [0]]
    assert [batch.frames.shape[0] for batch in batches] == [2, 1, 1]
    (missing,) = batches[1].unreadable
    assert (missing.index, missing.label, missing.frames) == (2, 2, None)
    assert missing.reason.startswith("cannot be read as a video")
    assert read_numbers(batches[2].frames[0, 0]) == [0, 2, 2, 2]
    (alone,) = test_loader(views(numbered[2:3]), batch_size=2)
    assert alone.frames.shape == (0, 1, 4, 3, 48, 48)
    assert alone.indices.dtype == alone.labels.dtype == torch.int64


def test_views_do_not_depend_on_workers_and_come_again(numbered):
    dataset = views(numbered, num_clips=2, shuffle_frames=True)
    here = list(test_loader(dataset, batch_size=2))
    loader = test_loader(dataset, batch_size=2, workers=1)
    for _ in range(2):
        there = list(loader)
        assert all(same(a, b) and a.unreadable == b.unreadable for a, b in zip(here, there, strict=True))


def test_no_such_file():
    item = views([Video(Path("/nowhere/x.mp4"), "x.mp4", 0, "test")])[0]
    assert (item.frames, item.reason) == (None, "there is no such file")
