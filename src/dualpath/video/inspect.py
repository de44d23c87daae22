"""Everything about one video file that a look at a data set wants to know, in one pass through it.

    path --inspect--> Inspection

Each packet is demuxed and decoded once and only a few pictures are converted, so it costs what decoding costs. What it
shares with `dualpath.video.decode.probe` is the same; beyond it, it has seen every frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8
from PIL import Image

from dualpath.errors import VideoError, blaming, number_of
from dualpath.video.decoding.container import damage, index_ends_past_file, opened, packets
from dualpath.video.decoding.frame_folder import list_pictures, picture_size, read_pictures
from dualpath.video.decoding.pictures import orientation, to_rgb
from dualpath.video.decoding.places import Damaged

THUMBNAIL = 96  # pixels, the longer side
HELD = 8  # decoded pictures that are kept until the length is known
HDR_CURVES = (16, 18)  # ITU-T H.273: the transfer characteristics of PQ (SMPTE ST 2084) and HLG
DETAIL = 2  # grey levels: smaller steps between neighbours are noise
FEWEST_DETAILS = 48  # of 192: a hash of flatter pictures would make all dark videos copies of each other


@dataclass(frozen=True)
class Inspection:
    """What a file holds; times are seconds, sizes are pixels after rotation.

    Attributes:
        num_frames: pictures that decoding yields; if it fails midway, those before.
        listed_frames: what the header claims; 0 if it claims nothing.
        damage: what could not be decoded, in a sentence, where the rest was asked for all the same.
        error: what stopped the decoding, None if nothing did; the file is then no good from `num_frames` on.
        corrupt_frames: pictures that the decoder has marked as patched up.
        fps: average frames per second; None for a single picture without a rate.
        duration: from the start of the first picture to the end of the last; None if no times are known.
        smallest_step: between two successive pictures; None if not known.
        largest_step: the same.
        variable: whether the steps differ by more than rounding and a tenth.
        width: of the first picture.
        height: of the first picture.
        size_changes: how often the size changes midway.
        rotation: clockwise degrees by which stored pictures are turned for display: 0, 90, 180 or 270.
        pixel_format: FFmpeg's name of it: "yuv420p".
        bit_depth: bits of a colour.
        hdr: whether its brightness is coded as PQ or HLG.
        alpha: whether there is transparency.
        codec: FFmpeg's name of it: "h264", "vp9".
        container: FFmpeg's name of it: "mov,mp4,m4a,3gp,3g2,mj2".
        has_audio: whether there is sound too.
        keyframe_distance: the most frames from one key frame up to the next or to the end: what a seek may cost.
        content: hash of the coded pictures, in hexadecimal: the same whatever the file's name, container and sound.
        look: hash of how three of the pictures look (see `look_hash`), nearly the same for a copy that was encoded
            again; "" if they are too flat to tell.
        thumbnails: uint8 (h, w, 3), upright, at a sixth, a half and five sixths of the video (about).
    """

    num_frames: int
    listed_frames: int
    error: str | None
    corrupt_frames: int
    fps: float | None
    duration: float | None
    smallest_step: float | None
    largest_step: float | None
    variable: bool
    width: int
    height: int
    size_changes: int
    rotation: int
    pixel_format: str
    bit_depth: int
    hdr: bool
    alpha: bool
    codec: str
    container: str
    has_audio: bool
    keyframe_distance: int
    content: str
    look: str
    damage: str | None = None
    thumbnails: tuple[UInt8[np.ndarray, "_h _w 3"], ...] = field(default=(), compare=False, repr=False)

    @property
    def broken(self) -> str | None:
        """Why this file cannot be used; None if it can."""
        if self.error is None:
            return None
        of_listed = f"{self.num_frames} of {number_of(self.listed_frames, 'frame')}" if self.listed_frames else None
        return f"breaks off: only {of_listed or number_of(self.num_frames, 'frame')} could be decoded ({self.error})"

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "thumbnails"}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Inspection:
        """The same again; TypeError or KeyError if it is not what `as_json` gave."""
        told = {"damage": None} | told  # which older checks did not know
        return cls(**{f.name: told[f.name] for f in fields(cls) if f.name != "thumbnails"})


def inspect(path: str | Path, *, damaged: Damaged = "refuse") -> Inspection:
    """Reads and decodes a file (or a folder of pictures) from its beginning to its end, once.

    Args:
        path: the file, or a folder of numbered pictures.
        damaged: "take" goes on behind what cannot be decoded, see `decode.probe`.

    Raises:
        VideoError: there is no such file, it holds no video, no frame of it can be decoded, or it is truncated.
    """
    with blaming(path):
        return _inspect_folder(path) if Path(path).is_dir() else _inspect_file(path, losses=[] if damaged == "take" else None)


def _inspect_file(path: str | Path, *, losses: list[str] | None) -> Inspection:
    with opened(path) as (container, stream):
        listed, past_end = stream.frames, index_ends_past_file(path, container, stream)
        seen = _Pass(container.format.name, losses)
        for frame in seen.frames(container, stream):
            seen.look_at(frame)
        if past_end and listed - seen.packets > max(2, 0.05 * listed):  # as `probe` judges
            found = f"only {seen.packets}" if seen.packets else "none"
            told = f"its index lists {number_of(listed, 'frame')} but {found} can be read"
            if losses is None or not seen.packets:
                raise VideoError(path, f"is truncated: {told}")
            losses.insert(0, told)
        if seen.first is None:
            raise VideoError(path, f"no frame could be decoded{f' ({seen.error})' if seen.error else ''}")
        return seen.told(container, stream, listed=listed)


def _inspect_folder(path: str | Path) -> Inspection:
    """A video whose frames are pictures of their own, see `frame_folder`."""
    files = list_pictures(path)
    content, sizes, error = hashlib.blake2b(digest_size=16), [], None
    for file in files:
        try:
            size = picture_size(file)
            read_pictures([file], size)
        except VideoError as problem:
            error = problem.reason
            break
        sizes.append(size)
        content.update(file.read_bytes())
    if not sizes:
        raise VideoError(path, f"no frame could be decoded ({error})")
    width, height = sizes[0]
    longer = max(THUMBNAIL, width, height)
    small = (max(1, width * THUMBNAIL // longer), max(1, height * THUMBNAIL // longer))
    pictures = tuple(read_pictures([files[len(sizes) * sixth // 6] for sixth in (1, 3, 5)], small))
    return Inspection(
        num_frames=len(sizes),
        listed_frames=len(files),
        error=error,
        corrupt_frames=0,
        fps=None,
        duration=None,
        smallest_step=None,
        largest_step=None,
        variable=False,
        width=width,
        height=height,
        size_changes=sum(a != b for a, b in pairwise(sizes)),
        rotation=0,
        pixel_format="rgb24",
        bit_depth=8,
        hdr=False,
        alpha=False,
        codec=files[0].suffix[1:].lower(),
        container="folder",
        has_audio=False,
        keyframe_distance=1,
        content=content.hexdigest(),
        look=look_hash(pictures),
        thumbnails=pictures,
    )


class _Pass:
    """What is kept while a file is read through."""

    def __init__(self, container: str, losses: list[str] | None) -> None:
        self.losses = losses
        self.has_times = container != "avi"  # it stores none: FFmpeg only guesses
        self.packets = self.shown = self.count = self.corrupt = self.changes = 0
        self.content = hashlib.blake2b(digest_size=16)
        self.times: list[tuple[int, int]] = []
        self.last_key = self.distance = 0
        self.error: str | None = None
        self.first: VideoFrame | None = None
        self.size = (0, 0)
        self.stride = 1
        self.held: list[tuple[int, VideoFrame]] = []

    def frames(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """All pictures up to the first that cannot be decoded; the packets behind it are still looked at."""
        decode = stream.codec_context.decode
        for packet in packets(container, stream):
            self._note(packet)
            if self.error is None:
                try:
                    yield from decode(packet)
                except FFmpegError as problem:
                    self._lose(problem)
        if self.error is None:
            try:
                yield from decode(None)  # what the decoder still holds
            except FFmpegError as problem:
                self._lose(problem)

    def _lose(self, problem: FFmpegError) -> None:
        if self.losses is None:
            self.error = problem.strerror
        else:
            self.losses.append(problem.strerror or str(problem))

    def _note(self, packet: Packet) -> None:
        self.packets += 1
        self.content.update(packet)
        if packet.is_discard:  # hidden by an edit list
            return
        if packet.is_keyframe:
            self.distance = max(self.distance, self.shown - self.last_key)
            self.last_key = self.shown
        self.shown += 1
        if packet.pts is not None:
            self.times.append((packet.pts, packet.duration or 0))

    def look_at(self, frame: VideoFrame) -> None:
        """Counts a picture, and holds it if it may be one to show: those at multiples of a stride that grows."""
        size = (frame.width, frame.height)
        if self.first is None:
            self.first = frame
        elif size != self.size:
            self.changes += 1
        self.size = size
        self.corrupt += frame.is_corrupt
        if self.count % self.stride == 0:
            if len(self.held) == HELD:
                self.stride *= 2
                self.held = self.held[::2]
            if self.count % self.stride == 0:
                self.held.append((self.count, frame))
        self.count += 1

    def told(self, container: InputContainer, stream: VideoStream, *, listed: int) -> Inspection:
        assert self.first is not None
        first, layout = self.first, self.first.format
        transposed, _, flip_y = orientation(first)
        height, width = (first.width, first.height) if transposed else (first.height, first.width)
        pictures = self._thumbnails()
        fps, duration = self._clock(stream)
        smallest, largest, variable = self._steps(stream)
        return Inspection(
            num_frames=self.count,
            listed_frames=listed,
            error=self.error,
            corrupt_frames=self.corrupt,
            fps=fps,
            duration=duration,
            smallest_step=smallest,
            largest_step=largest,
            variable=variable,
            width=width,
            height=height,
            size_changes=self.changes,
            rotation={(False, False): 0, (True, False): 90, (False, True): 180, (True, True): 270}[transposed, flip_y],
            pixel_format=layout.name,
            bit_depth=max(component.bits for component in layout.components),
            hdr=first.color_trc in HDR_CURVES,
            alpha=any(component.is_alpha for component in layout.components) or stream.metadata.get("alpha_mode") == "1",
            codec=stream.codec_context.codec.canonical_name,
            container=container.format.name,
            has_audio=bool(container.streams.audio),
            keyframe_distance=max(self.distance, self.shown - self.last_key),
            content=self.content.hexdigest(),
            look=look_hash(pictures),
            damage=damage(self.losses or ()),
            thumbnails=pictures,
        )

    def _clock(self, stream: VideoStream) -> tuple[float | None, float | None]:
        """(frames per second, seconds), as `probe` has them."""
        rate, tick = stream.average_rate, float(stream.time_base or 0)
        times = sorted(time for time, _ in self.times)
        span = (times[-1] - times[0]) * tick if times else 0.0
        fps = float(rate) if rate else (len(times) - 1) / span if span else None
        last = max((duration for time, duration in self.times if time == times[-1]), default=0) if times else 0
        return fps, (span + (last * tick or (1 / fps if fps else 0.0)) if times else None) or None

    def _steps(self, stream: VideoStream) -> tuple[float | None, float | None, bool]:
        """(smallest, largest step in seconds, whether they differ by more than rounding and a tenth)."""
        tick = float(stream.time_base or 0)
        steps = np.diff(np.unique(np.array([time for time, _ in self.times], np.int64)))
        if len(steps) == 0 or not tick or not self.has_times:
            return None, None, False
        spread = int(steps.max() - steps.min())
        return float(steps.min() * tick), float(steps.max() * tick), spread > max(2, 0.1 * float(np.median(steps)))

    def _thumbnails(self) -> tuple[np.ndarray, ...]:
        wanted = [self.count * part / 6 for part in (1, 3, 5)]
        chosen = [min(self.held, key=lambda held: abs(held[0] + 0.5 - place))[1] for place in wanted]
        reformatter = VideoReformatter()
        made: dict[int, np.ndarray] = {}
        for frame in chosen:
            if id(frame) not in made:
                factor = min(1.0, THUMBNAIL / max(frame.width, frame.height))
                size = (max(1, round(frame.width * factor)), max(1, round(frame.height * factor)))
                made[id(frame)] = np.ascontiguousarray(to_rgb(frame, reformatter, size))
        return tuple(made[id(frame)] for frame in chosen)


def look_hash(pictures: tuple[UInt8[np.ndarray, "_h _w 3"], ...]) -> str:
    """48 hexadecimal digits for three pictures; "" if they are too flat.

    Each is made grey and 9 x 8 pixels large; a bit says whether a pixel is brighter than the one to its right (the
    difference hash, N. Krawetz, "Kind of like that", 2013). Steps of up to two grey levels count as none.
    """
    bits, details = [], 0
    for picture in pictures:
        grey = Image.fromarray(picture).convert("L").resize((9, 8), Image.Resampling.BOX)
        steps = np.diff(np.asarray(grey, np.int16), axis=1)
        bits.append((steps < -DETAIL).ravel())
        details += int((np.abs(steps) > DETAIL).sum())
    return np.packbits(np.concatenate(bits)).tobytes().hex() if details >= FEWEST_DETAILS else ""
