"""DualPath: one frozen image transformer looks at a video in two ways (Park, Lee, Sohn, CVPR 2023, arXiv 2303.09857).

A block is a frozen block walked by two token streams which never read each other:

    spatial   x --LN1--+--MHA*------(+)--LN2--+--MLP*------(+)-->    * frozen, the same weights in both rows
                       +--adapter----^        +--adapter----^
    temporal  x --LN1--MHA*--adapter-(+)--LN2--MLP*--adapter-(+)-->  (+) adds the residual too

The spatial path sees a few whole frames, the temporal path all frames, shrunk and laid out as framesets.

    b clips   t frames   s spatial frames   g framesets   l tokens   d width   f features   k classes
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.nn.adapters import BlockAdapters, Classifier
from dualpath.nn.backbone import Backbone, attend, transform
from dualpath.nn.framesets import check_frames, encode_positions, pack, shrink


@dataclass(frozen=True)
class DualPathConfig:
    """The choices of the method; the defaults are the paper's.

    Attributes:
        num_spatial_frames: T_S, how many of the clip's frames the spatial path sees.
        grid: rows and columns of a frameset; rows x columns frames make one picture.
        bottleneck: width of the adapters.
    """

    num_spatial_frames: int = 8
    grid: tuple[int, int] = (4, 4)
    bottleneck: int = 128

    def __post_init__(self) -> None:
        if self.num_spatial_frames < 1 or self.bottleneck < 1 or min(self.grid) < 1:
            raise DualPathError(
                f"num_spatial_frames {self.num_spatial_frames}, grid {self.grid[0]}x{self.grid[1]}, bottleneck "
                f"{self.bottleneck}: each must be at least 1"
            )

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit the grid and the spatial path."""
        check_frames(num_frames, self.grid)
        if num_frames < self.num_spatial_frames:
            raise DualPathError(
                f"the spatial path takes {self.num_spatial_frames} frames but a clip has {num_frames}; "
                "lower num_spatial_frames or raise num_frames"
            )


class DualPath(nn.Module):
    """Video model on a frozen backbone; only `spatial`, `temporal` and `head` are trained."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: DualPathConfig | None = None) -> None:
        super().__init__()
        self.config = config or DualPathConfig()
        self.backbone = backbone
        self.spatial = self._adapters()
        self.temporal = self._adapters()
        self.head = Classifier(2 * backbone.features, hidden=backbone.features, num_classes=num_classes)

    def _adapters(self) -> nn.ModuleList:
        width, bottleneck = self.backbone.width, self.config.bottleneck
        return nn.ModuleList(BlockAdapters(width, bottleneck) for _ in range(self.backbone.depth))

    def _walk(self, adapters: nn.ModuleList) -> Iterator[tuple[Any, Any]]:
        """The frozen blocks, each with its adapters of one path."""
        return zip(self.backbone.blocks, adapters, strict=True)

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit, see DualPathConfig."""
        self.config.check_clip(num_frames)

    def forward(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        """Clips, as decoded (RGB, 0..255, square, of the backbone's size), to logits.

        Raises:
            DualPathError: t is not a multiple of the grid's cells, or h and w are not the backbone's size.
        """
        self.check_clip(frames.shape[1])
        check_size(frames, self.backbone)
        looks = torch.cat([self.encode_spatial(frames), self.encode_temporal(frames)], dim=-1)
        return self.head(looks)

    def encode_spatial(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b f"]:
        """y_SP: the mean [CLS] of T_S sparse frames."""
        frames = sparse_frames(frames, self.config.num_spatial_frames)
        backbone = self.backbone
        tokens = backbone.embed(backbone.normalise(frames.flatten(0, 1)))
        for block, adapters in self._walk(self.spatial):
            normed = block.norm1(tokens)
            tokens = backbone.keep_read(tokens + attend(block, normed) + adapters.attention(normed), block)
            normed = block.norm2(tokens)
            tokens = tokens + transform(block, normed) + adapters.mlp(normed)
        return backbone.read(tokens).unflatten(0, frames.shape[:2]).mean(dim=1)

    def encode_temporal(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b f"]:
        """y_TP: the mean [CLS] of all framesets."""
        backbone = self.backbone
        framesets = self.framesets(frames)
        count = framesets.shape[1]
        positions = encode_positions(count, self.config.grid, backbone.patch_grid, backbone.width).to(frames.device)
        tokens = backbone.embed_at(backbone.normalise(framesets.flatten(0, 1)), positions)
        for block, adapters in self._walk(self.temporal):
            tokens = backbone.keep_read(tokens + adapters.attention(attend(block, block.norm1(tokens))), block)
            tokens = tokens + adapters.mlp(transform(block, block.norm2(tokens)))
        return backbone.read(tokens).unflatten(0, (-1, count)).mean(dim=1)

    def framesets(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b g c h w"]:
        """The pictures that the temporal path looks at, values 0..255."""
        whole = self.backbone.dtype != torch.float32
        cells = shrink(frames.flatten(0, 1), self.config.grid, whole=whole).unflatten(0, frames.shape[:2])
        return pack(cells, self.config.grid)


def sparse_frames(frames: UInt8[Tensor, "b t c h w"], count: int) -> UInt8[Tensor, "b s c h w"]:
    """The middle frame of each of `count` equal parts of the clip.

    The authors' code takes the first of each part. The earlier a frame, the more its place alone gives away what comes
    next (one frame from the start tells a movement's direction): the middle keeps time out of the spatial path.
    """
    t = frames.shape[1]
    return frames[:, [(2 * i + 1) * t // (2 * count) for i in range(count)]]


def check_size(frames: Tensor, backbone: Backbone) -> None:
    """Raises DualPathError unless the pictures have the backbone's size."""
    if frames.shape[-2:] != (backbone.size, backbone.size):
        raise DualPathError(
            f"frames of {frames.shape[-2]}x{frames.shape[-1]} pixels; {backbone.name} takes "
            f"{backbone.size}x{backbone.size}: resize or crop them first"
        )
