"""Linear probe: the mean feature of a clip's frames on the frozen backbone, and one trained linear layer.

The mean forgets the order of the frames: what a probe reaches, still pictures can tell.

    b clips   t frames   s frames looked at   f features   k classes
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.methods.base import MethodConfig, check_size, spread, take
from dualpath.nn.backbone import Backbone


@dataclass(frozen=True)
class LinearProbeConfig(MethodConfig):
    """The choices of the method.

    Attributes:
        num_probe_frames: how many of the clip's frames are looked at, at even distances; 0 takes all of them.
    """

    num_probe_frames: int = 8

    def __post_init__(self) -> None:
        if self.num_probe_frames < 0:
            raise DualPathError(f"num_probe_frames {self.num_probe_frames} must be 0 (all frames) or more")

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
    """Frozen backbone, mean over frames, one linear layer."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: LinearProbeConfig | None = None) -> None:
        super().__init__()
        self.config = config or LinearProbeConfig()
        self.backbone = backbone
        # Features differ in scale from backbone to backbone; a norm without weights spares a search for a learning rate.
        self.norm = nn.LayerNorm(backbone.features, elementwise_affine=False)
        self.head = nn.Linear(backbone.features, num_classes)

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit, see LinearProbeConfig."""
        self.config.check_clip(num_frames)

    def forward(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        """Clips, as decoded (RGB, 0..255, square, of the backbone's size), to logits."""
        self.check_clip(frames.shape[1])
        check_size(frames, self.backbone)
        t = frames.shape[1]
        frames = take(frames, spread(t, self.config.num_probe_frames or t))
        with torch.no_grad():
            features = self.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(dim=1)
        return self.head(self.norm(features))
