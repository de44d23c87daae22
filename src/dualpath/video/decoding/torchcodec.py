"""The second decoder: torchcodec in its exact mode, with the FFmpeg of the system.

It is asked only for files of the kind for which `reading.by_leaps` is certain; which picture is frame i is told by the
same packets, and the times of what comes back must be the times expected. Whatever else happens, PyAV reads the file.
So frame numbers and times never depend on the decoder; pixels do where FFmpeg's versions differ, and by rounding where
pictures are scaled (here after the conversion to RGB, there together with it).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from dualpath.errors import DualPathError
from dualpath.video.decoding.leaps import order_of_presentation
from dualpath.video.decoding.pictures import scaled
from dualpath.video.decoding.places import find_place
from dualpath.video.decoding.reading import Pictures, survey


@cache
def what_is_missing() -> str | None:
    """Why torchcodec cannot be used here, with the remedy; None if it can. Imports it, which takes seconds."""
    try:
        import_module("torchcodec.decoders")
    except ImportError:
        return "torchcodec is not installed; pip install 'dualpath[torchcodec]'"
    except (RuntimeError, OSError):  # its page-long list of libraries that it tried
        return "torchcodec finds no FFmpeg libraries that it knows; install FFmpeg (apt install ffmpeg, brew install ffmpeg)"
    return None


def check_torchcodec() -> None:
    """Raises DualPathError, with the remedy, where torchcodec cannot be used."""
    missing = what_is_missing()
    if missing:
        raise DualPathError(f"the decoder torchcodec was asked for, but {missing}, or take --decoder pyav")


def by_torchcodec(
    path: str | Path,
    container: InputContainer,
    stream: VideoStream,
    wanted: Sequence[int],
    *,
    short_side: int | None,
) -> Pictures | None:
    """Takes and returns what `reading.by_leaps` does; None where it is not certain to give the same.

    Raises:
        DualPathError: torchcodec cannot be used here.
    """
    check_torchcodec()
    try:
        read = survey(container, stream)
    except FFmpegError:
        return None
    order = order_of_presentation(read[0]) if read else None
    if read is None or order is None or wanted[-1] >= len(order):
        return None
    tick = float(stream.time_base or 0)
    times = np.array([read[0][packet].pts for packet in order], np.float64) * tick
    frames, found = _frames(path, stream.index, wanted)
    if frames is None or np.abs(found - times[list(wanted)]).max() > tick / 2:
        return None
    return _scaled(frames, short_side), (times - times[0])[list(wanted)]


def _frames(path: str | Path, stream: int, wanted: Sequence[int]) -> tuple[Any, np.ndarray]:
    """uint8 (N, H, W, 3) and seconds of presentation; None if torchcodec cannot."""
    place = find_place(path)
    try:
        source = str(path) if place.size is None else place.read()
        decoder = import_module("torchcodec.decoders").VideoDecoder(
            source, stream_index=stream, seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC", device="cpu"
        )
        batch = decoder.get_frames_at(list(wanted))
    except (RuntimeError, ValueError, IndexError, OSError):  # what its C++ raises; PyAV then says what is wrong with the file
        return None, np.empty(0)
    return batch.data.numpy(), batch.pts_seconds.numpy()


def _scaled(frames: np.ndarray, short_side: int | None) -> np.ndarray:
    height, width = frames.shape[1:3]
    size = scaled(width, height, short_side)
    if size == (width, height):
        return frames
    reformatter, smooth = VideoReformatter(), Interpolation.BILINEAR | Interpolation.ACCURATE_RND
    pictures = [VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]
    return np.stack([reformatter.reformat(p, *size, "rgb24", interpolation=smooth, threads=1).to_ndarray() for p in pictures])
