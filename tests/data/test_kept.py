"""Kept clips are those that would be decoded, decoded once, whatever has become of the files in between."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dualpath.data import kept
from dualpath.data.batches import Course
from dualpath.data.clips import TrainClips
from dualpath.data.kept import KeptClips
from dualpath.data.loader import train_loader
from dualpath.data.manifest import Video
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig
from videos import write_video

COUNT, EPOCHS, SIDE, FRAMES = 3, 2, 16, 2
CLIP = FRAMES * 3 * SIDE * SIDE


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    folder = tmp_path_factory.mktemp("videos")
    paths = [write_video(folder / f"{i}.mp4", 6 + i, width=48, height=32) for i in range(COUNT)]
    return [Video(path, path.name, i % 2, "train", num_frames=6 + i) for i, path in enumerate(paths)]


def clips(videos: list[Video], *, jitter: float = 0.3, seed: int = 7, frames: int = FRAMES, size: int = SIDE, flip: bool = True,
          step: int = 4) -> TrainClips:  # fmt: skip
    sampling, transform = SamplingConfig(frames, sampling_rate=step), TransformConfig(color_jitter=jitter)
    return TrainClips(videos, sampling=sampling, transform=transform, size=size, flip=flip, seed=seed)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The keys of the clips that were decoded, as they are."""
    keys, read = [], TrainClips.__getitem__

    def told(self: TrainClips, key: tuple[int, int]) -> tuple[int, torch.Tensor, int]:
        item = read(self, key)
        keys.append(key)
        return item

    monkeypatch.setattr(TrainClips, "__getitem__", told)
    return keys


KEYS = [(epoch, index) for epoch in range(EPOCHS) for index in range(COUNT)]


def same_clips(ours: KeptClips, theirs: TrainClips) -> bool:
    pairs = [(ours[key], theirs[key]) for key in KEYS]
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) and a[2] == b[2] for a, b in pairs)


def test_each_clip_is_decoded_once_and_is_the_same(videos: list[Video], tmp_path: Path, decoded: list[tuple[int, int]]) -> None:
    plain = clips(videos)
    expected = {key: plain[key] for key in KEYS}
    assert len({clip.numpy().tobytes() for _, clip, _ in expected.values()}) == len(KEYS)
    decoded.clear()
    for _ in range(2):  # two runs
        found = KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
        assert (len(found), found.seed) == (COUNT, 7)
        for key in KEYS:
            index, clip, label = found[key]
            assert (index, label) == (expected[key][0], expected[key][2])
            assert clip.dtype == torch.uint8
            assert torch.equal(clip, expected[key][1])
    assert decoded == KEYS
    (folder,) = tmp_path.iterdir()
    assert {file.name: file.stat().st_size for file in folder.iterdir()} == {
        **{f"{epoch}.clips": COUNT * CLIP for epoch in range(EPOCHS)},
        **{f"{epoch}.sums": COUNT * 8 for epoch in range(EPOCHS)},
    }
    assert np.fromfile(folder / "1.clips", np.uint8)[CLIP : 2 * CLIP].tobytes() == expected[1, 1][1].numpy().tobytes()


def test_a_longer_run_decodes_its_own_last_epochs(videos: list[Video], tmp_path: Path, decoded: list[tuple[int, int]]) -> None:
    short = KeptClips(clips(videos), tmp_path, epochs=1)
    assert same_clips(short, clips(videos))  # an epoch for which no room was made is decoded at each visit
    decoded.clear()
    long = KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
    items = [long[key] for key in KEYS]
    assert decoded == [key for key in KEYS if key[0] == 1]
    assert [item[0] for item in items] == [0, 1, 2] * 2


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_kept_and_read_by_workers(
    videos: list[Video], tmp_path: Path, decoded: list[tuple[int, int]], workers: int
) -> None:
    """Written by a process of its own, or here; read here, from the middle of an epoch too."""
    dataset = KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
    every = list(train_loader(dataset, Course(2, EPOCHS), workers=workers))
    assert len(decoded) == (0 if workers else len(KEYS))  # the workers' are not told here
    plain = list(train_loader(clips(videos), Course(2, EPOCHS)))
    decoded.clear()
    again = pickle.loads(pickle.dumps(dataset))
    rest = list(train_loader(again, Course(2, EPOCHS, first_epoch=0, first_batch=1)))
    assert decoded == []
    assert len(every) == len(plain) == len(rest) + 1
    for ours in (every, [plain[0], *rest]):
        assert not any(batch.lost for batch in ours)
        assert all(
            torch.equal(a, b) for one, other in zip(ours, plain, strict=True) for a, b in zip(one[:3], other[:3], strict=True)
        )


def test_what_a_kill_or_a_power_cut_leaves_is_decoded_again(
    videos: list[Video], tmp_path: Path, decoded: list[tuple[int, int]]
) -> None:
    found = KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
    assert same_clips(found, clips(videos))
    with (found.folder / "0.sums").open("r+b") as file:  # killed between clip 1 and its sum
        file.seek(8)
        file.write(bytes(8))
    with (found.folder / "0.clips").open("r+b") as file:  # the sum of clip 2 was written, the clip was not
        file.seek(2 * CLIP)
        file.write(bytes(CLIP))
    plain = clips(videos)
    expected = [plain[key][1] for key in KEYS]
    for missing in ([(0, 1), (0, 2)], []):
        decoded.clear()
        found = KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
        assert all(torch.equal(found[key][1], clip) for key, clip in zip(KEYS, expected, strict=True))
        assert decoded == missing


@pytest.mark.parametrize("damaged", ["clips", "sums"])
@pytest.mark.parametrize("size", [0, 5, 1 << 16, None])
def test_a_file_of_a_wrong_size_is_made_anew(
    videos: list[Video], tmp_path: Path, decoded: list[tuple[int, int]], damaged: str, size: int | None
) -> None:
    found = KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
    first = [found[key] for key in KEYS]
    path = found.folder / f"0.{damaged}"
    path.unlink()
    if size is not None:
        path.write_bytes(bytes([1]) * size)
    decoded.clear()
    found = KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
    assert (found.folder / "0.sums").read_bytes() == bytes(COUNT * 8)
    assert (found.folder / "0.clips").stat().st_size == COUNT * CLIP
    assert all(torch.equal(found[key][1], item[1]) for key, item in zip(KEYS, first, strict=True))
    assert decoded == [key for key in KEYS if key[0] == 0]


def test_whatever_decides_the_clips_keeps_them_apart(videos: list[Video], tmp_path: Path) -> None:
    def folder(dataset: TrainClips) -> Path:
        return KeptClips(dataset, tmp_path, epochs=0).folder

    plain = folder(clips(videos))
    relabelled, longer = [[replace(videos[0], **change), *videos[1:]] for change in ({"label": 1}, {"num_frames": 5})]
    others = [
        *(clips(videos, jitter=0.0), clips(videos, seed=8), clips(videos, frames=1), clips(videos, size=8)),
        *(clips(videos, flip=False), clips(videos, step=3), clips(videos[1:]), clips(relabelled), clips(longer)),
    ]
    assert len({plain, *map(folder, others)}) == 1 + len(others)
    moved = [replace(video, path=Path("/elsewhere") / video.name) for video in videos]
    assert folder(clips(moved)) == plain


def test_an_undecodable_video_is_told_as_ever(videos: list[Video], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(videos[1].path.read_bytes()[:200])
    dataset = KeptClips(clips([videos[0], replace(videos[1], path=broken)]), tmp_path / "kept", epochs=1)
    (batch,) = train_loader(dataset, Course(2, 1))
    assert batch.indices.tolist() == [0]
    (lost,) = batch.lost
    assert lost.index == 1
    assert lost.reason.startswith("cannot be read as a video")
    shutil.copy(videos[1].path, broken)  # mended
    mended = dataset[0, 1][1]
    broken.unlink()
    assert torch.equal(dataset[0, 1][1], mended)


# --- the disk


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="not every system can reserve room")
def test_all_room_is_asked_for_beforehand(videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    allocate = os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", lambda file, at, size: (asked.append(size), allocate(file, at, size)))
    KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
    assert asked == [COUNT * CLIP] * EPOCHS
    KeptClips(clips(videos), tmp_path, epochs=EPOCHS + 1)
    assert asked == [COUNT * CLIP] * (EPOCHS + 1)


@pytest.mark.parametrize("known", [True, False])
def test_file_systems_that_cannot_reserve_are_written_full(
    videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    if known:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    else:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    path = tmp_path / "zeros"
    for size in (0, 5, (1 << 20) + 3):
        kept._allocate(path, size)
        assert path.read_bytes() == bytes(size)
    assert same_clips(KeptClips(clips(videos), tmp_path, epochs=EPOCHS), clips(videos))


def test_a_full_disk_leaves_nothing(videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def full(file: int, at: int, size: int) -> None:
        calls.append(size)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_clips_that_cannot_be_kept_are_decoded(videos: list[Video], tmp_path: Path, decoded: list[tuple[int, int]]) -> None:
    found = KeptClips(clips(videos), tmp_path, epochs=EPOCHS)
    shutil.rmtree(found.folder)  # its comparison has ended
    assert same_clips(found, clips(videos))
    assert not found.folder.exists()
    assert len(decoded) == 2 * len(KEYS)
