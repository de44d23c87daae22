"""Read frames out of video files, frame-exactly, with PyAV.

    path --probe--------> VideoInfo   what is in the file, counted, not believed
    path --read_frames--> Clip        frames uint8 (T, C, H, W) RGB and their times

Frame i is the i-th picture that decoding from the start yields: nothing is ever sought, because seeking returns
wrong pictures on real data sets (AVI, WebM, variable frame rate). Decoding up to the last wanted frame is the bill;
pictures before it that are not wanted are decoded but never converted.

One thread decodes, and the file is closed before a function returns or raises: workers are the parallelism here.
FFmpeg's and PyAV's errors all become a `VideoError`. PyAV mutes FFmpeg's log unless its user asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8
from torch import Tensor

from dualpath.errors import DualPathError, VideoError
from dualpath.video.pictures import orientation, scaled, seconds, to_rgb
from dualpath.video.places import Place, find_place, opened_place

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
    """

    num_frames: int
    fps: float | None
    duration: float | None
    width: int
    height: int
    rotation: int
    codec: str
    has_audio: bool


@dataclass(frozen=True)
class Clip:
    """Pictures of one video.

    Attributes:
        frames: uint8 (T, 3, H, W), RGB.
        times: float64 (T,), seconds from the presentation of the video's first picture, which is at 0.
    """

    frames: UInt8[Tensor, "t c h w"]
    times: Float64[np.ndarray, " t"]


def probe(path: str | Path) -> VideoInfo:
    """Reads through a file once, decodes its first picture and says what is in it.

    Decodes everything only where packets and pictures are visibly not one to one (see `_count`).

    Raises:
        VideoError: there is no such file, it holds no video, no frame of it can be decoded, or it is truncated.
    """
    with _opened(path) as (container, stream):
        listed, past_end = stream.frames, _index_ends_past_file(path, container, stream)
        packets, total = _survey(container, stream)
        # A header may lie harmlessly (HMDB51 counts one too many): only missing bytes make a file truncated.
        if past_end and listed - total > max(2, 0.05 * listed):
            found = f"only {total}" if total else "none"
            raise VideoError(path, f"is truncated: its index lists {listed} frames but {found} can be read")
        codec, has_audio = stream.codec_context.codec.canonical_name, bool(container.streams.audio)
        rate, tick = stream.average_rate, float(stream.time_base or 0)
    with _opened(path) as (container, stream):
        first = next(_decoded(path, container, stream, needed=1))
    transposed, _, flip_y = orientation(first)
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    span = (times[-1] - times[0]) * tick if times else 0.0
    fps = float(rate) if rate else (len(times) - 1) / span if span else None
    last = max((packet.duration for packet in packets if packet.pts == times[-1]), default=0) if times else 0
    duration = span + (last * tick or (1 / fps if fps else 0.0))
    height, width = (first.width, first.height) if transposed else (first.height, first.width)
    turns = {(False, False): 0, (True, False): 90, (False, True): 180, (True, True): 270}
    return VideoInfo(
        num_frames=_count(path, packets, codec=codec, first=first),
        fps=fps,
        duration=duration or None,
        width=width,
        height=height,
        rotation=turns[transposed, flip_y],
        codec=codec,
        has_audio=has_audio,
    )


def read_frames(path: str | Path, indices: Sequence[int], *, short_side: int | None = None) -> Clip:
    """Decodes the wanted frames of a video.

    Display rotation (and mirroring) is applied; non-square pixels are left as stored. Every picture is brought to
    the size of the first one, so a size that changes midway does no harm.

    Args:
        path: the file.
        indices: (T,) frame numbers in order of presentation, from 0; in any order, repeats allowed.
        short_side: pixels; larger pictures are scaled down while they are converted, so that their shorter side is
            this long and their aspect is kept. Smaller ones stay as they are.

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
    place = {int(index): row for row, index in enumerate(wanted)}
    frames: np.ndarray | None = None
    stamps: list[tuple[int | None, int | None]] = []
    with _opened(path) as (container, stream):
        tick, rate = stream.time_base, stream.average_rate
        reformatter = VideoReformatter()
        size = (0, 0)
        for number, frame in enumerate(_decoded(path, container, stream, needed=int(wanted[-1]) + 1)):
            # AVI stores no presentation times: what FFmpeg guesses there may run backwards.
            stamps.append((None if container.format.name == "avi" else frame.pts, frame.dts))
            if number == 0:
                size = scaled(frame.width, frame.height, short_side)
            if number in place:
                picture = to_rgb(frame, reformatter, size)
                if frames is None:
                    frames = np.empty((len(wanted), *picture.shape), np.uint8)
                if picture.shape != frames.shape[1:]:
                    raise VideoError(path, f"changes its rotation at frame {number}, which cannot be read as one clip")
                frames[place[number]] = picture
    assert frames is not None  # `_decoded` yields every needed frame or raises
    clock = seconds(stamps, tick=tick, rate=rate)
    if len(wanted) != len(indices) or bool((np.diff(inverse) != 1).any()):
        frames = frames[inverse]
    return Clip(frames=torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(), times=clock[wanted[inverse]])


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens `path`, closes it whatever happens, and turns what PyAV raises meanwhile into a VideoError."""
    try:
        with ExitStack() as stack:
            place = stack.enter_context(opened_place(path))
            _check_file(path, place)
            # The whitelist keeps a playlist disguised as a video from reaching the network, and old AVI metadata is often
            # not UTF-8.
            options = {"protocol_whitelist": place.protocols}
            container = stack.enter_context(av.open(place.url, metadata_errors="ignore", options=options))
            # A cover picture of a sound file counts as video for FFmpeg, not for us.
            pictures = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
            if not pictures:
                kinds = " and ".join(sorted({s.type for s in container.streams if s.type != "video"}))
                raise VideoError(path, f"holds no video, only {kinds}" if kinds else "holds no video: cut short or damaged")
            stream = pictures[0]
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            yield container, stream
    except DualPathError:
        raise
    except (FFmpegError, OSError, EOFError, ValueError) as problem:
        said = getattr(problem, "strerror", None) or str(problem)
        raise VideoError(path, f"cannot be read as a video: damaged, cut short or something else ({said})") from problem


def _check_file(path: str | Path, place: Place) -> None:
    """Says what is wrong with a file that FFmpeg would only call invalid data."""
    if place.length == 0:
        raise VideoError(path, "is empty (0 bytes)")
    head = place.read(512)
    if head.startswith(b"version https://git-lfs"):
        raise VideoError(path, "is not the video but a Git LFS pointer to it; fetch it with `git lfs pull`")
    text = head.decode("utf-8", errors="ignore").encode()  # a character cut in half at the end is no objection
    if len(head) - len(text) < 4 and not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        raise VideoError(path, "is not a video but a text file")


@dataclass(frozen=True)
class _Seen:
    """What is kept of a packet to count and to time: its size in bytes, times in ticks, and signs of trouble."""

    size: int
    pts: int | None
    duration: int
    odd: bool


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The packets to decode. The last one of a file that was cut is half a picture: it is left out."""
    held: Packet | None = None
    for packet in container.demux(stream):
        if packet.size == 0:  # the end of the stream, or a frame that an AVI file dropped
            continue
        if held is not None:
            yield held
        held = packet
    if held is not None and not held.is_corrupt:
        yield held


def _survey(container: InputContainer, stream: VideoStream) -> tuple[list[_Seen], int]:
    """Demuxes all: the packets that are to be shown, and how many there are with those that edit lists hide."""
    hidden_in_vp8 = stream.codec_context.codec.canonical_name == "vp8"
    shown, total = [], 0
    for packet in _packets(container, stream):
        total += 1
        if not packet.is_discard:
            hidden = hidden_in_vp8 and not bytes(packet)[0] & 0x10  # the show_frame bit, RFC 6386, 9.1
            shown.append(_Seen(packet.size, packet.pts, packet.duration or 0, bool(hidden or packet.is_corrupt)))
    return shown, total


def _count(path: str | Path, packets: list[_Seen], *, codec: str, first: VideoFrame) -> int:
    """How many pictures decoding yields: one a packet, unless there are signs that it is not so; then decode.

    The signs: packets marked corrupt, hidden (VP8), without or with equal times (pictures in pieces), or before the
    first picture that appears (an open group of pictures whose reference was cut away), and MPEG-4 placeholders.
    """
    times = [packet.pts for packet in packets]
    if (
        any(packet.odd for packet in packets)
        or None in times
        or len(set(times)) < len(times)
        or (first.pts is not None and min(t for t in times if t is not None) < first.pts)
        or (codec == "mpeg4" and any(packet.size <= NO_PICTURE for packet in packets))
    ):
        try:
            with _opened(path) as (container, stream):
                return sum(1 for _ in _decoded(path, container, stream, needed=None))
        except VideoError:
            return len(packets)  # damaged midway: reading past the damage then says so, nothing is hidden
    return len(packets)


def _decoded(path: str | Path, container: InputContainer, stream: VideoStream, *, needed: int | None) -> Iterator[VideoFrame]:
    """The first `needed` pictures in order of presentation, or all of them; VideoError if there are fewer."""
    count, why = 0, ""
    try:
        # The None at the end tells the decoder to hand over the pictures that it still holds.
        for packet in chain(_packets(container, stream), [None]):
            for frame in stream.codec_context.decode(packet):
                yield frame
                count += 1
                if count == needed:
                    return
    except FFmpegError as problem:
        if needed is None:
            raise
        why = f" ({problem.strerror})"
    if count == 0:
        raise VideoError(path, f"no frame could be decoded{why}")
    if needed is not None:
        frames = "1 frame" if count == 1 else f"{count} frames"
        last = f"frame {needed - 1} (counted from 0)"
        raise VideoError(path, f"only {frames} could be decoded, but {last} was asked for{why}")


def _index_ends_past_file(path: str | Path, container: InputContainer, stream: VideoStream) -> bool:
    """Whether bytes are missing: an index entry, or the size that a RIFF header states, lies past the file's end."""
    place = find_place(path)
    size = place.length
    if container.format.name == "avi":
        return int.from_bytes(place.read(8)[4:], "little") + 8 > size
    return any(entry.pos + entry.size > size for entry in stream.index_entries)
