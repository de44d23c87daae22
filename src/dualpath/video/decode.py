"""Read frames out of video files, frame-exactly, with PyAV.

    path --probe--------> VideoInfo   what is in the file, counted, not believed
    path --read_frames--> Clip        frames uint8 (T, C, H, W) RGB and their times

Frame i is the i-th picture that decoding from the start yields. Nothing is ever sought in a container, because
seeking returns wrong pictures on real data sets (AVI, WebM, variable frame rate): packets are read in order, and
where it is certain that some are not needed for the wanted pictures, those are not decoded (see `reading`).

    container   path to packets, and what is wrong with a file
    bitstream   what a packet says of itself        leaps      which packets to decode
    reading     packets to the wanted pictures      pictures   one picture: upright, scaled, RGB; the clock
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8
from torch import Tensor

from dualpath.errors import DualPathError, VideoError, blaming, number_of
from dualpath.video.decoding.bitstream import CODECS, nal_length_size, nature
from dualpath.video.decoding.container import damage, decoded, index_ends_past_file, opened, packets
from dualpath.video.decoding.frame_folder import list_pictures, picture_size, read_pictures
from dualpath.video.decoding.pictures import orientation, scaled
from dualpath.video.decoding.places import Damaged
from dualpath.video.decoding.reading import by_leaps, from_start, may_leap
from dualpath.video.decoding.torchcodec import by_torchcodec, check_torchcodec

Decoder = Literal["pyav", "torchcodec"]
NO_PICTURE = 19  # bytes: an MPEG-4 packet up to this long may be a mere placeholder (DivX "packed" streams: HMDB51)


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds.

    Attributes:
        num_frames: pictures that decoding yields, counted from the packets, never from the header.
        fps: average frames per second; None for a single picture without a rate.
        duration: seconds from the start of the first picture to the end of the last; None if no times are known.
        width: pixels, after rotation.
        height: pixels, after rotation.
        rotation: clockwise degrees by which stored pictures are turned for display: 0, 90, 180 or 270.
        codec: FFmpeg's name of it: "h264", "vp9".
        has_audio: whether there is sound too.
        damage: what could not be decoded, in a sentence, where that was asked for and there was some.
    """

    num_frames: int
    fps: float | None
    duration: float | None
    width: int
    height: int
    rotation: int
    codec: str
    has_audio: bool
    damage: str | None = None


@dataclass(frozen=True)
class Clip:
    """Pictures of one video.

    Attributes:
        frames: uint8 (T, 3, H, W), RGB; in memory colours lie together (channels last), as decoders give them.
        times: float64 (T,), seconds from the presentation of the video's first picture, which is at 0.
    """

    frames: UInt8[Tensor, "t c h w"]
    times: Float64[np.ndarray, " t"]


def probe(path: str | Path, *, damaged: Damaged = "refuse") -> VideoInfo:
    """Reads through a file once, decodes its first picture and says what is in it.

    Decodes everything only where packets and pictures are visibly not one to one (see `_count`).

    Args:
        path: the file, or a folder of numbered pictures.
        damaged: "take" decodes everything, counts what can be decoded and tells the rest in `VideoInfo.damage`.

    Raises:
        VideoError: there is no such file, it holds no video, no frame of it can be decoded, or it is truncated.
    """
    with blaming(path):
        return _probe_folder(path) if Path(path).is_dir() else _probe_file(path, losses=[] if damaged == "take" else None)


def _probe_file(path: str | Path, *, losses: list[str] | None) -> VideoInfo:
    with opened(path) as (container, stream):
        listed, past_end = stream.frames, index_ends_past_file(path, container, stream)
        seen, total = _survey(container, stream)
        # A header may lie harmlessly (HMDB51 counts one too many): only missing bytes make a file truncated.
        if past_end and listed - total > max(2, 0.05 * listed):
            found = f"only {total}" if total else "none"
            told = f"its index lists {number_of(listed, 'frame')} but {found} can be read"
            if losses is None or not total:
                raise VideoError(path, f"is truncated: {told}")
            losses.append(told)
        codec, has_audio = stream.codec_context.codec.canonical_name, bool(container.streams.audio)
        rate, tick = stream.average_rate, float(stream.time_base or 0)
    with opened(path) as (container, stream):
        first = next(decoded(path, packets(container, stream), stream, needed=1, losses=None if losses is None else []))
    transposed, _, flip_y = orientation(first)
    times = sorted(packet.pts for packet in seen if packet.pts is not None)
    span = (times[-1] - times[0]) * tick if times else 0.0
    fps = float(rate) if rate else (len(times) - 1) / span if span else None
    last = max((packet.duration for packet in seen if packet.pts == times[-1]), default=0) if times else 0
    duration = span + (last * tick or (1 / fps if fps else 0.0)) if times else None
    height, width = (first.width, first.height) if transposed else (first.height, first.width)
    turns = {(False, False): 0, (True, False): 90, (False, True): 180, (True, True): 270}
    return VideoInfo(
        num_frames=_count(path, seen, first=first) if losses is None else _count_decoded(path, losses),
        fps=fps,
        duration=duration or None,
        width=width,
        height=height,
        rotation=turns[transposed, flip_y],
        codec=codec,
        has_audio=has_audio,
        damage=damage(losses or ()),
    )


def frame_times(path: str | Path, *, damaged: Damaged = "refuse") -> tuple[Float64[np.ndarray, " n"], bool]:
    """When each frame of a video is shown, in seconds from the first, and when the last one ends; and whether some are missing.

    Args:
        path: the file.
        damaged: see `read_frames`.

    Returns:
        The times, (num_frames + 1,), and whether the file is damaged, so that its frames do not follow one on another.

    Raises:
        VideoError: the file cannot be read as a video, or tells no times.
    """
    info = probe(path, damaged=damaged)
    if info.duration is None:
        raise VideoError(path, "tells no times, so that seconds mean nothing in it; give start_frame and end_frame")
    with opened(path) as (container, stream):
        seen, _ = _survey(container, stream)
        ticks = sorted(packet.pts for packet in seen if packet.pts is not None)
        times = (np.array(ticks) - ticks[0]) * float(stream.time_base or 0)
    if len(times) != info.num_frames or info.damage is not None:  # packets and pictures are not one to one
        times = read_frames(path, range(info.num_frames), short_side=16, damaged=damaged).times
    if np.isnan(times).any():
        raise VideoError(path, "tells no times of some frames; give start_frame and end_frame")
    return np.append(times, max(info.duration, times[-1])), info.damage is not None


def read_frames(
    path: str | Path,
    indices: Sequence[int],
    *,
    short_side: int | None = None,
    decoder: Decoder = "pyav",
    from_the_start: bool = False,
    damaged: Damaged = "refuse",
) -> Clip:
    """Decodes the wanted frames of a video.

    Display rotation (and mirroring) is applied; non-square pixels are left as stored. Every picture is brought to
    the size of the first one, so a size that changes midway does no harm.

    Args:
        path: the file, or a folder of numbered pictures, which tells no times (NaN).
        indices: (T,) frame numbers in order of presentation, from 0; in any order, repeats allowed.
        short_side: pixels; larger pictures are scaled down while they are converted, so that their shorter side is
            this long and their aspect is kept. Smaller ones stay as they are.
        decoder: "pyav", or "torchcodec" where it is installed; the frames are the same (see `video.torchcodec`).
        from_the_start: decodes everything up to the last wanted frame, needed or not. The frames are the same, but
            damage before it is met; otherwise only damage that the wanted frames depend on is.
        damaged: "take" decodes everything from the start, and frame i is the i-th picture that can be decoded; by default
            what cannot be decoded is an error.

    Returns:
        The frames, uint8 (T, 3, H, W), and their times in seconds, (T,), both in the order of `indices`.

    Raises:
        ValueError: no indices, a negative one, or a `short_side` below 1.
        VideoError: the file cannot be read, or ends before a wanted frame.
    """
    if len(indices) == 0 or min(indices) < 0:
        raise ValueError(f"indices {list(indices)[:8]} given, but at least one is needed and all must be 0 or more")
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side {short_side} given, but it must be 1 or more")
    wanted, inverse = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    with blaming(path):
        if Path(path).is_dir():
            return _read_folder(path, wanted[inverse], short_side)
        if damaged == "take":
            with opened(path) as (container, stream):
                found = from_start(path, container, stream, wanted.tolist(), short_side=short_side, losses=[])
            return _clip(*found, inverse)
        with opened(path) as (container, stream):
            picky = by_leaps if decoder == "pyav" else by_torchcodec
            read = picky if not from_the_start and may_leap(container, stream) else from_start
            found = read(path, container, stream, wanted.tolist(), short_side=short_side)
        if found is None:
            with opened(path) as (container, stream):
                found = from_start(path, container, stream, wanted.tolist(), short_side=short_side)
    return _clip(*found, inverse)


def _clip(frames: np.ndarray, times: np.ndarray, places: np.ndarray) -> Clip:
    """The pictures in the order of `places` among them."""
    if len(places) != len(frames) or bool((np.diff(places) != 1).any()):
        frames = frames[places]
    return Clip(frames=torch.from_numpy(frames).permute(0, 3, 1, 2), times=times[places])


def check_decoder(decoder: str) -> None:
    """Raises DualPathError for a decoder that does not exist, or cannot be used on this machine."""
    if decoder not in get_args(Decoder):
        raise DualPathError(f"decoder is {decoder!r}, but it must be one of {', '.join(get_args(Decoder))}")
    if decoder == "torchcodec":
        check_torchcodec()


def _probe_folder(path: str | Path) -> VideoInfo:
    pictures = list_pictures(path)
    width, height = picture_size(pictures[0])
    return VideoInfo(len(pictures), None, None, width, height, 0, pictures[0].suffix[1:].lower(), False)


def _read_folder(path: str | Path, indices: np.ndarray, short_side: int | None) -> Clip:
    """As `read_frames`; a folder tells no times."""
    pictures = list_pictures(path)
    if indices.max() >= len(pictures):
        raise VideoError(
            path, f"holds only {number_of(len(pictures), 'frame')}, but frame {indices.max()} (counted from 0) was asked for"
        )
    size = scaled(*picture_size(pictures[0]), short_side)
    frames = read_pictures([pictures[index] for index in indices], size)
    return Clip(frames=torch.from_numpy(frames).permute(0, 3, 1, 2), times=np.full(len(indices), np.nan))


@dataclass(frozen=True)
class _Seen:
    """What is kept of a packet to count and to time: times in ticks, and whether it may be other than one picture."""

    pts: int | None
    duration: int
    odd: bool


def _survey(container: InputContainer, stream: VideoStream) -> tuple[list[_Seen], int]:
    """Demuxes all: the packets that are to be shown, and how many there are with those that edit lists hide."""
    shown, total = [], 0
    for packet in packets(container, stream):
        total += 1
        if not packet.is_discard:
            odd = packet.is_corrupt or not _holds_one(packet, stream)
            shown.append(_Seen(packet.pts, packet.duration or 0, odd))
    return shown, total


def _holds_one(packet: Packet, stream: VideoStream) -> bool:
    """Whether it is certain that a packet of an undamaged file is one picture: its codec has no others, or its bits say so."""
    context = stream.codec_context
    codec = context.codec.canonical_name
    if codec == "vp8":
        return bool(bytes(packet)[0] & 0x10)  # the show_frame bit, RFC 6386, 9.1
    if codec == "mpeg4":
        return packet.size > NO_PICTURE
    if codec not in CODECS:
        return context.codec.intra_only
    nal_length = nal_length_size(codec, context.extradata)
    if nal_length is None:  # start codes: FFmpeg itself cuts the stream into pictures
        return True
    found = nature(memoryview(packet), codec=codec, nal_length=nal_length)
    return found is not None and found.pictures == 1


def _count(path: str | Path, seen: list[_Seen], *, first: VideoFrame) -> int:
    """How many pictures decoding yields: one a packet where that is certain; else all are decoded.

    It is not certain of packets marked corrupt, of those that may hold no picture or several (see `_holds_one`), without or
    with equal times (pictures in pieces), or before the first picture that appears (an open group of pictures whose
    reference was cut away).
    """
    times = [packet.pts for packet in seen]
    if (
        any(packet.odd for packet in seen)
        or None in times
        or len(set(times)) < len(times)
        or (first.pts is not None and min(t for t in times if t is not None) < first.pts)
    ):
        try:
            return _count_decoded(path, None)
        except VideoError:
            return len(seen)  # damaged midway: reading past the damage then says so, nothing is hidden
    return len(seen)


def _count_decoded(path: str | Path, losses: list[str] | None) -> int:
    with opened(path) as (container, stream):
        return sum(1 for _ in decoded(path, packets(container, stream), stream, needed=None, losses=losses))
