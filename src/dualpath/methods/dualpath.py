"""DualPath: one frozen image transformer looks at a video in two ways (Park, Lee, Sohn, CVPR 2023, arXiv 2303.09857).

A block is a frozen block walked by two token streams which never read each other:

    spatial   x --LN1--+--MHA*------(+)--LN2--+--MLP*------(+)-->    * frozen, the same weights in both rows
                       +--adapter----^        +--adapter----^
    temporal  x --LN1--MHA*--adapter-(+)--LN2--MLP*--adapter-(+)-->  (+) adds the residual too

The spatial path sees a few whole frames, the temporal path all frames, shrunk and laid out as framesets. What the
authors uploaded differs from what they wrote; `variant="reference"` is that (options.py lists the differences).

    b clips   t frames   s spatial frames   g framesets   l tokens   d width   f features   k classes
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.methods.base import check_clips, check_parts, draw, segment_means, spread, take
from dualpath.methods.options import DualPathConfig, Place
from dualpath.nn.adapters import BlockAdapters, Classifier, OrderedClassifier, made_again
from dualpath.nn.backbone import Backbone
from dualpath.nn.framesets import cell_size, encode_positions, encode_times_as_uploaded, pack, shrink
from dualpath.nn.layer import Layer
from dualpath.nn.repeats import find_repeats

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that the authors' code normalises with, whatever the backbone was trained with."""


def adapted_step(
    layer: Layer, adapters: BlockAdapters, tokens: Float[Tensor, "n l d"], *, places: tuple[Place, Place]
) -> Float[Tensor, "n m d"]:
    """One frozen block with a path's adapters beside ("parallel") or on top ("serial") of its attention and its MLP."""
    normed = layer.norm1(tokens)
    if places[0] == "parallel":
        with made_again(normed, None if layer.again else partial(layer.norm1, tokens)):
            added = adapters.attention(layer.keep_read(normed))
        tokens = layer.keep_read(tokens) + layer.attend_read(normed)
        tokens += added
    else:
        attended = layer.attend_read(normed if adapters.before is None else adapters.before(normed))
        tokens = layer.keep_read(tokens) + adapters.attention(attended)
    normed = layer.norm2(tokens)
    if places[1] == "parallel":
        with made_again(normed, None if layer.again else partial(layer.norm2, tokens)):
            added = adapters.mlp(normed)
        tokens = tokens + layer.transform(normed)
        tokens += added
        return tokens
    return tokens + adapters.mlp(layer.transform(normed))


class DualPath(nn.Module):
    """Video model on a frozen backbone; only `spatial`, `temporal` and `head` are trained (and `tables` in `reference`)."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: DualPathConfig | None = None) -> None:
        super().__init__()
        check_parts(backbone, num_classes, config, DualPathConfig)
        self.config = config = config or DualPathConfig()
        self.backbone = backbone
        if config.has_framesets:
            self.cell = cell_size(backbone.size, config.grid, patch=backbone.patch, aligned=config.cell == "aligned")
            self.frameset_size = (self.cell[0] * config.grid[0], self.cell[1] * config.grid[1])
        uploaded = config.variant == "reference"
        self.spatial = self._adapters() if config.paths != "temporal" else None
        self.temporal = self._adapters(before=uploaded) if config.paths != "spatial" else None
        self.tables = Tables(backbone, both=uploaded) if config.positions_used == "reference" else None
        if uploaded:
            backbone.normalise_with(*IMAGENET)
        inputs = sum(self.path_sizes.values())
        if config.segments > 1:
            self.head = OrderedClassifier(inputs, backbone.features, num_classes)
        else:
            self.head = Classifier(inputs, hidden=backbone.features, num_classes=num_classes)

    def _adapters(self, *, before: bool = False) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            BlockAdapters(width, config.bottleneck_for(width), dropout=config.dropout, before=before)
            for width in self.backbone.widths
        )

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
        features = {}
        if self.spatial is not None:
            features["spatial"] = self.encode_spatial(frames)
        if self.temporal is not None:
            features["temporal"] = self.encode_temporal(frames)
        return features

    def classify(self, features: dict[str, Float[Tensor, "b _"]]) -> Float[Tensor, "b k"]:
        """What the paths have made of clips to logits."""
        return self.head(torch.cat([features[path] for path in self.path_names], dim=-1))

    @property
    def path_names(self) -> list[str]:
        """The paths there are, in the order in which the classifier takes their features."""
        order = ("temporal", "spatial") if self.config.variant == "reference" else ("spatial", "temporal")
        return [path for path in order if self.config.paths in (path, "both")]

    @property
    def path_sizes(self) -> dict[str, int]:
        """How many features each path gives the classifier, in that order."""
        segments = {"spatial": self.config.segments, "temporal": 1}
        return {path: segments[path] * self.backbone.features for path in self.path_names}

    def spatial_frames(self, num_frames: int) -> list[int]:
        """Which frames of a clip the spatial path looks at, counted from 0."""
        return spread(num_frames, self.config.num_spatial_frames, first=self.config.variant == "reference")

    def encode_spatial(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b i"]:
        """y_SP: the mean [CLS] of T_S sparse frames (or of each segment's), of some of them in training; i = segments f."""
        backbone, config = self.backbone, self.config
        assert self.spatial is not None
        chosen = self.spatial_frames(frames.shape[1])
        frames = take(frames, draw(chosen, config.frames_in_training) if self.training else chosen)
        pictures = frames.flatten(0, 1)
        repeats = None if self.training else find_repeats(pictures)
        if repeats is not None:
            pictures = pictures[repeats.kept]
        pictures = backbone.normalise(pictures)
        table = None if self.tables is None else self.tables.spatial
        if self.tables is not None and table is not None:
            tokens = backbone.embed(pictures, positions=table[None, 1:], first=self.tables.first(table))
        else:
            tokens = backbone.embed(pictures)
        tokens = backbone.walk(tokens, partial(adapted_step, places=config.spatial_places), self.spatial)
        found = backbone.read(tokens)
        if repeats is not None:
            found = found[repeats.where]
        return segment_means(found.unflatten(0, frames.shape[:2]), config.segments)

    def encode_temporal(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b f"]:
        """y_TP: the mean [CLS] of all framesets."""
        backbone, config = self.backbone, self.config
        assert self.temporal is not None
        cells, size = config.grid[0] * config.grid[1], self.frameset_size
        count = frames.shape[1] // cells
        positions, first = self._positions(count, frames.device)
        rows = frames.unflatten(1, (count, cells)).flatten(0, 1)
        repeats = None if self.training else find_repeats(rows, period=count)
        if repeats is not None:
            rows, positions = rows[repeats.kept], positions[[row % count for row in repeats.kept]]
        pictures = backbone.normalise(self.framesets(rows).flatten(0, 1))
        tokens = backbone.embed(pictures, positions=positions, first=first)
        step = partial(adapted_step, places=config.temporal_places)
        tokens = backbone.walk(tokens, step, self.temporal, size=size)
        found = backbone.read(tokens)
        if repeats is not None:
            found = found[repeats.where]
        return found.unflatten(0, (-1, count)).mean(dim=1)

    def _positions(self, count: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Of the patches of each frameset; and the tokens before them, where they are not the backbone's own."""
        config, width, grid = self.config, self.backbone.width, self.backbone.grid_of(self.frameset_size)
        kind = config.positions_used
        if kind != "reference":
            return encode_positions(count, config.grid, grid, width, kind=kind, device=device), None
        assert self.tables is not None
        times = encode_times_as_uploaded(count, grid, width, antialias=config.antialias, device=device)
        # [CLS] has time 0 in every frameset, so its token is the same in all of them.
        return times[:, 1:] + self.tables.temporal[1:], self.tables.first(self.tables.temporal + times[0])

    def framesets(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b g c y x"]:
        """The pictures that the temporal path looks at, values 0..255."""
        config = self.config
        coarse = self.backbone.dtype not in (torch.float32, torch.float64) or self.backbone.in_int8
        how = {"whole": coarse, "antialias": config.antialias}
        if config.variant == "reference":  # shrunk once laid out: antialiasing then blends frames where they meet
            tiled = pack(frames, config.grid)
            return shrink(tiled.flatten(0, 1), self.frameset_size, **how).unflatten(0, tiled.shape[:2])
        cells = shrink(frames.flatten(0, 1), self.cell, **how).unflatten(0, frames.shape[:2])
        return pack(cells, config.grid)


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
