"""One decoded picture: upright, scaled, RGB; and the clock of a row of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import Float64, UInt8


def _unnamed(cls: type[Type], value: object) -> Type:
    """A kind of side data that FFmpeg has a number for and PyAV has no name for."""
    made = object.__new__(cls)
    made._name_, made._value_ = f"UNNAMED_{value}", value
    return made


# PyAV would refuse all side data of a picture for a single kind that it does not know (those of spatial video). In the whole
# process, as it asks its own class: kinds that it has a name for are as they were, the others raised an error before.
Type._missing_ = classmethod(_unnamed)  # pyright: ignore[reportAttributeAccessIssue]


def orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """How to turn a stored picture for display: transpose it first, then flip it along x, along y.

    That is the quarter turn nearest to what the file asks for: a smaller turn would need corners that nobody has filmed.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(np.int64)  # x' = a x + c y, y' = b x + d y
    if abs(a * d - b * c) == 0:  # some writers leave it all zero
        return False, False, False
    if abs(b) > abs(a):
        return True, bool(c < 0), bool(b < 0)
    return False, bool(a < 0), bool(d < 0)


def scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Stored (width, height) brought down to the wanted short side, exactly, and the long side to match."""
    short = min(width, height)
    if short_side is None or short <= short_side:
        return width, height
    factor = Fraction(short_side, short)
    return round(width * factor), round(height * factor)


def without_fields(frame: VideoFrame, reformatter: VideoReformatter) -> VideoFrame:
    """An interlaced picture as a plain one of its size, with a colour for each pixel; any other picture as it is.

    In interlaced 4:2:0 each field has colours of its own (H.262, 6.1.1.8), so swscale spreads them field by field. It would
    also scale field by field, and put lines of two scaled pictures between each other.
    """
    if not frame.interlaced_frame or not frame.format.name.startswith("yuv"):
        return frame
    whole = reformatter.reformat(frame, format="yuv444p", interpolation=Interpolation.BICUBIC, threads=1)
    plain = VideoFrame.from_ndarray(whole.to_ndarray(), format="yuv444p")  # which has no mark of fields
    plain.colorspace, plain.color_range = whole.colorspace, whole.color_range
    return plain


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """One decoded picture, scaled to the stored `size` (width, height), as RGB and turned upright.

    At its own size it is, bit for bit, what `ffmpeg -pix_fmt rgb24` gives, but for the siting of colours (docs/data.md). So
    alpha is dropped, not blended, and HDR is converted by its matrix and range like any other picture, without tone mapping.
    """
    # Unscaled, the method matters for coarse colour planes only: bicubic is the ffmpeg command's, and ACCURATE_RND would
    # cost five times as much. Scaled down, bilinear widens with the scale: it does not alias.
    unscaled = size == (frame.width, frame.height)
    how = Interpolation.BICUBIC if unscaled else Interpolation.BILINEAR | Interpolation.ACCURATE_RND
    source = frame if unscaled else without_fields(frame, reformatter)
    picture = reformatter.reformat(source, size[0], size[1], "rgb24", interpolation=how, threads=1).to_ndarray()
    transposed, flip_x, flip_y = orientation(frame)
    picture = picture.transpose(1, 0, 2) if transposed else picture
    return picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1].astype(np.uint8, copy=False)


def seconds(
    stamps: list[tuple[int | None, int | None]], *, tick: Fraction | None, rate: Fraction | None
) -> Float64[np.ndarray, " n"]:
    """Seconds of the first n pictures since the first one, from their (pts, dts) in ticks.

    Where presentation times are missing or run backwards, the decoder's own clock (dts) is right; where that is
    missing too, even steps are the best that can be said.
    """
    for column in zip(*stamps, strict=True):
        # The pictures that come out last, when the decoder is flushed, have no dts: they follow at the same pace.
        known = [t for t in column if t is not None]
        missing = len(column) - len(known)
        if tick and len(known) > 1 and None not in column[: len(known)] and (np.diff(known) > 0).all():
            step = known[-1] - known[-2]
            ticks = np.array([*known, *(known[-1] + step * (k + 1) for k in range(missing))], np.float64)
            return (ticks - ticks[0]) * float(tick)
    return np.arange(len(stamps), dtype=np.float64) / float(rate or 25)
