"""The way from a path to packets: what is wrong with a file is said here, in one sentence, before anything is decoded.

    path --opened--> (container, stream) --packets--> Packet, Packet, ...   undecoded pictures in the file's own order

One thread decodes, and the file is closed before a function returns or raises: workers are the parallelism here.
FFmpeg's and PyAV's errors all become a `VideoError`. PyAV mutes FFmpeg's log unless its user asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.error import ArgumentError, ExitError, FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dualpath.errors import VideoError, blaming, number_of
from dualpath.video.decoding.places import Place, check_time, find_place, opened_place, time_left

# fmt: off
FORMATS = (
    # videos
    "apng", "asf", "asf_o", "av1", "avi", "avs2", "avs3", "bink", "cavsvideo", "dirac", "dnxhd", "dv", "evc", "film_cpk",
    "flic", "flv", "gif", "gxf", "h261", "h263", "h264", "hevc", "ivf", "kux", "live_flv", "lxf", "m4v", "matroska", "mjpeg",
    "mjpeg_2000", "mov", "mpeg", "mpegts", "mpegvideo", "mpjpeg", "mtv", "mxf", "nsv", "nut", "nuv", "obu", "ogg", "pva", "rm",
    "roq", "smjpeg", "smk", "swf", "vc1", "vc1test", "vvc", "wtv", "yuv4mpegpipe",
    # single pictures, and sound, of which it can be said that it is no video
    "bmp_pipe", "jpeg_pipe", "png_pipe", "webp_pipe",
    "aac", "ac3", "aiff", "amr", "ape", "au", "caf", "dts", "eac3", "flac", "mp3", "tta", "w64", "wav", "wv",
)
# fmt: on
"""FFmpeg's names of the forms that are read. All lie wholly in their own file: lists of other files (concat, HLS, DASH, SDP,
numbered pictures) are none of them, whatever they call themselves."""


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file or a part of one, closes it whatever happens, and turns what is raised meanwhile into a VideoError."""
    with blaming(path), opened_place(path) as place:
        _check_content(path, place)
        # A playlist disguised as a video reaches neither the network nor another file. Old AVI metadata is often not UTF-8.
        options = {"protocol_whitelist": place.protocols, "format_whitelist": ",".join(FORMATS)}
        with _open(path, place, options) as container:
            # A cover picture of a sound file counts as video for FFmpeg, not for us.
            pictures = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
            if not pictures:
                kinds = " and ".join(sorted({s.type for s in container.streams if s.type != "video"}))
                raise VideoError(path, f"holds no video, only {kinds}" if kinds else "holds no video: cut short or damaged")
            stream = pictures[0]
            if stream.codec_context is None:  # whatever PyAV's types say
                raise VideoError(path, "holds video in a format that this FFmpeg cannot decode, or is damaged")
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            yield container, stream


def _open(path: str | Path, place: Place, options: dict[str, str]) -> InputContainer:
    try:
        return av.open(place.url, metadata_errors="ignore", options=options, timeout=time_left())
    except ExitError:
        check_time()
        raise
    except ArgumentError as problem:  # what FFmpeg says of a form that it knows and may not read
        raise VideoError(path, "is no video in a form that is read here: a list of other files, or damaged") from problem


def _check_content(path: str | Path, place: Place) -> None:
    """Says what is wrong with a file that FFmpeg would only call invalid data."""
    if place.length == 0:
        raise VideoError(path, "is empty (0 bytes)")
    head = place.read(512)
    if head.startswith(b"version https://git-lfs"):
        raise VideoError(path, "is not the video but a Git LFS pointer to it; fetch it with `git lfs pull`")
    text = head.decode("utf-8", errors="ignore").encode()  # a character cut in half at the end is no objection
    if len(head) - len(text) < 4 and not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        raise VideoError(path, "is not a video but a text file")


def packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The packets to decode. The last one of a file that was cut is half a picture: it is left out."""
    held: Packet | None = None
    try:
        for packet in container.demux(stream):
            check_time()
            if packet.size == 0:  # the end of the stream, or a frame that an AVI file dropped
                continue
            if held is not None:
                yield held
            held = packet
    except ExitError:  # the time that it was opened with is over
        check_time()
        raise
    if held is not None and not held.is_corrupt:
        yield held


def decoded(
    path: str | Path,
    source: Iterable[Packet],
    stream: VideoStream,
    *,
    needed: int | None,
    losses: list[str] | None = None,
) -> Iterator[VideoFrame]:
    """The first `needed` pictures in order of presentation, or all of them; VideoError if there are fewer.

    What cannot be decoded ends it; where `losses` are given, it is left out instead and told there, as ffmpeg does.
    """
    count, why = 0, ""
    try:
        for frame in _every(source, stream, losses):
            check_time()
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
        last = f"frame {needed - 1} (counted from 0)"
        raise VideoError(path, f"only {number_of(count, 'frame')} could be decoded, but {last} was asked for{why}")


def _every(source: Iterable[Packet], stream: VideoStream, losses: list[str] | None) -> Iterator[VideoFrame]:
    packets = iter(source)
    while True:
        packet = None  # at the end tells the decoder to hand over the pictures that it still holds
        try:
            packet = next(packets, None)
            yield from stream.codec_context.decode(packet)
        except FFmpegError as problem:
            if losses is None:
                raise
            losses.append(problem.strerror or str(problem))
        if packet is None:
            return


def damage(losses: Sequence[str]) -> str | None:
    """A sentence on what could not be decoded; None if there is nothing."""
    if not losses:
        return None
    times = "once" if len(losses) == 1 else f"{len(losses)} times"
    return f"is damaged: decoding failed {times} ({losses[0]}), what could be decoded is taken"


def index_ends_past_file(path: str | Path, container: InputContainer, stream: VideoStream) -> bool:
    """Whether bytes are missing: an index entry, or the size that a RIFF header states, lies past the file's end."""
    place = find_place(path)
    size = place.length
    if container.format.name == "avi":
        return int.from_bytes(place.read(8)[4:], "little") + 8 > size
    return any(entry.pos + entry.size > size for entry in stream.index_entries)
