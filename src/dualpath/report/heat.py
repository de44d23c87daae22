"""Heat as colour: one scale for all videos, models and paths, so that pictures can be compared.

    heat    0     1     2     4     8 and more        1: what a place has if a path looks at all places of all frames alike
    place   0    0.32  0.5   0.73   1                 log(1 + heat) / log(1 + 8)

The colours are matplotlib's inferno: evenly spaced to the eye, brighter with every step, told apart by the colour-blind
and in grey print too.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from matplotlib import colormaps
from torch.nn import functional as F

TOP = 8.0
"""Heat from which on all looks alike."""
TICKS = (0, 1, 2, 4, 8)
_STRONGEST = 0.9  # opacity of the hottest
_GREY, _CONTRAST = 44, 0.5  # of what lies beneath: dark and flat, so that colours stand out and shapes can still be read


def place(heat: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Where on the scale a heat lies, 0..1: logarithmic, because maps have few hot places and many lukewarm ones."""
    return np.log1p(np.clip(heat, 0, TOP)) / np.log1p(TOP)


def heat_picture(frame: UInt8[np.ndarray, "s s 3"], heat: Float32[np.ndarray, "y x"]) -> UInt8[np.ndarray, "s s 3"]:
    """A frame in dark grey with a map over it, the more opaque the hotter.

    Args:
        frame: RGB.
        heat: of equal cells that cover the frame, in units of an even spread, see `PathMap.heat`.
    """
    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    return _painted(_GREY + _CONTRAST * grey, smooth(heat, len(frame)))


def smooth(heat: Float32[np.ndarray, "y x"], side: int) -> Float32[np.ndarray, "s s"]:
    """The map at `side` x `side` pixels, bilinear; the outermost cells run on to the edges, so the mean stays the same.

    (Exactly so where the side is a whole multiple of the cells.)
    """
    cells = torch.from_numpy(np.ascontiguousarray(heat))[None, None]
    return F.interpolate(cells, size=(side, side), mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy()


def scale_bar(width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
    """The scale from left to right, as it looks over a frame of middle grey."""
    heat = np.expm1(np.linspace(0, np.log1p(TOP), width, dtype=np.float32))
    return _painted(np.full((height, width), _GREY + _CONTRAST * 128, np.float32), np.tile(heat, (height, 1)))


def _painted(grey: Float32[np.ndarray, "h w"], heat: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    where = place(heat)[..., None]
    colour = 255 * colormaps["inferno"](where[..., 0])[..., :3]
    opacity = _STRONGEST * where
    return np.clip(np.rint((1 - opacity) * grey[..., None] + opacity * colour), 0, 255).astype(np.uint8)
