"""Heat as colour: one scale for all videos, models and paths, so that pictures can be compared.

    heat    0     1     2     5    10 and more    1: what a place has if a path looks at all places of all frames alike
    place   0    0.29  0.46  0.75   1             log(1 + heat) / log(1 + 10)

The colours are matplotlib's inferno: evenly spaced to the eye, brighter with every step, told apart by the colour-blind
and in grey print too.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from matplotlib import colormaps
from torch.nn import functional as F

from dualpath.engine.explanation import PathMap

TOP = 10.0
"""Heat from which on all looks alike."""
TICKS = (0, 1, 2, 5, 10)
_STRONGEST = 0.85  # opacity of the hottest
_GREY, _CONTRAST = 44, 0.5  # of what lies beneath: dark and flat, so that colours stand out and shapes can still be read


def place(heat: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Where on the scale a heat lies, 0..1: logarithmic, because maps have few hot places and many lukewarm ones."""
    return np.log1p(np.clip(heat, 0, TOP)) / np.log1p(TOP)


def heat_picture(frame: UInt8[np.ndarray, "s s 3"], heat: Float32[np.ndarray, "y x"]) -> UInt8[np.ndarray, "s s 3"]:
    """A frame in dark grey with a map over it, the more opaque the hotter.

    Args:
        frame: RGB.
        heat: of equal cells that cover the frame, in units of an even spread, see `PathMap.heat` and `soft_heat`.
    """
    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    return _painted(_GREY + _CONTRAST * grey, smooth(heat, len(frame)))


def soft_heat(path: PathMap) -> Float32[np.ndarray, "n y x"]:
    """A path's heat without the steps from token to token, where its maps are finer than these.

    A mean over as many cells as a token has turns steps into slopes from one token's middle to the next one's, as drawing a
    map of whole tokens larger does. What would leave a frame is mirrored back into it: each frame keeps its share.
    """
    heat = path.heat
    for axis, count in enumerate(path.token, 1):
        heat = _averaged(heat, axis, count)
    return heat


def _averaged(heat: Float32[np.ndarray, "n y x"], axis: int, count: int) -> Float32[np.ndarray, "n y x"]:
    """The mean over `count` neighbours along an axis; of an even number, the outermost two count half."""
    half = count // 2
    weights = np.full(2 * half + 1, 1 / count)
    if count % 2 == 0:
        weights[[0, -1]] /= 2
    pads = [(half, half) if this == axis else (0, 0) for this in range(3)]
    padded = np.pad(heat, pads, mode="symmetric")
    size = heat.shape[axis]
    found = sum(w * padded.take(range(i, i + size), axis=axis) for i, w in enumerate(weights))
    return np.asarray(found, dtype=np.float32)


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
