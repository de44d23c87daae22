"""Videos that are in memory already, in all the forms in which people hold them.

path, list of paths, array (T,H,W,C) or (T,C,H,W), pictures of PIL or PyAV, an iterator of any of these
    --as_videos--> paths and Frames        Frames, frame numbers --pick_frames--> uint8 (T, 3, H, W)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from dualpath.errors import DualPathError
from dualpath.video.decoding.pictures import scaled, to_rgb

Frames = np.ndarray | Tensor
"""uint8 (T, 3, H, W), RGB: a view of what was given, as far as possible."""

ALLOWED = (
    "give the path of a video, an array or tensor of uint8 frames as (T, H, W, 3) or (T, 3, H, W), a list or an iterator of "
    "frames (arrays, PIL or PyAV pictures), or a list of videos"
)


def is_path(given: Any) -> bool:
    """Whether it names a file."""
    return isinstance(given, str | os.PathLike)


def as_videos(given: Any, *, short_side: int) -> tuple[list[str | Path | Frames], bool]:
    """What was given as videos, each a path or its frames; and whether there may be several of them.

    Args:
        given: see ALLOWED.
        short_side: frames that come one by one are scaled down to it as they come, so that long videos need little memory.

    Raises:
        DualPathError: it is no video, or its frames have another layout or another type.
    """
    if is_path(given):
        return [given], False
    given = _as_array(given)
    if isinstance(given, np.ndarray) and given.dtype.kind in "OU":  # a column of paths
        given = given.ravel().tolist()
    if isinstance(given, Frames):
        return [_checked(given)], False
    if isinstance(given, Image.Image | VideoFrame):
        raise DualPathError(f"a single picture was given, but a video is several frames; {ALLOWED}")
    if isinstance(given, bytes | bytearray | Mapping | set) or not isinstance(given, Iterable):
        raise DualPathError(f"{_kind(given)} was given, which is no video; {ALLOWED}")
    items = iter(given)
    try:
        first = next(items)
    except StopIteration:
        raise DualPathError(f"an empty {type(given).__name__} was given, which holds no video; {ALLOWED}") from None
    items = chain([first], items)
    if is_path(first) or getattr(_as_array(first), "ndim", 0) >= 4:
        return [item if is_path(item) else _checked(_as_array(item), f"item {i} ") for i, item in enumerate(items)], True
    return [_gathered(items, short_side)], False


def pick_frames(frames: Frames, indices: Int64[np.ndarray, " n"]) -> UInt8[Tensor, "n 3 h w"]:
    """Some frames, on the CPU; a copy."""
    if isinstance(frames, Tensor):
        return frames[torch.from_numpy(indices).to(frames.device)].cpu()
    return torch.from_numpy(np.ascontiguousarray(frames[indices]))


def _as_array(given: Any) -> Any:
    """What other libraries hold as arrays, as one of numpy's; all else as it is."""
    if isinstance(given, Frames | Image.Image | VideoFrame) or not hasattr(given, "__array__"):
        return given
    return np.asarray(given)


def _kind(given: Any) -> str:
    return "None" if given is None else f"a value of type {type(given).__name__}"


def _checked(given: Any, what: str = "") -> Frames:
    """The frames of a video as (T, 3, H, W)."""
    if not isinstance(given, Frames):
        raise DualPathError(f"{what}is {_kind(given)}, which is no video; {ALLOWED}")
    shape = tuple(given.shape)
    _check_type(given, f"{what}frames are")
    if len(shape) == 3:
        raise DualPathError(f"{what}an array of shape {shape} is a single picture, but a video is several frames; {ALLOWED}")
    if len(shape) == 5:
        raise DualPathError(f"{what}an array of shape {shape} holds several videos; give them as a list: list(array)")
    if len(shape) != 4 or (shape[1] == 3) == (shape[3] == 3):
        asked = "; its channels come before its frames: swap the first two axes" if len(shape) == 4 and shape[0] == 3 else ""
        raise DualPathError(f"{what}frames of shape {shape} given, but it must be (T, H, W, 3) or (T, 3, H, W), in RGB{asked}")
    if 0 in shape:
        raise DualPathError(f"{what}frames of shape {shape} given, which hold no pixel; {ALLOWED}")
    if shape[1] == 3:
        return given
    return given.permute(0, 3, 1, 2) if isinstance(given, Tensor) else given.transpose(0, 3, 1, 2)


def _check_type(given: Frames, what: str) -> None:
    kind = str(given.dtype).removeprefix("torch.")
    if kind != "uint8":
        todo = "multiply values of 0 to 1 by 255 and convert them" if "float" in kind else "convert them"
        raise DualPathError(f"{what} of type {kind}, but uint8 is needed, values of 0 to 255 as decoded: {todo}")


def _gathered(items: Iterator[Any], short_side: int) -> Tensor:
    """Frames that come one by one."""
    reformatter = VideoReformatter()
    frames: list[Tensor] = []
    for number, item in enumerate(items):
        frame = _frame(item, f"frame {number} ", short_side, reformatter)
        if frames and frame.shape != frames[0].shape:
            sizes = [f"{one.shape[2]}x{one.shape[1]}" for one in (frame, frames[0])]
            raise DualPathError(f"frame {number} has {sizes[0]} pixels, but the first one {sizes[1]}; give frames of one size")
        frames.append(frame)
    return torch.stack(frames)


def _frame(item: Any, what: str, short_side: int, reformatter: VideoReformatter) -> UInt8[Tensor, "3 h w"]:
    if isinstance(item, VideoFrame):
        picture = to_rgb(item, reformatter, scaled(item.width, item.height, short_side))
        return torch.from_numpy(picture.copy()).permute(2, 0, 1)
    array = np.asarray(item.convert("RGB")) if isinstance(item, Image.Image) else _as_array(item)
    if not isinstance(array, Frames):
        raise DualPathError(f"{what}is {_kind(item)}, which is no picture; {ALLOWED}")
    _check_type(array, f"{what}is")
    shape = tuple(array.shape)
    if len(shape) != 3 or (shape[0] == 3) == (shape[2] == 3) or 0 in shape:
        raise DualPathError(f"{what}has the shape {shape}, but it must be (H, W, 3) or (3, H, W), in RGB")
    picture = array.cpu() if isinstance(array, Tensor) else torch.from_numpy(array.copy())
    picture = picture if shape[0] == 3 else picture.permute(2, 0, 1)
    if min(picture.shape[1:]) <= short_side:
        return picture.clone()
    from torchvision.transforms.v2 import functional

    return functional.resize(picture, [short_side], antialias=True)
