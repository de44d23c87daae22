"""Attentive probe: a learned query looks at all tokens of all frames of a frozen backbone (V-JEPA, arXiv 2404.08471).

    frames --backbone*, norm*--> tokens (t x l) --[V-JEPA 2: three blocks]--LN--k, v--+             * frozen
    query ---+------------------------------------------------------------------q--MHA--(+)--LN--MLP--(+)--linear--> logits
             +------------------------------------------------------------------------- ^

As facebookresearch/jepa and facebookresearch/vjepa2 have it (src/models/attentive_pooler.py, src/models/utils/modules.py):
the query itself is not normed, the heads are as many as the backbone's, the MLP is four times as wide, with GELU. V-JEPA
projects what the cross-attention gives; V-JEPA 2 (arXiv 2506.09985) does not, and lets the tokens pass three blocks of
self-attention first. On ViT-B/16, without the classifier, that is 7,088,640 and 27,761,664 trained parameters.

    b clips   t frames   l tokens of a frame   s = t l   d width   k classes
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.methods.base import FrameConfig, check_clips
from dualpath.nn.backbone import Backbone
from dualpath.nn.layer import Layer
from dualpath.nn.trained import Linear, Norm
from dualpath.settings import check_fields


@dataclass(frozen=True)
class AttentiveProbeConfig(FrameConfig):
    """The choices of the method.

    Attributes:
        num_blocks: 1 is V-JEPA's probe, cross-attention alone; 4 is V-JEPA 2's, with three blocks of self-attention first.
        time_encoding: adds a fixed sine code of its frame's number to every token (not in the published evaluations).
            V-JEPA's backbone mixes frames itself. One that looks at each frame alone leaves nothing that tells their
            order, and attention is blind to it, so this probe then scores a clip and its reverse alike. V-JEPA's own
            evaluation of image models is blind in this way: its FrameAggregation (evals/video_classification_frozen)
            can add such a code but is not told to. Turn it on where the probe should not lose for want of the time.
    """

    num_blocks: Literal[1, 4] = 1
    time_encoding: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


def whole_step(layer: Layer, part: None, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
    """What a layer does in the frozen backbone, but with all tokens behind the last one too."""
    del part
    tokens = tokens + layer.attend(layer.norm1(tokens))
    return tokens + layer.transform(layer.norm2(tokens))


class AttentiveProbe(nn.Module):
    """Frozen backbone, attentive pooling over the tokens of all frames, one linear layer."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: AttentiveProbeConfig | None = None) -> None:
        super().__init__()
        self.config = config or AttentiveProbeConfig()
        self.backbone = backbone
        *_, last = backbone.layers()
        heads = math.gcd(last.block.attn.num_heads, backbone.final_width)
        self.pooler = AttentivePooler(backbone.final_width, heads, num_blocks=self.config.num_blocks)
        self.head = nn.Linear(backbone.final_width, num_classes)

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit."""
        self.config.check_clip(num_frames)

    def forward(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        """Clips, as decoded (RGB, 0..255, square, of the backbone's size), to logits.

        Raises:
            DualPathError: there is no frame, or the frames have another size.
        """
        check_clips(frames, self)
        return self.head(self.pooler(self.look(frames)).to(self.head.weight.dtype))

    @torch.no_grad()
    def look(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b s d"]:
        """The normed tokens of all frames, in order, as the pooling gets them."""
        backbone = self.backbone
        tokens = backbone.embed(backbone.normalise(frames.flatten(0, 1)))
        tokens = backbone.finish(backbone.walk(tokens, whole_step)).unflatten(0, frames.shape[:2])
        if self.config.time_encoding:
            times = encode_times(tokens.shape[1], tokens.shape[-1]).to(tokens)
            tokens = tokens + times[:, None]
        return tokens.flatten(1, 2)


class AttentivePooler(nn.Module):
    """A learned query's cross-attention to tokens, behind `num_blocks` - 1 blocks of self-attention.

    Matrices and the query are drawn from a normal distribution of deviation 0.02; biases are zero. Matrices whose results
    are added to the tokens are divided by sqrt(2 i) in block i = 1, 2 ..., and those of the cross-attention as in the block
    before it.

    Args:
        width: d.
        heads: of each attention.
        num_blocks: 1 with a projection behind the cross-attention, 4 without one: as published.
    """

    def __init__(self, width: int, heads: int, *, num_blocks: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(SelfBlock(width, heads) for _ in range(num_blocks - 1))
        self.cross = CrossBlock(width, heads, project=num_blocks == 1)
        nn.init.trunc_normal_(self.query, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        blocks: list[SelfBlock | CrossBlock] = [*self.blocks, self.cross]  # pyright: ignore[reportAssignmentType]
        with torch.no_grad():
            for number, block in enumerate(blocks, start=1):
                for matrix in block.writes():
                    matrix.weight.div_(math.sqrt(2 * min(number, max(1, len(self.blocks)))))

    def forward(self, tokens: Float[Tensor, "b s d"]) -> Float[Tensor, "b d"]:
        """All tokens of a clip to one vector."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.cross(self.query.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens)[:, 0]


class SelfBlock(nn.Module):
    """x + MHA(LN x), then x + MLP(LN x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.qkv, self.proj, self.mlp = Linear(width, 3 * width), Linear(width, width), Mlp(width)

    def writes(self) -> list[Linear]:
        """The layers whose results are added to the tokens."""
        return [self.proj, self.mlp.out]

    def forward(self, x: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """Tokens to tokens."""
        x = x + self.proj(_attend(*self.qkv(self.norm1(x)).chunk(3, dim=-1), heads=self.heads))
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """q + MHA(q, LN x), then q + MLP(LN q)."""

    def __init__(self, width: int, heads: int, *, project: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.q, self.kv, self.mlp = Linear(width, width), Linear(width, 2 * width), Mlp(width)
        self.proj = Linear(width, width) if project else None

    def writes(self) -> list[Linear]:
        """The layers whose results are added to the query."""
        return [self.mlp.out] if self.proj is None else [self.proj, self.mlp.out]

    def forward(self, query: Float[Tensor, "b m d"], x: Float[Tensor, "b s d"]) -> Float[Tensor, "b m d"]:
        """Queries and the tokens they look at to what the queries found."""
        found = _attend(self.q(query), *self.kv(self.norm1(x)).chunk(2, dim=-1), heads=self.heads)
        query = query + (found if self.proj is None else self.proj(found))
        return query + self.mlp(self.norm2(query))


class Mlp(nn.Module):
    """Linear - GELU - Linear, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.out = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """Each token alone."""
        return self.out(F.gelu(self.hidden(x)))


def _attend(
    q: Float[Tensor, "b m d"], k: Float[Tensor, "b s d"], v: Float[Tensor, "b s d"], *, heads: int
) -> Float[Tensor, "b m d"]:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def encode_times(num_frames: int, width: int) -> Float[Tensor, "t d"]:
    """Frame numbers 0, 1 ... as d/2 sines and then d/2 cosines, with angular frequencies 10000^(-2i/d)."""
    frequency = 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(num_frames, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width].float()
