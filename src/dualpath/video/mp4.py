"""Pictures to H.264 in MP4 with true times: what writes a video that people or we read again.

    pictures --encode--> draft.mp4 (frame numbers for times) --copy, true times--> file

4:2:0 with even sides, without sound; the index lies at the file's beginning, so a browser plays it at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8

from dualpath.errors import DualPathError
from dualpath.files import temporary_beside

TICKS = 90_000
"""Of a second: 24, 25, 30, 50, 60 and 30/1.001 frames a second and milliseconds are whole numbers of it."""
_PRESET = "veryfast"


class OutputError(DualPathError):
    """The target cannot be written: the disk is full, there is no permission. No fault of the source."""


@dataclass(frozen=True)
class Quality:
    """What x264 is asked for.

    Attributes:
        crf: its constant quality, 0 (lossless) to 51; 18 can hardly be told from the source.
        key_frame_distance: frames from one key frame to the next, where a reader can begin.
        b_frames: in a row at most; the pictures are then stored in another order than they are shown in.
    """

    crf: int = 18
    key_frame_distance: int = 12
    b_frames: int = 0


def write_pictures(
    path: Path,
    pictures: Iterable[UInt8[np.ndarray, "h w 3"]],
    times: Float64[np.ndarray, " t"],
    *,
    last: float,
    quality: Quality,
) -> None:
    """Writes pictures as a video, whole or not at all.

    Args:
        path: .mp4 file; its folder must exist.
        pictures: RGB, all of one size with even sides, one for each time.
        times: seconds, ascending; the first is shown from the beginning, each until the next one's.
        last: seconds that the last one is shown.
        quality: of the encoder, without B-frames.

    Raises:
        OutputError: it cannot be written.
    """
    draft, temporary = temporary_beside(path), temporary_beside(path)
    gap = float(np.median(np.diff(times))) if len(times) > 1 else last
    writer: Writer | None = None
    try:
        with writing(path):
            scaler = VideoReformatter()
            for picture in pictures:
                if writer is None:
                    height, width, _ = picture.shape
                    rate = Fraction(1 / gap).limit_denominator(1001)
                    writer = Writer(draft, size=(width, height), rate=rate, quality=quality)
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                # Said in the file too: players guess by size otherwise.
                writer.add(scaler.reformat(frame, format="yuv420p", dst_colorspace=Colorspace.ITU601, threads=1))
            assert writer is not None, "there is one picture at least"
            writer.close()
            retime(draft, temporary, times, ahead=0, last=last)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        if writer is not None:
            writer.abandon()
        for left in (draft, temporary):
            left.unlink(missing_ok=True)


class Writer:
    """The encoder and the file that it writes to."""

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        rate: Fraction | None,
        quality: Quality,
    ) -> None:
        """Opens it for pictures of this size, width first; the rate is a hint."""
        every, between = str(quality.key_frame_distance), str(quality.b_frames)
        options = {"preset": _PRESET, "tune": "fastdecode", "crf": str(quality.crf), "bf": between}
        options |= {"g": every, "keyint_min": every}
        # Without macroblock trees, and with one thread, the same pictures give the same bytes.
        options |= {"sc_threshold": "0", "flags": "+cgop", "x264-params": "mbtree=0:b-adapt=0:b-pyramid=none"}
        self.container = av.open(f"file:{os.fspath(path)}", "w", format="mp4")
        self.open = True
        self.count = 0
        # It only guides the encoder: a rate that no camera has (a header that lies) would upset it.
        self.rate = rate if rate and 1 <= rate <= 240 else Fraction(25)
        stream = self.container.add_stream("libx264", rate=self.rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count, context.time_base = 1, 1 / self.rate
        self.stream = stream

    def show_as(self, first: VideoFrame, *, aspect: Fraction | None) -> None:
        """Says in the file what is known of the colours, from a picture of the source, and of the pixels' shape."""
        context = self.stream.codec_context
        if aspect and aspect > 0:
            context.sample_aspect_ratio = aspect
        if first.format.name.startswith("yuv"):  # others have no colour space to keep: swscale writes its default one
            context.colorspace, context.color_range = first.colorspace, first.color_range
            context.color_primaries, context.color_trc = first.color_primaries, first.color_trc

    def add(self, picture: VideoFrame) -> None:
        """Encodes the next yuv420p picture."""
        picture.pts, picture.time_base = self.count, 1 / self.rate
        picture.pict_type = 0  # type: ignore[assignment]  # a key frame of the source is none here
        self.count += 1
        self.container.mux(self.stream.encode(picture))

    def close(self) -> None:
        """Encodes what waits, and ends the file."""
        self.container.mux(self.stream.encode(None))
        self.abandon(quietly=False)

    def abandon(self, *, quietly: bool = True) -> None:
        """Closes the file, if it still is open; the disk that is full is told only where it was not told before."""
        if not self.open:
            return
        self.open = False
        try:
            self.container.close()
        except (FFmpegError, OSError):
            if not quietly:
                raise


def retime(draft: Path, target: Path, times: Float64[np.ndarray, " t"], *, ahead: int, last: float | None = None) -> None:
    """The second pass: the same packets with their true times, and the index before them.

    Args:
        draft: what `Writer` wrote.
        target: the file.
        times: of its pictures in the order in which they are shown, seconds; the first becomes 0.
        ahead: by how many pictures they are decoded before they are shown: 1 with B-frames, which need a later one first.
        last: seconds that the last picture is shown; by default as long as the one before it.
    """
    ticks = np.rint((times - times[0]) * TICKS).astype(np.int64)
    # No two pictures at one time, however fine the source's clock was.
    ticks = np.maximum.accumulate(ticks - np.arange(len(ticks))) + np.arange(len(ticks))
    final = ticks[-1] - ticks[-2] if len(ticks) > 1 else TICKS // 25
    spans = np.append(np.diff(ticks), final if last is None else round(last * TICKS))
    decoded = np.append(ticks[0] - spans[0] * np.arange(ahead, 0, -1), ticks)
    options = {"movflags": "+faststart", "video_track_timescale": str(TICKS)}
    with av.open(f"file:{os.fspath(draft)}") as before:
        drafted = sorted(packet.pts for packet in before.demux(video=0) if packet.pts is not None)
    if len(drafted) != len(ticks):
        raise DualPathError(f"{len(drafted)} pictures were encoded of {len(ticks)}")
    places = {stamp: place for place, stamp in enumerate(drafted)}
    with (
        av.open(f"file:{os.fspath(draft)}") as before,
        av.open(f"file:{os.fspath(target)}", "w", format="mp4", options=options) as after,
    ):
        stream = after.add_stream_from_template(before.streams.video[0])
        stream.time_base = Fraction(1, TICKS)
        for number, packet in enumerate(packet for packet in before.demux(video=0) if packet.size):
            assert packet.pts is not None, "FFmpeg's muxer writes one for each"
            place = places[packet.pts]
            packet.time_base = Fraction(1, TICKS)
            packet.pts, packet.dts = int(ticks[place]), int(decoded[number])
            packet.duration = int(spans[place])
            packet.stream = stream
            after.mux(packet)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What fails here fails in writing: it is no fault of the source."""
    try:
        yield
    except (FFmpegError, OSError) as problem:
        said = getattr(problem, "strerror", None) or str(problem)
        raise OutputError(f"{path.parent} cannot be written to ({said})") from problem
