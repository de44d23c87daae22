"""AIM: the frozen attention is used again, along time (Yang, Zhu, Xie, Zhang, Chen, Li, ICLR 2023, arXiv 2302.03024).

    time    x = x + A_T(MHA*(LN1 x)), along the frames, for each token place      * frozen, the same weights in both
    space   x = x + z + A_S(z), z = MHA*(LN1 x), within each frame                A = W_up GELU(W_down .), up from zero
    joint   x = x + MLP*(LN2 x) + s A_M(LN2 x)

The released code is followed: a row of a table of times is added to all tokens of a frame where the positions are added,
the last norm is trained too (where it stands behind the last block, not behind a pooling), and half of the features is
dropped before the classifier. Its training also leaves out the branches of A_T and A_M at random (stochastic depth 0.2),
which we do not do. Its W_down start from a normal of deviation 0.02, ours uniformly with 1 / sqrt(3 d): 0.0208 on ViT-B.

The table has a row for each frame that a clip may have, and a clip takes the first ones: so the number of frames keeps
its one home, the clip, and a table larger than the clips adds nothing but rows that stay zero. The published sizes have
max_frames at the clips' own number: 10.97 M on ViT-B/16 with 8 frames and 400 classes. What the paper gives as 606 GFLOPs
(8 frames, 3 views) counts a multiply-add once: 202.1 G a view, of which we spare 10.6 in and behind the last attention.

    n frames of all clips   t frames   l tokens   m those that are read on   d width   f features
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from dualpath.errors import DualPathError, number_of
from dualpath.methods.base import FrameModel, FrameModelConfig
from dualpath.nn.adapters import Adapter
from dualpath.nn.backbone import Backbone
from dualpath.nn.layer import Layer
from dualpath.settings import MOST_FRAMES, check_fields


@dataclass(frozen=True)
class AimConfig(FrameModelConfig):
    """The choices of the method; the defaults are those of the paper for Kinetics-400.

    Attributes:
        ratio: width of the adapters as a share of their block's.
        scale: s, what the MLP's adapter is multiplied by.
        before: an adapter with a skip before the temporal attention too, as for Something-Something (there with scale 1).
        max_frames: rows of the table of times; clips may have up to so many frames.
        head_dropout: share of the features that is dropped before the classifier in training.
    """

    ratio: float = 0.25
    scale: float = 0.5
    before: bool = False
    max_frames: int = 32
    head_dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, max_frames=MOST_FRAMES)
        if not 0 < self.ratio <= 1:
            raise DualPathError(f"ratio {self.ratio} must be above 0 and at most 1: a share of the backbone's width")
        if self.scale <= 0:
            raise DualPathError(f"scale {self.scale} must be a number above 0, or the MLP's adapter would add nothing")
        if self.max_frames < 1:
            raise DualPathError(f"max_frames {self.max_frames} must be at least 1: the frames that a clip may have")
        if not 0 <= self.head_dropout < 1:
            raise DualPathError(f"head_dropout {self.head_dropout} must be at least 0 and below 1")

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips have no frames or more than the table of times has rows."""
        super().check_clip(num_frames)
        if num_frames > self.max_frames:
            raise DualPathError(
                f"a clip has {num_frames} frames, but the table of times has {number_of(self.max_frames, 'row')}; "
                "raise max_frames before training or lower num_frames"
            )


class AimAdapters(nn.Module):
    """The adapters of one block."""

    def __init__(self, width: int, bottleneck: int, *, before: bool) -> None:
        super().__init__()
        self.before = Adapter(width, bottleneck) if before else None
        self.time = Adapter(width, bottleneck)
        self.space = Adapter(width, bottleneck)
        self.mlp = Adapter(width, bottleneck)


def across_time(frames: Float[Tensor, "n l d"], num_frames: int) -> Float[Tensor, "k t d"]:
    """Tokens of each frame to one sequence along time for each place of each clip."""
    return frames.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(0, 1)


def across_space(sequences: Float[Tensor, "k t d"], num_tokens: int) -> Float[Tensor, "n l d"]:
    """Back again."""
    return sequences.unflatten(0, (-1, num_tokens)).transpose(1, 2).flatten(0, 1)


def aim_step(
    layer: Layer, adapters: AimAdapters, tokens: Float[Tensor, "n l d"], *, num_frames: int, scale: float
) -> Float[Tensor, "n m d"]:
    """One frozen block, adapted in time, in space and jointly.

    Behind its last attention only what is read goes on: adapters and MLP see each token alone, so this changes nothing
    but saves work.
    """
    moments = layer.norm1(across_time(tokens, num_frames))
    if adapters.before is not None:
        moments = moments + adapters.before(moments)
    tokens = tokens + across_space(adapters.time(layer.mix(moments)), tokens.shape[1])
    attended = layer.attend_read(layer.norm1(tokens))
    tokens = layer.keep_read(tokens) + attended + adapters.space(attended)
    normed = layer.norm2(tokens)
    return tokens + layer.transform(normed) + scale * adapters.mlp(normed)


class Aim(FrameModel):
    """Looks at the frames of a clip together; `adapters`, `times`, `norm` (a copy of the last one) and `head` are trained."""

    config: AimConfig

    def __init__(self, backbone: Backbone, *, num_classes: int, config: AimConfig | None = None) -> None:
        config = config or AimConfig()
        super().__init__(backbone, num_classes=num_classes, config=config)
        self.adapters = nn.ModuleList(
            AimAdapters(width, max(1, int(width * config.ratio)), before=config.before) for width in backbone.widths
        )
        self.times = nn.Parameter(torch.zeros(config.max_frames, backbone.width))
        self.norm = copy.deepcopy(backbone.last_norm).float().requires_grad_(True)

    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """See FrameModel."""
        tokens = self.backbone.embed(pictures, times=self.times[:num_frames])
        return self.backbone.walk(tokens, partial(aim_step, num_frames=num_frames, scale=self.config.scale), self.adapters)

    def read(self, tokens: Float[Tensor, "n m d"]) -> Float[Tensor, "n f"]:
        """See FrameModel; with the trained norm, computed in the dtype of the tokens."""
        return self.backbone.read(tokens, project=self.config.segments > 1, norm=self._norm)

    def _norm(self, tokens: Tensor) -> Tensor:
        weights = {name: value.to(tokens.dtype) for name, value in self.norm.named_parameters()}
        return functional_call(self.norm, weights, (tokens,))

    @property
    def head_dropout(self) -> float:
        """See FrameModel."""
        return self.config.head_dropout
