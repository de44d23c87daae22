"""Linear probe: features of a clip's frames on the frozen backbone, and one trained linear layer.

mean      the mean of the frames' features: it forgets their order, so what it reaches, still pictures can tell
ordered   the features of all frames side by side: weights of their own for each moment

b clips   t frames   s frames looked at   f features   k classes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dualpath.errors import DualPathError, check_fields
from dualpath.methods.base import MethodConfig, check_clips, spread, take
from dualpath.nn.backbone import Backbone

ReadOut = Literal["mean", "ordered"]


@dataclass(frozen=True)
class LinearProbeConfig(MethodConfig):
    """The choices of the method.

    Attributes:
        num_probe_frames: how many of the clip's frames are looked at, at even distances; 0 takes all of them.
        read_out: mean of the frames' features, or all of them in order.
    """

    num_probe_frames: int = 8
    read_out: ReadOut = "mean"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_probe_frames < 0:
            raise DualPathError(f"num_probe_frames {self.num_probe_frames} must be 0 (all frames) or more")
        if self.read_out == "ordered" and self.num_probe_frames == 0:
            raise DualPathError("read_out ordered needs a number of frames; give num_probe_frames above 0")

    def check_clip(self, num_frames: int) -> None:
        """Any number of frames will do that has the wanted ones."""
        if num_frames < self.num_probe_frames:
            raise DualPathError(
                f"the probe takes {self.num_probe_frames} frames but a clip has {num_frames}; "
                "lower num_probe_frames or raise num_frames"
            )

    def num_pictures(self, num_frames: int) -> int:
        """The frames that are looked at."""
        return self.num_probe_frames or num_frames


class LinearProbe(nn.Module):
    """Frozen backbone, the frames' features averaged or side by side, one linear layer."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: LinearProbeConfig | None = None) -> None:
        super().__init__()
        self.config = config or LinearProbeConfig()
        self.backbone = backbone
        # Features differ in scale from backbone to backbone; a norm without weights takes that out.
        self.norm = nn.LayerNorm(backbone.features, elementwise_affine=False)
        moments = self.config.num_probe_frames if self.config.read_out == "ordered" else 1
        self.head = nn.Linear(moments * backbone.features, num_classes)

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit, see LinearProbeConfig."""
        self.config.check_clip(num_frames)

    def forward(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        """Clips, as decoded (RGB, 0..255, square, of the backbone's size), to logits."""
        return self.head(self.read_out(self.encode(frames)).to(self.head.weight.dtype))

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b s f"]:
        """The features of the frames that are looked at, in order."""
        check_clips(frames, self)
        t = frames.shape[1]
        frames = take(frames, spread(t, self.config.num_probe_frames or t))
        return self.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def read_out(self, features: Float[Tensor, "b s f"]) -> Float[Tensor, "b i"]:
        """The inputs of the linear layer: i = f, or s f."""
        return self.norm(features.mean(dim=1)) if self.config.read_out == "mean" else self.norm(features).flatten(1)
