"""Pro-tuning: small convolutions predict prompts that are added to the feature maps (Nie and others, arXiv 2207.14381).

    x --block*--(+)--> next block     * frozen      x_out = x + P(x) on the map of patch tokens of each frame
              +--P--^                 P = 1x1 conv - GELU - 5x5 depthwise conv - GELU - 1x1 conv

From the paper: the backbone stays frozen; prompt blocks stand at its stages, predict a prompt from each stage's output
and add it; a block is light, a 5x5 depthwise convolution between two 1x1 convolutions. What we could not recover is our
choice: a transformer's stages are its blocks; the width between the 1x1 convolutions is 64, as AdaptFormer's; GELU
behind the first two convolutions; the last one starts at zero, so that a fresh model is the frozen backbone. Tokens
before the patches have no place on a map and stay as they are; so where only they are read, there is no prompt behind
the last block: nobody would see it.

    n frames of all clips   l tokens, `prefix` others and h x w patches   m those that are read on   d width
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.errors import DualPathError
from dualpath.methods.base import FrameModel, FrameModelConfig, patches_are_read
from dualpath.nn.backbone import Backbone, plain_step
from dualpath.nn.layer import Layer
from dualpath.nn.trained import Conv2d, Linear
from dualpath.settings import WIDEST, check_fields


@dataclass(frozen=True)
class ProTuningConfig(FrameModelConfig):
    """The choices of the method.

    Attributes:
        bottleneck: channels between the 1x1 convolutions.
        kernel_size: rows and columns of the depthwise convolution; odd, so that it has a middle.
    """

    bottleneck: int = 64
    kernel_size: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, bottleneck=WIDEST, kernel_size=99)
        if self.bottleneck < 1:
            raise DualPathError(f"bottleneck {self.bottleneck} must be at least 1: it is the width of the prompt blocks")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise DualPathError(f"kernel_size {self.kernel_size} must be odd and at least 1, such as 3, 5 or 7")


class PromptBlock(nn.Module):
    """P: a map of tokens to what is added to it. Trained size: 2 d b + (k^2 + 2) b + d.

    Args:
        width: d.
        bottleneck: b.
        kernel_size: k.
    """

    def __init__(self, width: int, bottleneck: int, kernel_size: int) -> None:
        super().__init__()
        self.down = Linear(width, bottleneck)  # a 1x1 convolution is a linear layer of each token
        self.conv = Conv2d(bottleneck, bottleneck, kernel_size, padding="same", groups=bottleneck)
        self.up = Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.conv.bias, self.up.weight, self.up.bias):
            if zero is not None:
                nn.init.zeros_(zero)

    def forward(self, patches: Float[Tensor, "n h w d"]) -> Float[Tensor, "n h w d"]:
        """Patch tokens of each frame to their prompts."""
        inner = self.conv(F.gelu(self.down(patches)).permute(0, 3, 1, 2))
        return self.up(F.gelu(inner).permute(0, 2, 3, 1))


def pro_tuning_step(layer: Layer, prompts: PromptBlock | None, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n m d"]:
    """One frozen block, and the prompts of its patches."""
    tokens = plain_step(layer, None, tokens)
    if prompts is None:
        return tokens
    others, patches = tokens[:, : layer.prefix], tokens[:, layer.prefix :]
    return torch.cat([others, patches + prompts(patches.unflatten(1, layer.grid)).flatten(1, 2)], dim=1)


class ProTuning(FrameModel):
    """Looks at each frame; only `prompts` and `head` are trained."""

    config: ProTuningConfig

    def __init__(self, backbone: Backbone, *, num_classes: int, config: ProTuningConfig | None = None) -> None:
        config = config or ProTuningConfig()
        super().__init__(backbone, num_classes=num_classes, config=config)
        widths = backbone.widths if patches_are_read(backbone) else backbone.widths[:-1]
        self.prompts = nn.ModuleList(PromptBlock(width, config.bottleneck, config.kernel_size) for width in widths)

    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """See FrameModel."""
        del num_frames
        parts = [*self.prompts, None][: self.backbone.depth]
        return self.backbone.walk(self.backbone.embed(pictures), pro_tuning_step, parts)
