"""What happens to the pixels of a clip before a model sees it: one crop, one flip, one colour for all its frames.

    uint8 (T, C, H, W) --train_transform--> (T, C, S, S)     random, a pure function of its seed
                       --test_transform---> (V, T, C, S, S)  deterministic, V crops

torchvision.transforms.v2 treats leading dimensions as a batch of one decision: that is what keeps frames together. It is
imported where it has something to do: it imports torch's compiler, which takes longer than a prediction.
Clips stay uint8; the model normalises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from dualpath.errors import DualPathError
from dualpath.settings import check_fields
from dualpath.video.sampling import crop_boxes

HFlip = Literal["auto", "on", "off"]

DIRECTION_WORDS = frozenset(
    {
        *("left", "leftward", "leftwards", "leftmost", "lefthand", "lefthanded"),
        *("right", "rightward", "rightwards", "rightmost", "righthand", "righthanded"),
        *("clockwise", "counterclockwise", "anticlockwise", "cw", "ccw", "acw"),
        *("links", "rechts", "gauche", "droite", "izquierda", "derecha", "sinistra", "destra"),
    }
)
"""Words of class names that change their meaning in a mirror."""


@dataclass(frozen=True)
class TransformConfig:
    """How training clips are varied.

    Attributes:
        min_scale: the random crop covers this part of the picture's area at least, up to all of it; within (0, 1].
        hflip: mirror half of the clips: "on", "off", or "auto": unless class names speak of a direction, or do not tell.
        color_jitter: brightness, contrast and saturation change by up to this part; 0 is off.
        random_erasing: probability that a box, the same in all frames, is blanked; within 0 .. 1.

    Raises:
        DualPathError: a value that is not allowed.
    """

    min_scale: float = 0.5
    hflip: HFlip = "auto"
    color_jitter: float = 0.3
    random_erasing: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.min_scale <= 1:
            raise DualPathError(f"min_scale is {self.min_scale}, but it must be above 0 and at most 1")
        if not 0 <= self.color_jitter <= 1:
            raise DualPathError(f"color_jitter is {self.color_jitter}, but it must be within 0 and 1")
        if not 0 <= self.random_erasing <= 1:
            raise DualPathError(f"random_erasing is {self.random_erasing}, but it is a probability: 0 to 1")

    def flips(self, labels: Sequence[str]) -> bool:
        """Whether clips of these classes may be mirrored."""
        return self.hflip == "on" or (self.hflip == "auto" and not why_not_mirrored(labels))

    def describe_flips(self, labels: Sequence[str]) -> str:
        """The same for people, with the reason."""
        if self.hflip != "auto":
            return f"--hflip {self.hflip}"
        why = why_not_mirrored(labels)
        return f"never mirrored, as {why} (--hflip on mirrors half)" if why else "half of them mirrored (--hflip off does not)"


def why_not_mirrored(labels: Sequence[str]) -> str:
    """Why a mirror image may be of another class; empty where nothing speaks for that."""
    if classes_have_direction(labels):
        return "class names speak of a direction"
    if names_tell_nothing(labels):
        return "numbers and letters do not tell what classes are"
    return ""


def names_tell_nothing(labels: Sequence[str]) -> bool:
    """Whether some classes differ by a number or a letter alone ("gesture 1", "gesture 2"; "swipe_L", "swipe_R"; "a", "b")."""
    parts = ([part.rstrip("0123456789") for part in re.findall(r"[^\W_]+", label.lower())] for label in labels)
    return len({" ".join(part for part in row if len(part) > 1) for row in parts}) < len(set(labels))


def classes_have_direction(labels: Sequence[str]) -> bool:
    """Whether any class name speaks of a direction that a mirror would turn round.

    A name is split where letters stop and where capitals start ("SwipeLeft", "swipe_left", "swipe-left"); it speaks
    of a direction if one of its parts is in DIRECTION_WORDS. "bright" and "upright" are not. What is in doubt counts
    ("left_over", "the right answer"): a mirror image less costs little, a wrong label costs the class.
    """
    for label in labels:
        apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label)
        if DIRECTION_WORDS.intersection(re.findall(r"[a-z]+", apart.lower())):
            return True
    return False


def train_transform(
    frames: UInt8[Tensor, "t c h w"], *, size: int, config: TransformConfig, flip: bool, seed: int
) -> UInt8[Tensor, "t c {size} {size}"]:
    """One random view of a clip, the same for all of its frames.

    Args:
        frames: uint8 (T, 3, H, W).
        size: S, pixels.
        config: how much to vary.
        flip: whether clips may be mirrored (then half of them are): `config.flips(labels)`.
        seed: decides everything; any whole number that fits 64 bits. torch's own generators are left untouched.

    Returns:
        uint8 (T, 3, S, S).
    """
    from torchvision.transforms import v2

    strength = config.color_jitter
    # Built at every call: cheap beside the resize, and nothing is shared between clips.
    shape: list[torch.nn.Module] = [v2.RandomResizedCrop(size, scale=(config.min_scale, 1.0), antialias=True)]
    if flip:
        shape.append(v2.RandomHorizontalFlip(0.5))
    colour = v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)
    # v2 draws from torch's global generator only: lend it ours for the while. `devices=[]` leaves the GPUs alone.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        clip = v2.Compose(shape)(frames)
        if strength > 0:
            clip = _coloured(clip, colour.make_params([clip]))
        return v2.RandomErasing(config.random_erasing)(clip)


def _coloured(clip: UInt8[Tensor, "t c h w"], params: dict[str, Any]) -> UInt8[Tensor, "t c h w"]:
    """The changes that `v2.ColorJitter` drew, in its order, as one change of each pixel, rounded and cut off once.

    Brightness, contrast and saturation are each a matrix on (red, green, blue) and a shift, and so is what they make
    together. torchvision goes back to whole values within 0 .. 255 after each: more loss, and four times the time.
    Contrast is stretched about the mean grey of the whole clip, so that all frames change alike.
    """
    clip = clip.contiguous()
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)  # ITU-R BT.601
    mean = torch.from_numpy(clip.numpy().sum(axis=(0, 2, 3), dtype=np.uint64).astype(np.float64)) / (clip.numel() / 3)
    matrix, shift = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for step in params["fn_idx"].tolist():
        factor = params[("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")[step]]
        if step == 2:
            change = factor * torch.eye(3, dtype=torch.float64) + (1 - factor) * grey.expand(3, 3)
            matrix, shift = change @ matrix, change @ shift
        elif step < 2:
            middle = grey @ (matrix @ mean + shift) if step == 1 else 0.0
            matrix, shift = factor * matrix, factor * shift + (1 - factor) * middle
    changed = torch.empty_like(clip)
    colours, mixed = torch.empty(2, 3, clip[0, 0].numel())  # one frame's, which stay in the cache
    matrix, shift = matrix.float(), (shift + 0.5).float()[:, None]
    for frame, target in zip(clip.flatten(2), changed.flatten(2), strict=True):
        torch.addmm(shift, matrix, colours.copy_(frame), out=mixed)
        target.copy_(mixed.clamp_(0, 255))  # cuts fractions off; half a level was added
    return changed


def test_transform(
    frames: UInt8[Tensor, "t c h w"],
    *,
    size: int,
    num_crops: int,
    crop_fraction: float = 1.0,  # noqa: PT028 (not a test)
) -> UInt8[Tensor, "{num_crops} t c {size} {size}"]:
    """The views on which a clip is judged: crops along the longer side, the centre for one.

    Args:
        frames: uint8 (T, 3, H, W), of any size.
        size: S, pixels.
        num_crops: V, at least 1.
        crop_fraction: within (0, 1]: the shorter side is brought to size / crop_fraction before cropping, so 0.875
            cuts a margin off as many image models do.

    Returns:
        uint8 (V, T, 3, S, S).
    """
    if not 0 < crop_fraction <= 1:
        raise DualPathError(f"crop_fraction is {crop_fraction}, but it must be above 0 and at most 1")
    short = round(size / crop_fraction)
    if min(frames.shape[-2:]) != short:  # else the decoder has scaled them
        from torchvision.transforms.v2 import functional

        frames = functional.resize(frames, [short], antialias=True)
    height, width = frames.shape[-2:]
    boxes = crop_boxes(height, width, size=size, num_crops=num_crops)
    return torch.stack([frames[..., top : top + size, left : left + size] for top, left in boxes])


# pytest would collect the function above, by its name, in every test module that imports it.
test_transform.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]
