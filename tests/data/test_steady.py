"""Videos that crash or hang their process cost nothing but themselves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dualpath.data import steady, watched
from dualpath.data.batches import Course
from dualpath.data.clips import Key, TestClips, TrainClips, Views
from dualpath.data.loader import train_loader
from dualpath.data.manifest import Video
from dualpath.data.scan import Refusal
from dualpath.data.steady import steady_test, steady_train
from dualpath.data.watched import WorkersLost
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig
from videos import write_video

SAMPLING = SamplingConfig(num_frames=2)


def misbehave(video: Video) -> None:
    """What a decoder may do to its process."""
    if video.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if video.name.startswith("hang"):
        time.sleep(600)


class HostileTrain(TrainClips):
    def __getitem__(self, key: Key) -> tuple[int, Tensor, int]:
        misbehave(self.videos[key[1]])
        return super().__getitem__(key)


class HostileTest(TestClips):
    def __getitem__(self, index: int) -> Views:
        if index not in self.lost:
            misbehave(self.videos[index])
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("steady")
    return [write_video(folder / f"{i}.mp4", [np.full((32, 32, 3), 40 * i, np.uint8)] * 4) for i in range(6)]


def videos(paths: Sequence[Path], names: Sequence[str]) -> list[Video]:
    return [Video(path, name, i % 2, "train", num_frames=4) for i, (path, name) in enumerate(zip(paths, names, strict=True))]


def train_clips(kind: type[TrainClips], given: Sequence[Video]) -> TrainClips:
    return kind(given, sampling=SAMPLING, transform=TransformConfig(), size=16, flip=False, seed=0)


def lethal_here(keys: Sequence[Any], do: Callable[[Any], Any], **_: object) -> Iterator[tuple[int, Any]]:
    """`ask` without processes: what would have ended one is told by the videos' names."""
    (dataset,) = do.args  # pyright: ignore[reportFunctionMemberAccess]
    for place, key in enumerate(keys):
        name = dataset.videos[key if isinstance(key, int) else key[1]].name
        yield place, Refusal("the decoder crashed on it (SIGSEGV)", lethal=True) if name.startswith("crash") else None


class Dying:
    """A loader whose workers end at every batch with a video that does not let them live."""

    def __init__(self, dataset: TrainClips, course: Course, **_: object) -> None:
        self.dataset, self.inner = dataset, train_loader(dataset, course)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.inner:
            if any(self.dataset.videos[i].name.startswith("crash") for i in batch.indices.tolist()):
                raise WorkersLost("DataLoader worker (pid 1) is gone")
            yield batch


@pytest.mark.parametrize(("epoch", "first"), [(0, 0), (0, 2), (1, 1)])
@pytest.mark.parametrize(("rank", "ranks"), [(0, 1), (0, 2), (1, 2)])
def test_all_but_the_culprit_come_as_they_would(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, epoch: int, first: int, rank: int, ranks: int
) -> None:
    monkeypatch.setattr(steady, "train_loader", Dying)
    monkeypatch.setattr(steady, "ask", lethal_here)
    names = ["0", "crash", "2", "3", "crash too", "5"]
    dataset = train_clips(TrainClips, videos(paths, names))
    course = Course(2, 6, first_epoch=epoch, first_batch=first, rank=rank, ranks=ranks)
    found = list(steady_train(dataset, course, workers=2))
    wanted = list(train_loader(train_clips(TrainClips, videos(paths, ["0", "1", "2", "3", "4", "5"])), course))
    assert len(found) == len(wanted) == (6 - epoch) * {1: 3, 2: 2}[ranks] - first
    assert dataset.lost == dict.fromkeys((1, 4), "the decoder crashed on it (SIGSEGV)")
    for ours, theirs in zip(found, wanted, strict=True):
        good = ~torch.isin(theirs.indices, torch.tensor([1, 4]))
        assert torch.equal(ours.indices, theirs.indices[good])
        assert torch.equal(ours.frames, theirs.frames[good])
        assert sorted(lost.index for lost in ours.lost) == sorted(theirs.indices[~good].tolist())


def test_workers_ended_from_outside_are_started_once_more(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given = videos(paths, ["0", "1", "2", "3", "4", "5"])
    dataset, ends = train_clips(TrainClips, given), [2]

    class Ended(Dying):
        def __iter__(self) -> Iterator[Any]:
            for number, batch in enumerate(self.inner):
                if number == 1 and ends[0]:
                    ends[0] -= 1
                    raise WorkersLost("DataLoader worker (pid 1) is killed by signal: Killed")
                yield batch

    monkeypatch.setattr(steady, "train_loader", Ended)
    monkeypatch.setattr(steady, "ask", lethal_here)
    found = [batch.indices.tolist() for batch in steady_train(dataset, Course(2, 1), workers=1)]
    wanted = [batch.indices.tolist() for batch in train_loader(train_clips(TrainClips, given), Course(2, 1))]
    assert found == wanted
    assert dataset.lost == {}

    class Doomed(Dying):
        def __iter__(self) -> Iterator[Any]:
            raise WorkersLost("DataLoader worker (pid 1) is killed by signal: Killed")

    monkeypatch.setattr(steady, "train_loader", Doomed)
    with pytest.raises(WorkersLost):
        list(steady_train(dataset, Course(2, 1), workers=1))
    asked: list[int] = []
    monkeypatch.setattr(steady, "ask", lambda *_, **__: asked.append(1))
    with pytest.raises(WorkersLost):  # the user asked to stop: the signal reached the workers too
        list(steady_train(dataset, Course(2, 1), workers=1, stopped=lambda: True))
    assert asked == []


def test_a_real_crash(paths: list[Path]) -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    given = videos(paths, ["0", "crash", "2", "3", "4", "5"])
    found = list(steady_test(HostileTest(given, sampling=SAMPLING, size=16), batch_size=2, workers=1))
    assert signal.getsignal(signal.SIGCHLD) is handler
    assert [batch.indices.tolist() for batch in found] == [[0], [2, 3], [4, 5]]
    told = {item.index: item.reason for batch in found for item in batch.unreadable}
    assert told == {1: "the decoder crashed on it (SIGSEGV)"}
    plain = TestClips(given, sampling=SAMPLING, size=16)
    for batch in found:
        for index, frames in zip(batch.indices.tolist(), batch.frames, strict=True):
            assert torch.equal(frames, plain[index].frames)  # pyright: ignore[reportArgumentType]


def test_workers_that_hang_are_noticed(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(watched, "STALL_SECONDS_A_CLIP", 0.0)
    dataset = train_clips(HostileTrain, videos(paths[:2], ["hang", "hang"]))
    dataset.seconds = 0.5
    with pytest.raises(WorkersLost, match="exited unexpectedly"):
        list(train_loader(dataset, Course(2, 1), workers=1))
