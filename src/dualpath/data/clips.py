"""One video to one clip for training, or to all the views on which it is judged.

TrainClips[epoch, index] --rng_for(seed, epoch, index)--> frames uint8 (T, C, S, S)
TestClips[index] ---------nothing random----------------> frames uint8 (V, T, C, S, S)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from dualpath.data.manifest import Video
from dualpath.data.replaced import Seen, why_replaced
from dualpath.errors import FetchError, VideoError, blaming
from dualpath.processes import Forks
from dualpath.video.decode import Decoder, probe, read_frames
from dualpath.video.decoding.places import SECONDS, Damaged, within
from dualpath.video.sampling import SamplingConfig, test_indices, train_indices
from dualpath.video.transforms import TransformConfig, test_transform, train_transform

Key = tuple[int, int]  # (epoch, index)


@dataclass(frozen=True)
class Views:
    """All views of one test video, clip by clip, the crops of a clip together; or why there are none.

    Attributes:
        index: into the dataset's videos.
        label: of that video.
        frames: uint8 (V, T, C, S, S) with V = clips x crops; None if the video cannot be decoded.
        reason: why not; None if it can.
        damage: what of the video could not be decoded, where the rest is taken.
    """

    index: int
    label: int
    frames: Tensor | None
    reason: str | None = None
    damage: str | None = None


@dataclass(frozen=True)
class Lost:
    """A training video that gave no clip: its index into the dataset's videos, and why."""

    index: int
    reason: str


def rng_for(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """Gives the source of all that is random about one sample in one epoch. None of the three may be negative."""
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, sample)))


def shuffled_orders(seed: int, index: int, shape: tuple[int, ...]) -> Int64[np.ndarray, "v t"]:
    """In which order a shuffled evaluation shows the frames of each clip of a video.

    Args:
        seed: of the data set.
        index: of the video in it.
        shape: clips of a video, frames of a clip.
    """
    clips, frames = shape
    return rng_for(seed, 0, index).permuted(np.tile(np.arange(frames, dtype=np.int64), (clips, 1)), axis=1)


class KeyedClips(Dataset[tuple[int, Tensor, int]]):
    """Training clips addressed by (epoch, index): (index, frames uint8 (T, C, S, S), label).

    Attributes:
        videos: of which each gives a clip an epoch.
        seed: of the run.
        shape: of a clip, (T, C, S, S).
        lost: reason by index of the videos that are not to be touched again: they end or hang the process that reads them.
        seconds: time limit for reading one of them, to which comes 2 s a megabyte.
    """

    videos: tuple[Video, ...]
    seed: int
    shape: tuple[int, ...]
    lost: dict[int, str]
    seconds: float

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitems__(self, keys: list[Key]) -> list[tuple[int, Tensor, int] | Lost] | FetchError:
        """Reads a batch, as DataLoader asks for it; a video that cannot be decoded is told, never replaced.

        A FetchError is handed over for `ClipLoader` to raise.
        """
        items: list[tuple[int, Tensor, int] | Lost] = []
        for key in keys:
            if key[1] in self.lost:
                items.append(Lost(key[1], self.lost[key[1]]))
                continue
            try:
                path = self.videos[key[1]].path
                with blaming(path), within(path, self.seconds):
                    items.append(self[key])
            except VideoError as problem:
                items.append(Lost(key[1], problem.reason))
            except FetchError as problem:
                return problem
        return items


class TrainClips(KeyedClips):
    """Random clips, read from the videos."""

    def __init__(
        self,
        videos: Sequence[Video],
        *,
        sampling: SamplingConfig,
        transform: TransformConfig,
        size: int,
        flip: bool,
        seed: int,
        decoder: Decoder = "pyav",
        seconds: float = SECONDS,
        damaged: Damaged = "refuse",
        seen: Mapping[Path, Seen] | None = None,
    ) -> None:
        """Keeps what it is given.

        Args:
            videos: best scanned before; one without `num_frames` is counted at each visit.
            sampling: which frames make a clip.
            transform: how clips are varied.
            size: S, pixels.
            flip: whether clips may be mirrored: `transform.flips(classes)`.
            seed: of the run.
            decoder: see `read_frames`.
            seconds: time limit for reading a video, to which comes 2 s a megabyte.
            damaged: see `read_frames`.
            seen: the files as they were when the training began: one that was replaced since is not read.
        """
        Forks.threads_used = True
        self.seen = seen or {}
        self.videos = tuple(videos)
        self.sampling = sampling
        self.transform = transform
        self.size = size
        self.shape = (sampling.num_frames, 3, size, size)
        self.flip = flip
        self.seed = seed
        self.decoder: Decoder = decoder
        self.seconds = seconds
        self.damaged: Damaged = damaged
        self.lost = {}

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: Key) -> tuple[int, UInt8[Tensor, "t c s s"], int]:
        """Reads one clip.

        Raises:
            VideoError: the file cannot be decoded, or was replaced.
        """
        Forks.check()
        epoch, index = key
        video = self.videos[index]
        if video.path in self.seen and (reason := why_replaced(video.path, self.seen[video.path])) is not None:
            raise VideoError(video.path, reason)
        if video.num_frames is None and self.damaged == "take":
            video = video.counted(probe(video.path, damaged="take").num_frames)
        rng = rng_for(self.seed, epoch, index)
        wanted = video.start + train_indices(_length(video), self.sampling, rng)
        # Scaled down while it is decoded, but so that the smallest (square) crop still has `size` pixels a side.
        short_side = math.ceil(self.size / math.sqrt(self.transform.min_scale))
        frames = read_frames(
            video.path, wanted.tolist(), short_side=short_side, decoder=self.decoder, damaged=self.damaged
        ).frames
        seed = int(rng.integers(2**63))
        clip = train_transform(frames, size=self.size, config=self.transform, flip=self.flip, seed=seed)
        return index, clip, video.label


class TestClips(Dataset[Views]):
    """The views on which each video is judged: the same ones at every visit."""

    __test__ = False  # pytest would collect the class, by its name, in every test module that imports it

    def __init__(
        self,
        videos: Sequence[Video],
        *,
        sampling: SamplingConfig,
        size: int,
        num_clips: int = 1,
        num_crops: int = 1,
        crop_fraction: float = 1.0,
        shuffle_frames: bool = False,
        seed: int = 0,
        decoder: Decoder = "pyav",
        seconds: float = SECONDS,
        damaged: Damaged = "refuse",
    ) -> None:
        """Keeps what it is given.

        Args:
            videos: best scanned before; one without `num_frames` is counted at each visit.
            sampling: which frames make a clip.
            size: S, pixels.
            num_clips: clips a video.
            num_crops: crops a clip.
            crop_fraction: see `dualpath.video.transforms.test_transform`.
            shuffle_frames: puts the frames of each clip into a random order: a model that is as good on those does
                not look at time.
            seed: chooses these orders; nothing else is random.
            decoder: see `read_frames`.
            seconds: time limit for reading a video, to which comes 2 s a megabyte.
            damaged: see `read_frames`.
        """
        Forks.threads_used = True
        self.videos = tuple(videos)
        self.sampling = sampling
        self.size = size
        self.num_clips = num_clips
        self.num_crops = num_crops
        self.crop_fraction = crop_fraction
        self.shuffle_frames = shuffle_frames
        self.seed = seed
        self.decoder: Decoder = decoder
        self.seconds = seconds
        self.damaged: Damaged = damaged
        self.lost: dict[int, str] = {}
        """Reason by index of the videos that are not to be read: bad ones, known before or by what they did."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one video's views: (V, T, C, S, S)."""
        return (self.num_clips * self.num_crops, self.sampling.num_frames, 3, self.size, self.size)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Views:
        """Reads one video; one that cannot be decoded is told, never replaced."""
        Forks.check()
        video = self.videos[index]
        if index in self.lost:
            return Views(index, video.label, None, self.lost[index])
        try:
            with blaming(video.path), within(video.path, self.seconds):
                return self._views(video, index)
        except VideoError as problem:
            return Views(index, video.label, None, problem.reason)

    def __getitems__(self, indices: list[int]) -> list[Views] | FetchError:
        """Reads a batch, as DataLoader asks for it; a FetchError is handed over for `ClipLoader` to raise."""
        try:
            return [self[index] for index in indices]
        except FetchError as problem:
            return problem

    def _views(self, video: Video, index: int) -> Views:
        damage = None
        if self.damaged == "take":
            info = probe(video.path, damaged="take")
            video, damage = replace(video, num_frames=None).counted(info.num_frames), info.damage
        wanted = video.start + test_indices(_length(video), self.sampling, num_clips=self.num_clips)
        if self.shuffle_frames:
            wanted = np.take_along_axis(wanted, shuffled_orders(self.seed, index, wanted.shape), axis=1)
        # Scaled while it is decoded to what the views are cut from, and all clips in one pass through the file.
        short_side = round(self.size / self.crop_fraction)
        clips = read_frames(
            video.path, wanted.ravel().tolist(), short_side=short_side, decoder=self.decoder, damaged=self.damaged
        ).frames
        views = [
            test_transform(clip, size=self.size, num_crops=self.num_crops, crop_fraction=self.crop_fraction)
            for clip in clips.unflatten(0, wanted.shape)
        ]
        return Views(index, video.label, torch.cat(views), damage=damage)


def _length(video: Video) -> int:
    """Frames of the video, or of its segment."""
    counted = video if video.num_frames is not None else video.counted(probe(video.path).num_frames)
    assert counted.num_frames is not None
    return counted.num_frames
