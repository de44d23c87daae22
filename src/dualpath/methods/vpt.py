"""Visual prompt tuning: learned tokens stand beside the patches of every frame (Jia et al., ECCV 2022, arXiv 2203.12119).

    shallow    [CLS] P1 patches --L1*-- [CLS] .. patches --L2*-- [CLS] .. patches --> ...      * frozen
    deep       [CLS] P1 patches --L1*-- [CLS] P2 patches --L2*-- [CLS] P3 patches --> ...      P the prompts

Prompts stand behind the tokens that the backbone puts before the patches. They enter where its first layer begins: in CLIP
behind the norm before it. In deep, each layer gets its own, and what the layer before made of its prompts is dropped
(equations 4 to 8). Behind the last attention they are dropped too: nothing reads them.

Prompts are drawn evenly from +-sqrt(6 / (3 p^2 + d)) for patches of p pixels, as in the authors' code (KMnP/vpt,
src/models/vit_prompt/vit.py). Trained size without the classifier: prompts x d, in deep prompts x d x layers: 73,728 for 8
in ViT-B/16. The paper chooses among 1 to 200 prompts for each task, so its sizes differ from task to task.

    n pictures   l tokens   d width   q prompts
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.methods.base import FrameModel, FrameModelConfig
from dualpath.nn.backbone import Backbone
from dualpath.nn.families import SwinBackbone
from dualpath.nn.layer import Layer
from dualpath.settings import WIDEST, check_fields


@dataclass(frozen=True)
class VPTConfig(FrameModelConfig):
    """The choices of the method.

    Attributes:
        depth: shallow gives prompts to the first layer alone, deep gives each layer its own.
        num_prompts: how many each of these layers gets; the paper searches from 1 to 200, the authors of DualPath took 8.
    """

    depth: Literal["shallow", "deep"] = "deep"
    num_prompts: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, num_prompts=WIDEST)
        if self.num_prompts < 1:
            raise DualPathError(f"num_prompts {self.num_prompts} must be at least 1")


def prompted_step(
    layer: Layer, prompts: Float[Tensor, "q d"] | None, tokens: Float[Tensor, "n l d"], *, count: int
) -> Float[Tensor, "n m d"]:
    """A frozen layer on tokens that hold `count` prompts before the patches, with new prompts in their place if given."""
    if prompts is not None:
        tokens = _place(tokens, prompts, at=layer.prefix - count, instead_of=count)
    tokens = layer.keep_read(tokens) + layer.attend_read(layer.norm1(tokens))
    if layer.last:  # nothing reads the prompts; behind [CLS] alone there are none
        tokens = torch.cat([tokens[:, : layer.prefix - count], tokens[:, layer.prefix :]], dim=1)
    return tokens + layer.transform(layer.norm2(tokens))


def _place(
    tokens: Float[Tensor, "n l d"], prompts: Float[Tensor, "q d"], *, at: int, instead_of: int
) -> Float[Tensor, "n m d"]:
    """The tokens with the prompts in the place of `instead_of` tokens from `at` on."""
    new = prompts.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
    return torch.cat([tokens[:, :at], new, tokens[:, at + instead_of :]], dim=1)


class VPT(FrameModel):
    """Frozen backbone with prompts among its tokens, mean over frames, one linear layer."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: VPTConfig | None = None) -> None:
        config = config or VPTConfig()
        if isinstance(backbone, SwinBackbone):
            raise DualPathError(
                f"vpt puts prompts into the sequence that all patches attend to, but in {backbone.name} they attend within "
                "windows, which have no place for prompts common to all; choose a backbone of plain vision transformer blocks"
            )
        super().__init__(backbone, num_classes=num_classes, config=config)
        self.num_prompts = config.num_prompts
        reach = math.sqrt(6 / (3 * backbone.patch**2 + backbone.width))
        self.prompts = nn.Parameter(
            torch.empty(backbone.depth if config.depth == "deep" else 1, config.num_prompts, backbone.width)
        )
        nn.init.uniform_(self.prompts, -reach, reach)

    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """See FrameModel."""
        del num_frames
        backbone, (first, *others) = self.backbone, self.prompts
        tokens = _place(backbone.embed(pictures), first, at=backbone.prefix, instead_of=0)
        parts: Sequence[Tensor | None] = [None, *(others or [None] * (backbone.depth - 1))]
        return backbone.walk(tokens, partial(prompted_step, count=self.num_prompts), parts, extra=self.num_prompts)
