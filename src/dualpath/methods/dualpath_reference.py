"""DualPath as its authors uploaded it (github.com/park-jungin/DualPath at cc90924), where that differs from the paper.

1 a fifth adapter a block, before the temporal attention      5 [CLS] and all tables of positions are trained
2 bottleneck d/4, dropout 0.1                                 6 the classifier takes the temporal mean first
3 T_S = 8, framesets of 4x4                                   7 every (T/8)-th frame; laid out first, then shrunk
4 positions: time alone, resized from a map of 16x16          8 normalised with ImageNet's mean and deviation

n pictures of all clips   g framesets   l tokens   d width
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.methods.base import spread
from dualpath.methods.dualpath import DualPath
from dualpath.methods.options import DualPathConfig
from dualpath.nn.adapters import BlockAdapters
from dualpath.nn.backbone import Backbone
from dualpath.nn.framesets import encode_times_as_uploaded, pack, shrink
from dualpath.nn.layer import Layer

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that the authors' code normalises with, whatever the backbone was trained with."""


class DualPathWithTable(DualPath):
    """The paper's model with the uploaded positions in its temporal path: codes of time and a trained table (`tables`)."""

    whole: bool = False
    """Whether the spatial path's table and [CLS] are trained too."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: DualPathConfig | None = None) -> None:
        super().__init__(backbone, num_classes=num_classes, config=config)
        self.tables = Tables(self.backbone, both=self.whole)

    def _embed_framesets(self, pictures: Float[Tensor, "n c y x"], count: int, numbers: Any) -> Float[Tensor, "n l d"]:
        backbone, tables = self.backbone, self.tables
        grid = backbone.grid_of(self.frameset_size)
        antialias = self.config.antialias
        times = encode_times_as_uploaded(count, grid, backbone.width, antialias=antialias, device=pictures.device)
        # [CLS] has time 0 in every frameset, so its token is the same in all of them.
        positions, first = times[:, 1:] + tables.temporal[1:], tables.first(tables.temporal + times[0])
        return backbone.embed(pictures, positions=positions[numbers], first=first)


class DualPathReference(DualPathWithTable):
    """All of it; `spatial`, `temporal`, `tables` and `head` are trained."""

    whole = True

    def __init__(self, backbone: Backbone, *, num_classes: int, config: DualPathConfig | None = None) -> None:
        config = config or DualPathConfig(variant="reference")
        super().__init__(backbone.normalised_with(*IMAGENET), num_classes=num_classes, config=config)
        self.temporal_step = uploaded_step

    def _adapters(self, path: str) -> nn.ModuleList:
        config, before = self.config, path == "temporal"
        return nn.ModuleList(
            BlockAdapters(width, config.bottleneck_for(width), dropout=config.dropout, before=before)
            for width in self.backbone.widths
        )

    def _embed_frames(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n l d"]:
        table = self.tables.spatial
        assert table is not None
        return self.backbone.embed(pictures, positions=table[None, 1:], first=self.tables.first(table))

    def framesets(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b g c y x"]:
        """Shrunk once laid out: antialiasing then blends frames where they meet."""
        tiled = pack(frames, self.config.grid)
        small = shrink(tiled.flatten(0, 1), self.frameset_size, whole=self.backbone.rounds, antialias=self.config.antialias)
        return small.unflatten(0, tiled.shape[:2])

    @property
    def path_sizes(self) -> dict[str, int]:
        """Of the temporal path first."""
        return dict(reversed(super().path_sizes.items()))

    def spatial_frames(self, num_frames: int) -> list[int]:
        """The first of each part of the clip."""
        return spread(num_frames, self.config.num_spatial_frames, first=True)


def uploaded_step(layer: Layer, adapters: BlockAdapters, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n m d"]:
    """One frozen block in the temporal path: an adapter before its attention, one on top of it and one on top of its MLP."""
    assert adapters.before is not None
    attended = layer.attend_read(adapters.before(layer.norm1(tokens)))
    tokens = layer.keep_read(tokens) + adapters.attention(attended)
    return tokens + adapters.mlp(layer.transform(layer.norm2(tokens)))


class Tables(nn.Module):
    """What the authors' code trains beside the adapters: one [CLS] for both paths and a table of positions for each.

    Args:
        backbone: where [CLS] and the spatial path's table begin.
        both: for both paths; else the temporal path's table alone is trained.
    """

    class_token: Tensor

    def __init__(self, backbone: Backbone, *, both: bool) -> None:
        super().__init__()
        own = getattr(backbone.vit, "pos_embed", None)
        if backbone.prefix != 1 or own is None or backbone.vit.no_embed_class:
            raise DualPathError(
                f"positions as in the authors' code need one [CLS] token and a learned table with a row for it, as CLIP has; "
                f"{backbone.name} has not: choose another backbone, or --positions 3d"
            )
        class_token = backbone.vit.cls_token[0, 0].detach().float().clone()
        if both:
            self.class_token = nn.Parameter(class_token)
        else:
            self.register_buffer("class_token", class_token, persistent=False)
        self.spatial = nn.Parameter(own[0].detach().float().clone()) if both else None
        self.temporal = nn.Parameter(backbone.width**-0.5 * torch.randn(own.shape[1:]))

    def first(self, table: Float[Tensor, "l d"]) -> Float[Tensor, "1 d"]:
        """[CLS] with its row of a table."""
        return (self.class_token + table[0])[None]
