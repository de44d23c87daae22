"""Write a video once more so that it is quick to read: small, upright, with a key frame every few frames.

    source --decode, scale, turn--> draft.mp4 (frame numbers for times) --copy, true times--> checked --> target.mp4

Frame i of the target is frame i of the source, at the same time. H.264 in MP4 without sound; 4:2:0 with even sides;
every `key_frame_distance`-th picture begins a closed group of pictures, so a reader that wants frame i decodes from the
last multiple of that distance on; within a group every second picture is a B-frame that no other needs, so a reader
leaves out those that it does not want; the index lies at the file's beginning. Pictures go from YUV to YUV, with the
same filter that `read_frames` scales with, and keep the source's colour space and range: what is read from the target
is what would have been read from the source, scaled to the same short side, but for the codec's loss.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import Float64, UInt8

from dualpath.errors import DualPathError, VideoError, number_of
from dualpath.files import temporary_beside
from dualpath.settings import MOST_PIXELS, check_fields
from dualpath.video.decode import probe, read_frames
from dualpath.video.decoding.container import decoded, opened, packets
from dualpath.video.decoding.frame_folder import list_pictures, picture_size, read_pictures
from dualpath.video.decoding.pictures import orientation, scaled, seconds, to_rgb, without_fields
from dualpath.video.decoding.places import Damaged
from dualpath.video.mp4 import TICKS, Quality, Writer, retime, writing

SLACK = 2
"""Frames by which an `end` may lie past the source's: copies lose the last one or two."""


@dataclass(frozen=True)
class EncodeConfig:
    """How videos are encoded.

    Attributes:
        short_side: pixels that the shorter side is brought down to, an even number; smaller videos keep their size.
        key_frame_distance: frames from one key frame to the next; fewer make larger files of which clips are read sooner.
        crf: x264's constant quality, 0 (lossless) to 51; 18 can hardly be told from the source.
        damaged: what is done with a file of which some cannot be decoded: leave it out, or write the rest of it and say so.
    """

    short_side: int = 256
    key_frame_distance: int = 12
    crf: int = 18
    damaged: Damaged = "refuse"

    def __post_init__(self) -> None:
        check_fields(self, short_side=MOST_PIXELS)
        if self.short_side < 2 or self.short_side % 2:
            raise DualPathError(f"short_side is {self.short_side}, but it must be an even number from 2 on")
        if self.key_frame_distance < 1:
            raise DualPathError(f"key_frame_distance is {self.key_frame_distance}, but it must be at least 1")
        if not 0 <= self.crf <= 51:
            raise DualPathError(f"crf is {self.crf}, but x264 knows 0 (lossless) to 51")


@dataclass(frozen=True)
class Encoded:
    """A video that was written.

    Attributes:
        num_frames: pictures.
        width: pixels.
        height: pixels.
        size: bytes.
        damage: what of the source could not be decoded, in a sentence, where the rest was taken.
    """

    num_frames: int
    width: int
    height: int
    size: int
    damage: str | None = None


@dataclass
class _Draft:
    """What is known after the first pass: times in seconds, and upright RGB of the first and last picture."""

    times: Float64[np.ndarray, " t"]
    first: UInt8[np.ndarray, "h w 3"]
    last: UInt8[np.ndarray, "h w 3"]


def reencode(source: str | Path, target: Path, *, config: EncodeConfig, start: int = 0, end: int | None = None) -> Encoded:
    """Writes `target`, whole and checked, or not at all.

    Args:
        source: the video.
        target: .mp4 file; its folder must exist.
        config: how.
        start: first frame that is taken.
        end: frame before which it ends; None for all. The target's frame 0 is `start`, at 0 seconds.

    Raises:
        VideoError: the source cannot be read to its end, or what was written is not like it.
        OutputError: the target cannot be written.
    """
    info = probe(source, damaged=config.damaged)
    total = info.num_frames
    end = total if end is None else min(end, total) if end - total <= SLACK else end
    if not 0 <= start < end <= total:
        raise VideoError(source, f"frames {start} to {end} are wanted, but it has {total}")
    draft, temporary = temporary_beside(target), temporary_beside(target)
    try:
        told = _encode(source, draft, config=config, start=start, end=end)
        with writing(target):
            retime(draft, temporary, told.times, ahead=1)  # a picture, as B-frames ask for
        encoded = _checked(source, temporary, told, crf=config.crf)
        with writing(target):
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        return replace(encoded, damage=info.damage)
    finally:
        for path in (draft, temporary):
            path.unlink(missing_ok=True)


def _encode(source: str | Path, draft: Path, *, config: EncodeConfig, start: int, end: int) -> _Draft:
    """The first pass: every picture scaled, turned, encoded; frame numbers stand for times, which are known at its end."""
    scaler, painter = VideoReformatter(), VideoReformatter()
    stamps: list[tuple[int | None, int | None]] = []
    first: np.ndarray | None = None
    last: np.ndarray | None = None
    writer: Writer | None = None
    turn, size = (False, False, False), (0, 0)
    quality = Quality(config.crf, config.key_frame_distance, b_frames=1)
    try:
        with _pictures(source, end, losses=[] if config.damaged == "take" else None) as (pictures, clock):
            tick, rate, aspect = clock.tick, clock.rate, clock.aspect
            for number, frame in enumerate(pictures):
                stamps.append((frame.pts if clock.shown else None, frame.dts))
                if number < start:
                    continue
                if writer is None:
                    turn, size = orientation(frame), _even(scaled(frame.width, frame.height, config.short_side))
                    with writing(draft):
                        upright = (size[1], size[0]) if turn[0] else size
                        writer = Writer(draft, size=upright, rate=rate, quality=quality)
                        writer.show_as(frame, aspect=1 / aspect if aspect and turn[0] else aspect)
                if orientation(frame) != turn:
                    raise VideoError(source, f"changes its rotation at frame {number}, which cannot be written as one video")
                if number in (start, end - 1):
                    last = to_rgb(frame, painter, size)
                    first = last if first is None else first
                # As pictures.to_rgb: bilinear widens with the scale, so it does not alias.
                unscaled = size == (frame.width, frame.height)
                how = Interpolation.BICUBIC if unscaled else Interpolation.BILINEAR | Interpolation.ACCURATE_RND
                # What is written has no fields.
                picture = scaler.reformat(without_fields(frame, painter), *size, "yuv420p", interpolation=how, threads=1)
                with writing(draft):
                    writer.add(_upright(picture, turn))
        assert writer is not None, "`_pictures` gives every frame or raises"
        assert first is not None
        assert last is not None
        with writing(draft):
            writer.close()
        return _Draft(seconds(stamps, tick=tick, rate=rate)[start:], first, last)
    finally:
        if writer is not None:
            writer.abandon()


@dataclass(frozen=True)
class _Clock:
    """What a source says of its times (`shown`: its times of presentation can be believed) and of its pixels' shape."""

    tick: Fraction | None
    rate: Fraction | None
    aspect: Fraction | None
    shown: bool


@contextmanager
def _pictures(source: str | Path, needed: int, *, losses: list[str] | None) -> Iterator[tuple[Iterator[VideoFrame], _Clock]]:
    """The first `needed` pictures of a video, or of a folder of them, in order."""
    if Path(source).is_dir():
        paths = list_pictures(source)[:needed]
        size = picture_size(paths[0])
        frames = (VideoFrame.from_ndarray(read_pictures([path], size)[0], format="rgb24") for path in paths)
        yield frames, _Clock(None, None, None, False)
        return
    with opened(source) as (container, stream):
        shown = container.format.name != "avi"  # which stores none, and what FFmpeg guesses may run backwards
        frames = decoded(source, packets(container, stream), stream, needed=needed, losses=losses)
        yield frames, _Clock(stream.time_base, stream.average_rate, stream.sample_aspect_ratio, shown)


def _even(size: tuple[int, int]) -> tuple[int, int]:
    """Down to even sides, of which 4:2:0 has half; 2 at least."""
    width, height = (max(2, side - side % 2) for side in size)
    return width, height


def _upright(picture: VideoFrame, turn: tuple[bool, bool, bool]) -> VideoFrame:
    """A yuv420p picture as it is to be shown, see `pictures.orientation`."""
    if not any(turn):
        return picture
    transposed, flip_x, flip_y = turn
    width, height = picture.width, picture.height
    flat = picture.to_ndarray().reshape(-1)
    chroma = width * height // 4
    planes = []
    for begin, rows, columns in (
        (0, height, width),
        (4 * chroma, height // 2, width // 2),
        (5 * chroma, height // 2, width // 2),
    ):
        plane = flat[begin : begin + rows * columns].reshape(rows, columns)
        plane = plane.T if transposed else plane
        planes.append(plane[:: -1 if flip_y else 1, :: -1 if flip_x else 1].reshape(-1))
    columns = height if transposed else width
    return VideoFrame.from_ndarray(np.concatenate(planes).reshape(-1, columns), format="yuv420p")


def _checked(source: str | Path, written: Path, told: _Draft, *, crf: int) -> Encoded:
    """Reads what was written: all frames, upright, at their times, the first and the last like the source's."""
    count, (height, width, _) = len(told.times), told.first.shape
    try:
        info = probe(written)
        clip = read_frames(written, [0, count - 1])
    except VideoError as problem:
        raise VideoError(source, f"could not be written once more: the new file {problem.reason}") from problem
    if (info.num_frames, info.width, info.height, info.rotation) != (count, width, height, 0):
        new = f"{number_of(info.num_frames, 'frame')} of {info.width}x{info.height}"
        raise VideoError(
            source, f"could not be written once more: {number_of(count, 'frame')} of {width}x{height} became {new}"
        )
    # Noise at a crf of 18 is off by some 6 levels a pixel; a wrong, green or shifted picture by far more.
    most = 16 if crf <= 28 else 40
    for name, wanted, frame in (("first", told.first, clip.frames[0]), ("last", told.last, clip.frames[1])):
        off = float(np.abs(frame.permute(1, 2, 0).numpy().astype(np.int16) - wanted).mean())
        if off > most:
            raise VideoError(source, f"could not be written once more: its {name} picture came out {off:.0f} levels off")
    late = abs(float(clip.times[1]) - float(told.times[-1] - told.times[0]))
    if late > (count + 1) / TICKS:
        raise VideoError(source, f"could not be written once more: its last picture came out {late:.3f} s off its time")
    return Encoded(count, width, height, written.stat().st_size)
