"""ST-Adapter: bottlenecks that convolve over time (Pan, Lin, Zhu, Shao, Li, NeurIPS 2022, arXiv 2206.13559).

    x --(A)--LN1--MHA*--(+)--A--LN2--MLP*--(+)-->    * frozen     A(x) = x + W_up f(DWConv3D(W_down x))
             skips leave behind A, which changes the patches of all frames of a clip and leaves the other tokens alone

The released code (linziyi96/st-adapter) is followed where it says more than the equation: f is the identity, the kernel
takes 3 frames of one place, A stands before the MLP for Kinetics-400 (there "12x384") and before attention too for
Something-Something ("24x384"), its convolution starts at zero, and half of the features is dropped before the classifier.
Differences: where only [CLS] is read, the last block has no A before its MLP: nobody sees what it does there, and in the
released code it gets no gradient. And each frame's [CLS] is normed before the mean over frames, not after it.

    n frames of all clips   b clips   t frames   l tokens, `prefix` others and h x w patches   m those read on   d width
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.methods.base import FrameModel, FrameModelConfig, patches_are_read
from dualpath.nn.backbone import Backbone
from dualpath.nn.layer import Layer
from dualpath.nn.trained import Conv3d, Linear
from dualpath.settings import WIDEST, check_fields

Kernel = tuple[int, int, int]


@dataclass(frozen=True)
class STAdapterConfig(FrameModelConfig):
    """The choices of the method; the defaults are those released for Kinetics-400.

    Attributes:
        places: what the adapters stand before: mlp, attention or both.
        bottleneck: width of the adapters; by default half of their block's, which is the released 384 on ViT-B.
        kernel_size: frames, rows and columns of the convolution; odd, so that it has a middle.
        head_dropout: share of the features that is dropped before the classifier in training.
    """

    places: Literal["mlp", "attention", "both"] = "mlp"
    bottleneck: int | None = None
    kernel_size: Kernel = (3, 1, 1)
    head_dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, bottleneck=WIDEST, kernel_size=99)
        if self.bottleneck is not None and self.bottleneck < 1:
            raise DualPathError(f"bottleneck {self.bottleneck} must be at least 1: it is the width of the adapters")
        if any(size < 1 or size % 2 == 0 for size in self.kernel_size):
            given = list(self.kernel_size)
            raise DualPathError(f"kernel_size {given} must be of odd numbers, at least 1, such as [3, 1, 1] or [3, 3, 3]")
        if not 0 <= self.head_dropout < 1:
            raise DualPathError(f"head_dropout {self.head_dropout} must be at least 0 and below 1")


class STAdapter(nn.Module):
    """W_up DWConv3D(W_down z), without the skip. Trained size: 2 d b + (k + 2) b + d for a kernel of k taps.

    Args:
        width: d.
        bottleneck: b.
        kernel_size: of the convolution, in frames, rows and columns.
    """

    def __init__(self, width: int, bottleneck: int, kernel_size: Kernel) -> None:
        super().__init__()
        self.down = Linear(width, bottleneck)
        self.conv = Conv3d(bottleneck, bottleneck, kernel_size, padding="same", groups=bottleneck)
        self.up = Linear(bottleneck, width)
        for zero in (self.down.bias, self.conv.weight, self.conv.bias, self.up.bias):
            if zero is not None:
                nn.init.zeros_(zero)

    def forward(self, patches: Float[Tensor, "b t h w d"]) -> Float[Tensor, "b t h w d"]:
        """Patch tokens of clips to what is added to them."""
        inner = self.conv(self.down(patches).permute(0, 4, 1, 2, 3))
        return self.up(inner.permute(0, 2, 3, 4, 1))


class BlockParts(nn.Module):
    """The adapters of one block."""

    def __init__(self, attention: STAdapter | None, mlp: STAdapter | None) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp


def adapt(layer: Layer, adapter: STAdapter | None, tokens: Float[Tensor, "n l d"], num_frames: int) -> Float[Tensor, "n l d"]:
    """A: changes the patches of the frames of each clip together."""
    if adapter is None:
        return tokens
    others, patches = tokens[:, : layer.prefix], tokens[:, layer.prefix :]
    clips = patches.unflatten(1, layer.grid).unflatten(0, (-1, num_frames))
    return torch.cat([others, patches + adapter(clips).flatten(2, 3).flatten(0, 1)], dim=1)


def st_adapter_step(
    layer: Layer, adapters: BlockParts, tokens: Float[Tensor, "n l d"], *, num_frames: int
) -> Float[Tensor, "n m d"]:
    """One frozen block with adapters before its attention and its MLP."""
    tokens = adapt(layer, adapters.attention, tokens, num_frames)
    tokens = layer.keep_read(tokens) + layer.attend_read(layer.norm1(tokens))
    tokens = adapt(layer, adapters.mlp, tokens, num_frames)
    return tokens + layer.transform(layer.norm2(tokens))


class STAdapterModel(FrameModel):
    """Looks at the frames of a clip together; only `adapters` and `head` are trained."""

    config: STAdapterConfig

    def __init__(self, backbone: Backbone, *, num_classes: int, config: STAdapterConfig | None = None) -> None:
        config = config or STAdapterConfig()
        super().__init__(backbone, num_classes=num_classes, config=config)
        seen = [True] * (backbone.depth - 1) + [patches_are_read(backbone)]

        def make(width: int, wanted: bool) -> STAdapter | None:
            return STAdapter(width, config.bottleneck or width // 2, config.kernel_size) if wanted else None

        self.adapters = nn.ModuleList(
            BlockParts(make(width, config.places != "mlp"), make(width, config.places != "attention" and read))
            for width, read in zip(backbone.widths, seen, strict=True)
        )

    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """See FrameModel."""
        step = partial(st_adapter_step, num_frames=num_frames)
        return self.backbone.walk(self.backbone.embed(pictures), step, self.adapters)

    @property
    def head_dropout(self) -> float:
        """See FrameModel."""
        return self.config.head_dropout
