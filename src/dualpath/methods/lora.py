"""LoRA: low-rank matrices beside frozen ones (Hu et al., arXiv 2106.09685), put in place by PEFT.

    x --W*--------------(+)-->       * frozen       A Kaiming-uniform, B zero, so a fresh model is the backbone itself
     +--A (r)--B--alpha/r--^

The paper adapts the matrices of queries and values. timm keeps those of queries, keys and values in one matrix, `qkv`,
which PEFT cannot split, so that is the default here and the keys are adapted too: A is shared by the three. Its size is
that of separate A and B for queries and values: on ViT-B/16 with rank 8, 12 x 8 x (768 + 2304) = 294,912. Where a backbone
keeps them apart (some of Eva), each has its own A and B.

There is no dropout: the backbone stays in evaluation mode, and PEFT's layers stand in it. They compute in fp32.

    n pictures   l tokens   d width
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.methods.base import FrameModel, FrameModelConfig
from dualpath.nn.backbone import Backbone, plain_step
from dualpath.settings import WIDEST, check_fields

_WHERE = {
    "qkv": r"blocks\.\d+\.attn\.(qkv|q_proj|k_proj|v_proj)$",
    "attention": r"blocks\.\d+\.attn\.",
    "all": r"blocks\.\d+\.",
}


@dataclass(frozen=True)
class LoRAConfig(FrameModelConfig):
    """The choices of the method.

    Attributes:
        rank: r, the inner width.
        alpha: what is added is scaled by alpha / r.
        targets: which linear layers of each block: qkv (queries, keys, values), attention (the projection behind it too)
            or all (the MLP too).
    """

    rank: int = 8
    alpha: int = 16
    targets: Literal["qkv", "attention", "all"] = "qkv"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, rank=WIDEST)
        if self.rank < 1 or self.alpha < 1:
            raise DualPathError(f"rank {self.rank} and alpha {self.alpha} must be at least 1")


class LoRA(FrameModel):
    """Frozen backbone with low-rank matrices inside, mean over frames, one linear layer."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: LoRAConfig | None = None) -> None:
        config = config or LoRAConfig()
        super().__init__(backbone, num_classes=num_classes, config=config)
        _inject(backbone, config)

    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """See FrameModel."""
        del num_frames
        return self.backbone.walk(self.backbone.embed(pictures), plain_step)


def _inject(backbone: Backbone, config: LoRAConfig) -> None:
    try:
        import peft
    except ImportError as problem:
        raise DualPathError("lora needs the package peft, which is missing; pip install 'dualpath[lora]'") from problem
    if any(".lora_" in name for name, _ in backbone.vit.named_parameters()):
        raise DualPathError(f"this {backbone.name} holds the matrices of another lora model; load a backbone for each model")
    names = [
        name
        for name, module in backbone.vit.named_modules()
        if isinstance(module, nn.Linear) and re.search(_WHERE[config.targets], name)
    ]
    for module in backbone.vit.modules():
        if hasattr(module, "qkv_bias_separate"):
            # Else timm's Eva multiplies by the matrix inside the layer that PEFT puts in its place, past A and B.
            module.qkv_bias_separate = True
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names, bias="none")
    peft.inject_adapter_in_model(settings, backbone.vit)
    backbone.forget_frozen()
    for name, value in backbone.vit.named_parameters():
        if value.requires_grad:
            value.data = value.data.float()  # PEFT makes them in the dtype of the frozen weights
        assert value.requires_grad == (".lora_" in name)
    backbone.eval()
