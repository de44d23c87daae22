"""AdaptFormer: a scaled bottleneck beside each MLP (Chen, Ge, Tong and others, NeurIPS 2022, arXiv 2205.13535).

    x --LN1--MHA*--(+)--x'--LN2--MLP*--(+)-->    * frozen      x_out = x' + MLP(LN2 x') + s W_up ReLU(W_down x')
                        +---s adapter---^

The paper's equation, as later works cite it, has the adapter of LN x'; the released code (ShoufaChen/AdaptFormer,
layernorm option "none") gives it x' itself, and so does this file by default. There the classifier stands behind a batch
norm without weights; here, as in the other methods that look at each frame, it takes the mean feature as it is. It has
1.19 M weights on ViT-B/16, without the classifier.

    n frames of all clips   l tokens   m those that are read on   d width
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.errors import DualPathError
from dualpath.methods.base import FrameModel, FrameModelConfig
from dualpath.nn.adapters import Adapter
from dualpath.nn.backbone import Backbone
from dualpath.nn.layer import Layer
from dualpath.settings import WIDEST, check_fields

Source = Literal["residual", "normed"]


@dataclass(frozen=True)
class AdaptFormerConfig(FrameModelConfig):
    """The choices of the method; the defaults are those of the released code.

    Attributes:
        bottleneck: width of the adapters.
        scale: s, what the adapters' results are multiplied by.
        adapter_input: residual gives an adapter the MLP's input before the norm (the released code), normed behind it
            (the paper's equation).
    """

    bottleneck: int = 64
    scale: float = 0.1
    adapter_input: Source = "residual"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, bottleneck=WIDEST)
        if self.bottleneck < 1:
            raise DualPathError(f"bottleneck {self.bottleneck} must be at least 1: it is the width of the adapters")
        if self.scale <= 0:
            raise DualPathError(f"scale {self.scale} must be a number above 0, or the adapters would add nothing")


def adaptformer_step(
    layer: Layer, adapter: Adapter, tokens: Float[Tensor, "n l d"], *, scale: float, adapter_input: Source
) -> Float[Tensor, "n m d"]:
    """One frozen block with a scaled adapter beside its MLP."""
    tokens = layer.keep_read(tokens) + layer.attend_read(layer.norm1(tokens))
    normed = layer.norm2(tokens)
    adapted = adapter(tokens if adapter_input == "residual" else normed)
    return tokens + layer.transform(normed) + scale * adapted


class AdaptFormer(FrameModel):
    """Looks at each frame; only `adapters` and `head` are trained."""

    config: AdaptFormerConfig

    def __init__(self, backbone: Backbone, *, num_classes: int, config: AdaptFormerConfig | None = None) -> None:
        config = config or AdaptFormerConfig()
        super().__init__(backbone, num_classes=num_classes, config=config)
        self.adapters = nn.ModuleList(Adapter(width, config.bottleneck, activation=F.relu) for width in backbone.widths)

    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """See FrameModel."""
        del num_frames
        step = partial(adaptformer_step, scale=self.config.scale, adapter_input=self.config.adapter_input)
        return self.backbone.walk(self.backbone.embed(pictures), step, self.adapters)
