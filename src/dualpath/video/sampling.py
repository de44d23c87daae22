"""Which frames of a video a clip is made of, and where its crops lie: pure integer maths, no files.

    total frames --train_indices--> (T,)      random, from the generator that is handed in
                 --test_indices---> (V, T)    deterministic, V clips a video
    H x W        --crop_boxes-----> V corners along the longer side

Two ways of sampling:

    dense    T frames in a row with a fixed step; Kinetics: 16x4, 32x2 (T x step)
    segment  one frame from each of T equal parts (TSN, arXiv:1608.00859); Something-Something

docs/protocols.md has the formulas, and how those of others differ.

No `linspace` anywhere: rounding its floats gives uneven steps (VideoMAE#97). Where evenly spread places are not
integers, they are rounded down exactly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from dualpath.errors import DualPathError, check_type
from dualpath.settings import MOST_FRAMES, check_fields

Sampling = Literal["segment", "dense"]


@dataclass(frozen=True)
class SamplingConfig:
    """How a clip is taken from a video.

    Attributes:
        num_frames: T, frames a clip.
        sampling: "segment" spreads them over the whole video, "dense" takes them from a stretch of it.
        sampling_rate: dense only: the step between two sampled frames, in frames; 1 takes every frame.

    Raises:
        DualPathError: a value that is not allowed.
    """

    num_frames: int = 16
    sampling: Sampling = "segment"
    sampling_rate: int = 4

    def __post_init__(self) -> None:
        check_fields(self, num_frames=MOST_FRAMES)
        _at_least_one("num_frames", self.num_frames)
        _at_least_one("sampling_rate", self.sampling_rate)

    @classmethod
    def from_name(cls, name: str) -> SamplingConfig:
        """What dense-TxR or segment-T stands for, with any numbers.

        Raises:
            DualPathError: another name.
        """
        check_type("protocol", name, str, "a name such as dense-16x4 or segment-8")
        if dense := re.fullmatch(r"dense-([0-9]{1,6})x([0-9]{1,6})", name):
            return cls(int(dense[1]), "dense", int(dense[2]))
        if segment := re.fullmatch(r"segment-([0-9]{1,6})", name):
            return cls(int(segment[1]), "segment")
        raise DualPathError(
            f"there is no protocol {name!r}; give T frames with a step of R as dense-TxR, such as dense-16x4, or one frame "
            "from each of T equal parts as segment-T, such as segment-8"
        )

    @property
    def name(self) -> str:
        """Its short name: dense-16x4, segment-8."""
        return f"dense-{self.num_frames}x{self.sampling_rate}" if self.sampling == "dense" else f"segment-{self.num_frames}"

    @property
    def span(self) -> int:
        """Frames from the first to the last of a dense clip, both counted: (T - 1) * sampling_rate + 1."""
        return (self.num_frames - 1) * self.sampling_rate + 1


def train_indices(total: int, config: SamplingConfig, rng: np.random.Generator) -> Int64[np.ndarray, " t"]:
    """Frame numbers of one random training clip, never decreasing.

    A video that is too short repeats its last frame: dense clips run on past the end and stay there; segment clips
    of fewer than T frames are 0, 1, .., total - 1, total - 1, ..

    Args:
        total: frames of the video, at least 1.
        config: how to sample.
        rng: source of all randomness.

    Returns:
        (T,) numbers within 0 .. total - 1.
    """
    _at_least_one("total", total)
    steps = np.arange(config.num_frames, dtype=np.int64)
    if config.sampling == "dense":
        start = int(rng.integers(max(total - config.span, 0) + 1))
        return np.minimum(start + steps * config.sampling_rate, total - 1)
    if total < config.num_frames:
        return np.minimum(steps, total - 1)
    edges = np.arange(config.num_frames + 1, dtype=np.int64) * total // config.num_frames
    return rng.integers(edges[:-1], edges[1:], dtype=np.int64)


def test_indices(total: int, config: SamplingConfig, *, num_clips: int) -> Int64[np.ndarray, "v t"]:
    """Frame numbers of the clips on which a video is judged: the same at every call.

    Dense: the starts are spread evenly, the first clip starts at frame 0, the last one ends on the last frame; a
    single clip lies in the middle. Segment: clip k of V takes the frame at (k + 1/2) / V of each segment, so one clip
    takes the centres, and several differ wherever segments have at least V frames. Too short: as in training.

    Args:
        total: frames of the video, at least 1.
        config: how to sample.
        num_clips: V, at least 1.

    Returns:
        (V, T) numbers within 0 .. total - 1, each row never decreasing.
    """
    _at_least_one("total", total)
    _at_least_one("num_clips", num_clips)
    frames = config.num_frames
    steps = np.arange(frames, dtype=np.int64)
    if config.sampling == "dense":
        starts = np.array(_spread(max(total - config.span, 0), num_clips), np.int64)
        return np.minimum(starts[:, None] + steps * config.sampling_rate, total - 1)
    if total < frames:
        return np.tile(np.minimum(steps, total - 1), (num_clips, 1))
    # Frame floor((t + (2k + 1) / 2V) * total / T), over one denominator: exact, and always inside segment t.
    clips = np.arange(num_clips, dtype=np.int64)[:, None]
    return (steps * 2 * num_clips + 2 * clips + 1) * total // (2 * num_clips * frames)


# pytest would collect the function above, by its name, in every test module that imports it.
test_indices.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def crop_boxes(height: int, width: int, *, size: int, num_crops: int) -> list[tuple[int, int]]:
    """Corners of square crops along the longer side of a picture, centred along the shorter one.

    The first crop touches the near end and the last one the far end, exactly; a single one lies in the centre.

    Args:
        height: pixels.
        width: pixels.
        size: side of a crop in pixels, at most the shorter side.
        num_crops: at least 1.

    Returns:
        (top, left) of each crop.
    """
    _at_least_one("size", size)
    _at_least_one("num_crops", num_crops)
    if size > min(height, width):
        raise DualPathError(f"crops of {size} pixels do not fit into a picture of {height} x {width}")
    if width >= height:
        return [((height - size) // 2, left) for left in _spread(width - size, num_crops)]
    return [(top, (width - size) // 2) for top in _spread(height - size, num_crops)]


def _spread(room: int, count: int) -> list[int]:
    """`count` whole numbers evenly over 0 .. room, both ends reached; the middle for one alone."""
    if count == 1:
        return [room // 2]
    return [place * room // (count - 1) for place in range(count)]


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise DualPathError(f"{name} is {value}, but it must be 1 or more")
