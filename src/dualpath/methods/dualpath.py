"""DualPath: one frozen image transformer looks at a video in two ways (Park, Lee, Sohn, CVPR 2023, arXiv 2303.09857).

A block is a frozen block walked by two token streams which never read each other:

    spatial   x --LN1--+--MHA*------(+)--LN2--+--MLP*------(+)-->    * frozen, the same weights in both rows
                       +--adapter----^        +--adapter----^
    temporal  x --LN1--MHA*--adapter-(+)--LN2--MLP*--adapter-(+)-->  (+) adds the residual too

The spatial path sees a few whole frames, the temporal path all frames, shrunk and laid out as framesets. What the
authors uploaded differs from what they wrote: dualpath_reference.py.

    b clips   t frames   s spatial frames   g framesets   n pictures of all clips   l tokens   d width   f features   k classes
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.methods.base import check_clips, check_parts, draw, segment_means, spread, take
from dualpath.methods.options import DualPathConfig, Place
from dualpath.nn.adapters import BlockAdapters, Classifier, OrderedClassifier
from dualpath.nn.backbone import Backbone, Step
from dualpath.nn.framesets import cell_size, encode_positions, pack, shrink
from dualpath.nn.layer import Layer
from dualpath.nn.repeats import encode_once


def adapted_step(
    layer: Layer, adapters: BlockAdapters, tokens: Float[Tensor, "n l d"], *, places: tuple[Place, Place]
) -> Float[Tensor, "n m d"]:
    """One frozen block with a path's adapters beside ("parallel") or on top ("serial") of its attention and its MLP."""
    normed = layer.norm1(tokens)
    attended = layer.attend_read(normed)
    if places[0] == "parallel":
        tokens = layer.keep_read(tokens) + attended
        tokens += adapters.attention(layer.keep_read(normed))
    else:
        tokens = layer.keep_read(tokens) + adapters.attention(attended)
    normed = layer.norm2(tokens)
    transformed = layer.transform(normed)
    if places[1] == "parallel":
        tokens = tokens + transformed
        tokens += adapters.mlp(normed)
        return tokens
    return tokens + adapters.mlp(transformed)


class DualPath(nn.Module):
    """Video model on a frozen backbone, which stays as it is; only `spatial`, `temporal` and `head` are trained."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: DualPathConfig | None = None) -> None:
        super().__init__()
        check_parts(backbone, num_classes, config, DualPathConfig)
        self.config = config = config or DualPathConfig()
        if type(self) is DualPath and "reference" in (config.variant, config.positions_used):
            raise DualPathError("DualPath is the paper's: build_model('dualpath', ...) makes what the authors uploaded")
        self.backbone = backbone
        if config.has_framesets:
            self.cell = cell_size(backbone.size, config.grid, patch=backbone.patch, aligned=config.cell == "aligned")
            self.frameset_size = (self.cell[0] * config.grid[0], self.cell[1] * config.grid[1])
        self.spatial = self._adapters("spatial") if config.paths != "temporal" else None
        self.temporal = self._adapters("temporal") if config.paths != "spatial" else None
        self.spatial_step: Step = partial(adapted_step, places=config.spatial_places)
        self.temporal_step: Step = partial(adapted_step, places=config.temporal_places)
        inputs = sum(self.path_sizes.values())
        if config.segments > 1:
            self.head = OrderedClassifier(inputs, backbone.features, num_classes)
        else:
            self.head = Classifier(inputs, hidden=backbone.features, num_classes=num_classes)

    def _adapters(self, path: str) -> nn.ModuleList:
        del path
        return nn.ModuleList(BlockAdapters(width, self.config.bottleneck_for(width)) for width in self.backbone.widths)

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit, see DualPathConfig."""
        self.config.check_clip(num_frames)

    def forward(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        """Clips, as decoded (RGB, 0..255, square, of the backbone's size), to logits.

        Raises:
            DualPathError: t does not fill the framesets or is less than T_S, or the clips have another size, layout or type.
        """
        return self.classify(self.encode(frames))

    def encode(self, frames: UInt8[Tensor, "b t c h w"]) -> dict[str, Float[Tensor, "b _"]]:
        """What each path makes of clips, by its name: y_SP is "spatial", y_TP is "temporal"."""
        check_clips(frames, self)
        encoders = {"spatial": self.encode_spatial, "temporal": self.encode_temporal}
        return {path: encode(frames) for path, encode in encoders.items() if path in self.path_sizes}

    def encode_spatial(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b i"]:
        """y_SP: the mean [CLS] of T_S sparse frames (or of each segment's), of some of them in training; i = segments f."""
        chosen = self.spatial_frames(frames.shape[1])
        frames = take(frames, draw(chosen, self.config.frames_in_training) if self.training else chosen)
        looks = encode_once(self._look_spatially, frames.flatten(0, 1), share=not self.training)
        return segment_means(looks.unflatten(0, frames.shape[:2]), self.config.segments)

    def _look_spatially(self, frames: UInt8[Tensor, "n c h w"], numbers: Any) -> Float[Tensor, "n f"]:
        del numbers
        tokens = self._embed_frames(self.backbone.normalise(frames))
        return self.backbone.read(self.backbone.walk(tokens, self.spatial_step, self.spatial))

    def _embed_frames(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n l d"]:
        return self.backbone.embed(pictures)

    def encode_temporal(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b f"]:
        """y_TP: the mean [CLS] of all framesets."""
        cells = self.config.grid[0] * self.config.grid[1]
        count = frames.shape[1] // cells
        rows = frames.unflatten(1, (count, cells)).flatten(0, 1)  # those of one frameset each
        looks = encode_once(partial(self._look_temporally, count), rows, period=count, share=not self.training)
        return looks.unflatten(0, (-1, count)).mean(dim=1)

    def _look_temporally(self, count: int, rows: UInt8[Tensor, "n t c h w"], numbers: Any) -> Float[Tensor, "n f"]:
        tokens = self._embed_framesets(self.backbone.normalise(self.framesets(rows).flatten(0, 1)), count, numbers)
        return self.backbone.read(self.backbone.walk(tokens, self.temporal_step, self.temporal, size=self.frameset_size))

    def _embed_framesets(self, pictures: Float[Tensor, "n c y x"], count: int, numbers: Any) -> Float[Tensor, "n l d"]:
        """Framesets, each of which is one of `count` of its clip, to tokens with its codes of time and place."""
        backbone, config = self.backbone, self.config
        grid, kind = backbone.grid_of(self.frameset_size), config.positions_used
        assert kind != "reference"
        positions = encode_positions(count, config.grid, grid, backbone.width, kind=kind, device=pictures.device)
        return backbone.embed(pictures, positions=positions[numbers])

    def framesets(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b g c y x"]:
        """The pictures that the temporal path looks at, values 0..255: frames shrunk to cells, row by row."""
        cells = shrink(frames.flatten(0, 1), self.cell, whole=self.backbone.rounds, antialias=self.config.antialias)
        return pack(cells.unflatten(0, frames.shape[:2]), self.config.grid)

    def classify(self, features: dict[str, Float[Tensor, "b _"]]) -> Float[Tensor, "b k"]:
        """What the paths have made of clips to logits."""
        return self.head(torch.cat([features[path] for path in self.path_sizes], dim=-1))

    @property
    def path_sizes(self) -> dict[str, int]:
        """How many features each path gives the classifier, in the order in which it takes them."""
        sizes = {"spatial": self.config.segments * self.backbone.features, "temporal": self.backbone.features}
        return {path: size for path, size in sizes.items() if self.config.paths in (path, "both")}

    def spatial_frames(self, num_frames: int) -> list[int]:
        """Which frames of a clip the spatial path looks at, counted from 0."""
        return spread(num_frames, self.config.num_spatial_frames)
