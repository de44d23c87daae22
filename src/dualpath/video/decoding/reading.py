"""Packets to the wanted pictures: all decoded from the start, or only those that are needed for them.

`from_start` is the plain way and the judge of the other; `by_leaps` gives the same pixels and times, bit for bit, or
gives up (None) wherever a file is not of the kind for which that is certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8

from dualpath.errors import VideoError
from dualpath.video.decoding.bitstream import CODECS, nal_length_size, nature
from dualpath.video.decoding.container import decoded, opened, packets
from dualpath.video.decoding.leaps import Entry, Run, leaps, order_of_presentation, reordering
from dualpath.video.decoding.pictures import scaled, seconds, to_rgb
from dualpath.video.decoding.places import check_time

Pictures = tuple[UInt8[np.ndarray, "n h w 3"], Float64[np.ndarray, " n"]]
CONTAINERS = ("mov", "matroska")  # with a presentation time on every packet, written there by the muxer
MOST_BYTES = 1 << 28  # of packets held in memory; longer files are read a second time


class _Collector:
    """Converts the wanted pictures and keeps them in order."""

    def __init__(self, path: str | Path, wanted: Sequence[int], size: tuple[int, int]) -> None:
        self.path = path
        self.place = {int(index): row for row, index in enumerate(wanted)}
        self.size = size
        self.reformatter = VideoReformatter()
        self.frames: np.ndarray | None = None

    def take(self, number: int, frame: VideoFrame) -> None:
        picture = to_rgb(frame, self.reformatter, self.size)
        if self.frames is None:
            self.frames = np.empty((len(self.place), *picture.shape), np.uint8)
        if picture.shape != self.frames.shape[1:]:
            raise VideoError(self.path, f"changes its rotation at frame {number}, which cannot be read as one clip")
        self.frames[self.place[number]] = picture


def from_start(
    path: str | Path,
    container: InputContainer,
    stream: VideoStream,
    wanted: Sequence[int],
    *,
    short_side: int | None,
    losses: list[str] | None = None,
) -> Pictures:
    """Decodes every picture up to the last wanted one, in order; those not wanted are not converted.

    Args:
        path: for error messages.
        container: freshly opened.
        stream: of it.
        wanted: picture numbers, ascending, without repeats.
        short_side: see `read_frames`.
        losses: see `decoded`.

    Returns:
        The wanted pictures and their times in seconds.

    Raises:
        VideoError: the file ends, or cannot be decoded, before the last of them.
    """
    collector: _Collector | None = None
    stamps: list[tuple[int | None, int | None]] = []
    tick, rate = stream.time_base, stream.average_rate
    for number, frame in enumerate(
        decoded(path, packets(container, stream), stream, needed=int(wanted[-1]) + 1, losses=losses)
    ):
        # AVI stores no presentation times: what FFmpeg guesses there may run backwards.
        stamps.append((None if container.format.name == "avi" else frame.pts, frame.dts))
        if collector is None:
            collector = _Collector(path, wanted, scaled(frame.width, frame.height, short_side))
        if number in collector.place:
            collector.take(number, frame)
    assert collector is not None  # `decoded` yields every needed frame or raises
    assert collector.frames is not None
    return collector.frames, seconds(stamps, tick=tick, rate=rate)[list(wanted)]


def may_leap(container: InputContainer, stream: VideoStream) -> bool:
    """Whether a file is of a kind in which `by_leaps` can succeed: told from its header alone."""
    codec = stream.codec_context
    return (
        container.format.name.split(",")[0] in CONTAINERS
        and codec.codec.canonical_name in CODECS
        and nal_length_size(codec.codec.canonical_name, codec.extradata) is not None
        and stream.time_base is not None
    )


def by_leaps(
    path: str | Path,
    container: InputContainer,
    stream: VideoStream,
    wanted: Sequence[int],
    *,
    short_side: int | None,
) -> Pictures | None:
    """Decodes only what the wanted pictures need: from the last place before each where decoding may start.

    Takes what `from_start` takes, of a file that `may_leap`, and returns the same. Every decoded picture must be one
    that the plan expects; any surprise ends in None, and then the container cannot be used any more.

    Where a container's times contradict the order that pictures have in the stream itself (damaged files), a leap that
    sees no sign of it finds a frame by its time. A picture behind a damaged stretch comes out if it does not depend on
    it; `from_start` may stop there.
    """
    try:
        return _leap(path, container, stream, wanted, short_side=short_side)
    except FFmpegError:
        return None


def _leap(
    path: str | Path,
    container: InputContainer,
    stream: VideoStream,
    wanted: Sequence[int],
    *,
    short_side: int | None,
) -> Pictures | None:
    context = stream.codec_context
    size, depth = (context.width, context.height), context.reorder_depth
    read = survey(container, stream)
    if read is None:
        return None
    entries, kept = read
    order = order_of_presentation(entries)
    if order is None or wanted[-1] >= len(order) or reordering(entries) > depth:
        return None
    numbers = {order[index]: index for index in wanted}
    collector = _Collector(path, wanted, scaled(*size, short_side))
    job = _Job(entries, leaps(entries, numbers), numbers, size, collector)
    if kept is not None:
        complete = job.run(kept, stream)
    else:
        with opened(path) as (again, its_stream):
            complete = job.run(packets(again, its_stream), its_stream)
    if not complete or collector.frames is None:
        return None
    ticks = np.array([entries[k].pts for k in order], np.float64)
    return collector.frames, ((ticks - ticks[0]) * float(stream.time_base or 0))[list(wanted)]


def survey(container: InputContainer, stream: VideoStream) -> tuple[list[Entry], list[Packet] | None] | None:
    """All packets for the planner, and themselves unless they are too large to be kept; None if one is doubtful."""
    codec = stream.codec_context.codec.canonical_name
    nal_length = nal_length_size(codec, stream.codec_context.extradata) or 0
    entries: list[Entry] = []
    kept: list[Packet] = []
    held = 0
    parameters: frozenset[bytes] | None = None
    for packet in packets(container, stream):
        found = nature(memoryview(packet), codec=codec, nal_length=nal_length)
        if packet.is_corrupt or packet.pts is None or found is None or found.pictures != 1:
            return None
        if packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change"):
            return None
        # Parameter sets must be the same all the time: packets that are left out may not bring news.
        parameters = found.parameters if parameters is None else parameters
        if not found.parameters <= parameters:
            return None
        starts = found.starts and found.parameters == parameters
        entries.append(Entry(packet.pts, packet.is_discard, starts, found.needless))
        held += packet.size
        if held <= MOST_BYTES:
            kept.append(packet)
        else:
            kept.clear()
    return entries, kept if held <= MOST_BYTES else None


@dataclass(frozen=True)
class _Job:
    """What to decode, and what must come out."""

    entries: list[Entry]
    runs: list[Run]
    numbers: dict[int, int]
    size: tuple[int, int]
    collector: _Collector

    def run(self, source: Iterable[Packet], stream: VideoStream) -> bool:
        """Decodes; False if a picture is missing, damaged, comes twice or out of order, or is not one of those expected."""
        decoder = stream.codec_context
        numbered = enumerate(source)
        for place, run in enumerate(self.runs):
            if place:
                decoder.flush_buffers()
            chosen = (self.entries[k] for k in run.packets)
            due = {entry.pts for entry in chosen if not entry.hidden and entry.pts >= run.since}
            wanted = {self.entries[k].pts: self.numbers[k] for k in run.wanted}
            last = run.since
            # The None at the end tells the decoder to hand over the pictures that it still holds.
            for packet in chain(_chosen(numbered, run), [None]):
                check_time()
                for frame in decoder.decode(packet):
                    if frame.is_corrupt and (frame.pts is None or frame.pts >= run.since):
                        return False  # what damage is painted over with depends on all that was decoded before
                    if frame.pts is not None and frame.pts < run.since:
                        continue
                    # The decoder's order is that of the pictures' own numbers: the container's times must agree.
                    if frame.pts not in due or frame.pts < last or (frame.width, frame.height) != self.size:
                        return False
                    last = frame.pts
                    due.remove(frame.pts)
                    if frame.pts in wanted:
                        self.collector.take(wanted[frame.pts], frame)
            if due:
                return False
        return True


def _chosen(numbered: Iterator[tuple[int, Packet]], run: Run) -> Iterator[Packet]:
    needed, last = set(run.packets), run.packets[-1]
    for number, packet in numbered:
        if number in needed:
            yield packet
        if number == last:
            return
