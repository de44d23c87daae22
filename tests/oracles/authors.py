"""The computation of the authors' code (method.md section 3), written out literally: names and order are theirs.

Sequence-first attention of torch's own module, LayerNorm in fp32, QuickGELU in its three operations, both paths in one
batch that is taken apart in every block. The parameters carry the names of their checkpoints. Shares nothing with src.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Norm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class Bottleneck(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down_proj = nn.Linear(width, int(0.25 * width))
        self.up_proj = nn.Linear(int(0.25 * width), width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.dropout(F.gelu(self.down_proj(x)), 0.1, self.training)
        return self.up_proj(hidden)


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)
        return self.c_proj(x * torch.sigmoid(1.702 * x))


class ResidualBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = Norm(width)
        self.mlp = Mlp(width)
        self.ln_2 = Norm(width)
        self.t_adapter_attn_b = Bottleneck(width)
        self.s_adapter_attn = Bottleneck(width)
        self.t_adapter_attn = Bottleneck(width)
        self.s_adapter_mlp = Bottleneck(width)
        self.t_adapter_mlp = Bottleneck(width)

    def attention(self, x: Tensor) -> Tensor:
        return self.attn(x, x, x, need_weights=False)[0]

    def forward(self, temporal: Tensor, spatial: Tensor) -> tuple[Tensor, Tensor]:
        """Both (tokens, pictures, width)."""
        inner = self.attention(self.t_adapter_attn_b(self.ln_1(temporal)))
        temporal = self.t_adapter_attn(inner) + temporal
        temporal = self.t_adapter_mlp(self.mlp(self.ln_2(temporal))) + temporal
        normed = self.ln_1(spatial)
        spatial = self.attention(normed) + self.s_adapter_attn(normed) + spatial
        normed = self.ln_2(spatial)
        spatial = self.mlp(normed) + self.s_adapter_mlp(normed) + spatial
        return temporal, spatial


class Head(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(2 * features, features)
        self.linear2 = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(x)))


class Transformer(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(width, width // 64) for _ in range(depth))


class Visual(nn.Module):
    """`visual` of their checkpoints; whether tensors are antialiased was their torchvision's choice."""

    antialias = True

    def __init__(self, *, size: int, patch: int, width: int, depth: int, features: int, classes: int) -> None:
        super().__init__()
        tokens = (size // patch) ** 2 + 1
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(tokens, width))
        self.spatial_positional_embedding = nn.Parameter(torch.randn(tokens, width))
        self.ln_pre = Norm(width)
        self.transformer = Transformer(width, depth)
        self.ln_post = Norm(width)
        self.proj = nn.Parameter(torch.randn(width, features))
        self.head = Head(features, classes)

    def times(self, framesets: int) -> Tensor:
        """(framesets, tokens, width): sines and cosines of each token's time, [CLS] at 0."""
        width = self.conv1.out_channels
        side = math.isqrt(len(self.positional_embedding) - 1)
        maps = torch.zeros(framesets, 16, 16)
        for frame in range(16 * framesets):
            row, column = divmod(frame % 16, 4)
            maps[frame // 16, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = frame + 1
        resized = F.interpolate(maps[None], size=(side, side), mode="bilinear", antialias=self.antialias)[0]
        code = torch.zeros(framesets, side * side + 1, width)
        for g in range(framesets):
            for token, time in enumerate([0.0, *resized[g].flatten().tolist()]):
                for channel in range(width):
                    angle = time / 10000 ** (2 * (channel // 2) / width)
                    code[g, token, channel] = math.cos(angle) if channel % 2 else math.sin(angle)
        return code

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 (1, T, 3, size, size) to logits (1, classes), one clip at a time."""
        assert len(frames) == 1
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        pictures = (frames[0] / 255 - mean) / std
        size = pictures.shape[-1]
        framesets = len(pictures) // 16
        grids = pictures.reshape(framesets, 4, 4, 3, size, size).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 4 * size, 4 * size)
        grids = F.interpolate(grids, size=(size, size), mode="bilinear", antialias=self.antialias)
        sparse = pictures[:: len(pictures) // 8]
        temporal, spatial = (self.conv1(x).flatten(2).transpose(1, 2) for x in (grids, sparse))
        temporal, spatial = (torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) for x in (temporal, spatial))
        temporal = temporal + self.times(framesets) + self.spatial_positional_embedding
        spatial = spatial + self.positional_embedding
        temporal, spatial = (self.ln_pre(x).transpose(0, 1) for x in (temporal, spatial))
        for block in self.transformer.resblocks:
            temporal, spatial = block(temporal, spatial)
        features = [(self.ln_post(x[0]) @ self.proj).mean(dim=0) for x in (temporal, spatial)]
        return self.head(torch.cat(features)[None])
