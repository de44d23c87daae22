"""Segments that are listed in seconds, as frames: the times of a file's frames say which ones lie in a segment.

    Manifest --files that have such segments, each once--> times (N + 1,) --frames_between--> Manifest with start and end

A frame is in a segment if its time t is: start <= t < end, where the first frame of a file is at 0 s.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from dualpath.data.formats.base import Seconds
from dualpath.data.manifest import Manifest
from dualpath.data.scan import Refusal, ask
from dualpath.video.decoding.places import Damaged

CLOSE = 1e-3
"""Seconds by which a frame may miss its time: Matroska rounds to milliseconds."""
ROUNDED = 1.0
"""Seconds that a segment may reach past the end of its file: lists give whole seconds."""


def in_frames(
    manifest: Manifest,
    *,
    workers: int = 1,
    damaged: Damaged = "refuse",
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """The same with `start` and `end` of the segments that are listed in seconds.

    Where a file cannot be read they stay as they are, past its end: whoever reads it says what is wrong with it. So do
    those of which nothing is left in a damaged file.

    Args:
        manifest: as it was read.
        workers: processes that read files.
        damaged: see `dualpath.video.decode.read_frames`.
        progress: called with (done, total) after each file.
    """
    paths = list(dict.fromkeys(video.path for video in manifest.videos if video.seconds is not None))
    if not paths:
        return manifest
    times: dict[Path, tuple[Float64[np.ndarray, " n"], bool]] = {}
    with closing(ask(paths, partial(read_times, damaged=damaged), workers=workers)) as answers:
        for number, (index, answer) in enumerate(answers, 1):
            if not isinstance(answer, Refusal):
                times[paths[index]] = answer
            if progress is not None:
                progress(number, len(paths))
    videos = list(manifest.videos)
    for index, video in enumerate(videos):
        if video.seconds is not None and video.path in times:
            each, harmed = times[video.path]
            start, end = frames_left(each, video.seconds) if harmed else frames_between(each, video.seconds)
            videos[index] = replace(video, start=start, end=end) if end is None or start < end else video
    return replace(manifest, videos=tuple(videos))


def read_times(path: Path, *, damaged: Damaged) -> tuple[Float64[np.ndarray, " n"], bool]:
    """`dualpath.video.decode.frame_times`, for a child process.

    Raises:
        VideoError: the file cannot be read, or tells no times.
    """
    from dualpath.video.decode import frame_times  # here, because it imports torch, which the parent does not need

    return frame_times(path, damaged=damaged)


def frames_left(times: Float64[np.ndarray, " n"], seconds: Seconds) -> tuple[int, int]:
    """As `frames_between` of a damaged file: the frames that there are of the segment, (0, 0) or (n, n) if there are none."""
    start, end = np.searchsorted(times[:-1], [seconds[0] - CLOSE, np.inf if seconds[1] is None else seconds[1] - CLOSE])
    return int(start), int(end)


def frames_between(times: Float64[np.ndarray, " n"], seconds: Seconds) -> tuple[int, int | None]:
    """The frames of a segment: the first, and the one behind the last; past the number of frames if it lies past the end.

    Args:
        times: (N + 1,), when each frame begins, and when the last one ends.
        seconds: of the segment.
    """
    count, ends = len(times) - 1, float(times[-1])
    length = max(ends / count, CLOSE)  # of a frame

    def first_from(time: float) -> int:
        beyond = max(0, int((time - ends + CLOSE) / length))
        return int(np.searchsorted(times[:-1], time - CLOSE)) + beyond

    begin, stop = seconds
    start = first_from(begin)
    end = None if stop is None else first_from(stop) if stop > ends + ROUNDED else min(first_from(stop), count)
    if begin < ends - CLOSE and start >= (count if end is None else end):  # shorter than a frame: the one that is shown then
        start = int(np.searchsorted(times[:-1], begin + CLOSE)) - 1
        end = start + 1
    return start, end
